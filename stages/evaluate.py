"""Evaluate a trained system on train, val and test: models/<system>/ -> evaluations/<system>/."""

from cxr import files, params
from cxr.data import cache
from cxr.evaluation import evaluation, explanations, inference, shift
from cxr.evaluation.samples import samples
from cxr.models import store
from cxr.report import figures, style
from cxr.tracking import provenance
from cxr.training import device
from stages import EVALUATIONS, MODELS, SHIFTS, TENSORS, add_system, finish, parser, run


def work(settings: params.Params, system: str) -> None:
    tensors = TENSORS / str(settings.system(system).image_size)
    trained, folder = MODELS / system, EVALUATIONS / system
    keys = ("seed", "perturbation", "training.deterministic", "inference_batch_size", "evaluate")
    used = provenance.chosen(settings, *keys)
    inputs = [tensors / "images.npy", tensors / "index.csv"]
    inputs += [trained / name for name in (store.ARCHITECTURE, store.WEIGHTS, store.PHASES)]
    inputs += [trained / "history.csv", SHIFTS / system / "predictions.csv"]
    started = provenance.start("evaluate", settings, used, inputs, system)
    device.set_deterministic(settings.training)
    hardware = device.find()
    device.keep_memory(hardware)
    images, index = cache.open_cache(tensors)
    history = files.read_csv(trained / "history.csv")
    predicted = inference.predict(
        trained, images, index, settings.perturbation, settings.inference_batch_size, settings.seed
    )
    shifted = files.read_csv(SHIFTS / system / "predictions.csv")
    result = evaluation.evaluate(predicted, shifted, settings.evaluate, settings.seed)
    table, result["shift"] = shift.evaluate(shifted, result["threshold"], settings.seed)
    result["explanations"] = explanations.write(
        store.load(trained), images, predicted.images, result["threshold"],
        settings.inference_batch_size, settings.seed, folder,
    )  # fmt: skip
    evaluation.write(predicted, result, folder)
    files.write_csv(folder / "shift.csv", table)
    figures.write(system, result, history, folder)
    clean, perturbed = samples(images, index, settings.perturbation, settings.seed)
    style.save(figures.samples(clean, perturbed), folder / "perturbed.png")
    finish(started, folder, store.load, device=hardware.name)


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    run(work, arguments)
