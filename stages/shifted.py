"""Put validation images under simulated shifts: tensors/<size>/ -> shifted/<system>/.

Only for a system of which a phase has restore: shifted_loss. Its training depends on the images and
not on the code that shifts them.
"""

import logging

from cxr import params
from cxr.data import cache
from cxr.shifts import images, sets
from cxr.tracking import provenance
from cxr.training import shifted_files
from stages import SHIFTED, TENSORS, add_system, finish, parser, run

log = logging.getLogger(__name__)


def work(settings: params.Params, system: str) -> None:
    chosen, folder = settings.system(system), SHIFTED / system
    tensors, target = TENSORS / str(chosen.image_size), folder / shifted_files.FOLDER
    used = provenance.chosen(settings, "seed", "shift.images", f"systems.{system}.phases")
    inputs = [tensors / "images.npy", tensors / "index.csv"]
    started = provenance.start("shifted", settings, used, inputs, system)
    if not shifted_files.wanted(chosen):
        log.info("no phase of %s has restore: %s", system, shifted_files.LOSS)
        shifted_files.write_none(target)
        provenance.finish(started, folder)
        return  # there is nothing to log, and MLflow takes seconds to import
    cached, index = cache.open_cache(tensors)
    tasks = sets.shifted_validation(index, settings.shift.images, settings.seed)
    images.write(cached, tasks, settings.seed, target)
    finish(started, folder)


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    run(work, arguments)
