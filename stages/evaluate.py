"""Judge a trained system on train, val and test: models/<system>/ -> evaluations/<system>/."""

from functools import partial

import pandas as pd

from cxr import params
from cxr.data import cache
from cxr.evaluation import predict
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
    history = pd.read_csv(trained / "history.csv")
    phases = store.phases(trained)
    model = store.load(trained, phases[0])
    judged = predict.evaluate(
        model, phases, partial(store.restore, model, trained), images, index,
        settings.perturbation, settings.evaluate.threshold, settings.seed,
    )  # fmt: skip
    predict.write(judged, folder)
    figures.of_system(system, judged.metrics, history, folder)
    films = predict.samples(images, index, settings.perturbation, settings.seed)
    style.save(figures.films(*films), folder / "perturbed.png")

    inputs = [tensors / "images.npy", trained / store.WEIGHTS]
    training = tracking.training(trained, lambda: model, inputs[:1], RAW)
    tracking.write(settings.tracking, tracking.evaluation(folder, training, inputs, settings))


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    run(work, arguments)
