"""Evaluate a trained system on train, val and test: models/<system>/ -> evaluations/<system>/."""

from cxr import files, params
from cxr.data import cache
from cxr.evaluation import evaluation, predictions
from cxr.evaluation.samples import samples
from cxr.models import store
from cxr.report import figures, style
from cxr.tracking import client as tracking
from cxr.training import device
from stages import EVALUATIONS, MODELS, RAW, TENSORS, add_system, parser, run


def work(settings: params.Params, system: str) -> None:
    tensors = TENSORS / str(settings.system(system).image_size)
    trained, folder = MODELS / system, EVALUATIONS / system
    device.keep_memory(device.find())
    images, index = cache.open_cache(tensors)
    history = files.read_csv(trained / "history.csv")
    predicted = predictions.predict(
        trained, images, index, settings.perturbation, settings.inference_batch_size, settings.seed
    )
    found = evaluation.evaluate(predicted, settings.evaluate.threshold, settings.seed)
    evaluation.write(predicted, found, folder)
    figures.write(system, found, history, folder)
    clean, perturbed = samples(images, index, settings.perturbation, settings.seed)
    style.save(figures.samples(clean, perturbed), folder / "perturbed.png")

    inputs = [tensors / "images.npy", trained / store.WEIGHTS]
    training = tracking.training(trained, lambda: store.load(trained), inputs[:1], RAW)
    tracking.write(settings.tracking, tracking.evaluation(folder, training, inputs, settings))


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    run(work, arguments)
