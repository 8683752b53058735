"""Put a system's initial weights into weights/<system>/: ImageNet, a file, or random ones.

Besides download, this is the only stage that may need a network: training reads its output.
"""

import logging

from cxr import params
from cxr.models import origin
from cxr.tracking import provenance
from stages import WEIGHTS, add_system, finish, parser, run

log = logging.getLogger(__name__)


def work(settings: params.Params, system: str) -> None:
    chosen, folder = settings.system(system), WEIGHTS / system
    used = provenance.chosen(settings, f"systems.{system}.backbone", f"systems.{system}.weights")
    started = provenance.start("weights", settings, used, [], system)
    if chosen.weights is None:
        log.info("weights: null, so %s starts from random weights", chosen.backbone)
        origin.write(folder, chosen.backbone, None, None)
        provenance.finish(started, folder)
        return  # MLflow has nothing to hold; it takes seconds to import, as Keras does

    from cxr.models import weights

    weights.resolve(chosen, folder)
    finish(started, folder)


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    run(work, arguments)
