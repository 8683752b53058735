"""Compute frozen layers' output once: tensors/<size>/ and weights/<system>/ -> features/<system>/.

It serves the phases that begin with frozen layers at their initial weights. A system that starts
from random weights has none that are worth keeping.
"""

import logging
from pathlib import Path

from cxr import files, params
from cxr.data import cache
from cxr.models import origin
from cxr.tracking import provenance
from cxr.training import feature_files
from stages import FEATURES, TENSORS, WEIGHTS, add_shared, add_system, finish, parser, run

log = logging.getLogger(__name__)


def work(settings: params.Params, system: str, freeze_blocks: int | None, perturbed: bool) -> None:
    chosen, folder = settings.system(system), FEATURES / system
    tensors, initial = TENSORS / str(chosen.image_size), WEIGHTS / system
    own = f"systems.{system}"
    keys = ["seed", "training.precision", "training.deterministic", "inference_batch_size"]
    keys += [f"{own}.backbone", f"{own}.augmentation", f"{own}.head.pool", f"{own}.head.layers"]
    keys += [f"{own}.phases.{n}.{key}" for n in chosen.phases for key in ("data", "trainable")]
    keys += ["perturbation"] if perturbed else []
    used = provenance.chosen(settings, *keys)
    if freeze_blocks is not None:
        used["freeze_blocks"] = freeze_blocks
    inputs = [tensors / "images.npy", tensors / "index.csv", initial / origin.FOLDER]
    started = provenance.start("features", settings, used, inputs, system)
    sha256 = origin.read(initial)["sha256"]
    if sha256 is None:
        log.info("%s starts from random weights: it has no frozen features", system)
        feature_files.write_record(folder / feature_files.FOLDER, {}, {})
        provenance.finish(started, folder)
        return  # there is nothing to log, and MLflow and Keras take seconds to import

    import keras

    from cxr.models import freezing, weights
    from cxr.training import device, extraction

    keras.config.set_image_data_format("channels_last")  # whatever the user's keras.json says
    device.set_deterministic(settings.training)
    hardware = device.find()
    device.keep_memory(hardware)
    images, index = cache.open_cache(tensors)
    hashes = started.provenance["inputs"]
    extraction.extract(
        freezing.resolve(chosen, freeze_blocks), images, index,
        weights.read(initial / weights.FILE),
        extraction.Settings(
            settings.training, hardware, settings.perturbation, settings.inference_batch_size,
            settings.seed,
        ),
        {path.name: hashes[path.as_posix()] for path in inputs[:2]} | {"weights": sha256},
        folder / feature_files.FOLDER, list(dict.fromkeys((Path.cwd().resolve(), files.root()))),
    )  # fmt: skip
    finish(started, folder, device=hardware.name)


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    add_shared(arguments)
    run(work, arguments)
