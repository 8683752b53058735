"""Train a system: tensors/<size>/, {weights,features,shifted}/<system>/ -> models/<system>/."""

import logging

import keras

from cxr import files, params
from cxr.data import cache
from cxr.errors import InputError
from cxr.models import freezing, origin, weights
from cxr.tracking import live, provenance
from cxr.training import checkpoint, device, feature_files, fingerprint, fit, shifted_files
from stages import (
    FEATURES,
    MODELS,
    SHIFTED,
    TENSORS,
    WEIGHTS,
    add_shared,
    add_system,
    finish,
    parser,
    run,
)

log = logging.getLogger(__name__)


def work(settings: params.Params, system: str, freeze_blocks: int | None, perturbed: bool) -> None:
    chosen = freezing.resolve(settings.system(system), freeze_blocks)
    if fit.perturbs(chosen) and not perturbed:
        message = (
            f"a phase of {system} trains on perturbed data, but --perturbed is missing: add "
            'args: "--perturbed" and also: perturbation to the system\'s line in dvc.yaml'
        )
        raise InputError(message)
    tensors, folder = TENSORS / str(chosen.image_size), MODELS / system
    keys = ["seed", "training.precision", "training.deterministic", "inference_batch_size"]
    keys += [f"systems.{system}"]
    keys += ["perturbation"] if perturbed else []
    used = provenance.chosen(settings, *keys)
    if freeze_blocks is not None:
        used["freeze_blocks"] = freeze_blocks
    frozen = FEATURES / system / feature_files.FOLDER
    inputs = [tensors / "images.npy", tensors / "index.csv", WEIGHTS / system / origin.FOLDER]
    inputs += [frozen]
    validation, shifted = SHIFTED / system / shifted_files.FOLDER, None
    if shifted_files.wanted(chosen):
        shifted = shifted_files.opened(validation)
        inputs += [validation]
    started = provenance.start("train", settings, used, inputs, system)
    keras.config.set_image_data_format("channels_last")  # whatever the user's keras.json says
    device.set_deterministic(settings.training)
    hardware = device.find()
    policy = device.policy(settings.training, hardware)
    log.info("training on %s (%s), %s", hardware.name, keras.backend.backend(), policy)
    device.keep_memory(hardware)
    images, index = cache.open_cache(tensors)
    initial = weights.initial(WEIGHTS / system)
    result = fingerprint.fingerprint(used, started.provenance["inputs"], policy)
    with checkpoint.opened(system, result, settings.training.checkpoint, files.root()) as kept:
        sittings = [*kept.sittings, provenance.sitting(started, hardware.name)]
        started = provenance.resumed(started, sittings, kept.seconds)
        kept.begin(sittings)
        with live.live(started) as progress:
            trained = fit.train(
                chosen, images, index, initial, policy, settings.perturbation,
                settings.inference_batch_size, settings.seed, progress.epoch, kept,
                feature_files.opened(frozen), shifted,
            )  # fmt: skip
            saved = fit.save(trained, folder, freeze_blocks)
        about = trained.training | {"backend": keras.backend.backend(), "sittings": sittings}
        finish(started, folder, lambda _: saved, device=hardware.name, training=about)
        kept.remove()


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    add_shared(arguments)
    run(work, arguments)
