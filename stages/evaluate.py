"""Judge a trained system on train, val and test: models/<system>/ -> evaluations/<system>/."""

from functools import partial

import pandas as pd

from cxr import params
from cxr.data import cache
from cxr.evaluation import predict
from cxr.models import store
from cxr.report import figures, style
from cxr.tracking import provenance
from cxr.training import device
from stages import EVALUATIONS, MODELS, TENSORS, add_system, finish, parser, run


def work(settings: params.Params, system: str) -> None:
    tensors = TENSORS / str(settings.system(system).image_size)
    trained, folder = MODELS / system, EVALUATIONS / system
    used = provenance.chosen(settings, "seed", "perturbation", "evaluate")
    inputs = [tensors / "images.npy", tensors / "index.csv"]
    inputs += [trained / name for name in (store.ARCHITECTURE, store.WEIGHTS, store.PHASES)]
    inputs += [trained / "history.csv"]
    started = provenance.start("evaluate", settings, used, inputs, system)
    found = device.find()
    device.keep_memory(found)
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
    finish(started, folder, store.load, device=found.name)


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    run(work, arguments)
