"""Judge a trained system on train, val and test: models/<system>/ -> evaluations/<system>/."""

from functools import partial

import pandas as pd

from cxr import batches, device, evaluation, models, params, pictures, tracking
from stages import EVALUATIONS, MODELS, RAW, TENSORS, add_system, parser, run


def work(settings: params.Params, system: str) -> None:
    cache = TENSORS / str(settings.system(system).image_size)
    trained, folder = MODELS / system, EVALUATIONS / system
    device.keep_memory(device.find())
    images, index = batches.open_cache(cache)
    history = pd.read_csv(trained / "history.csv")
    phases = models.phases(trained)
    model = models.load(trained, phases[0])
    judged = evaluation.evaluate(
        model, phases, partial(models.restore, model, trained), images, index,
        settings.perturbation, settings.evaluate.threshold, settings.seed,
    )  # fmt: skip
    evaluation.write(judged, folder)
    pictures.of_system(system, judged.metrics, history, folder)
    films = evaluation.samples(images, index, settings.perturbation, settings.seed)
    pictures.save(pictures.films(*films), folder / "perturbed.png")

    inputs = [cache / "images.npy", trained / models.WEIGHTS]
    training = tracking.training(trained, lambda: model, inputs[:1], RAW)
    tracking.write(settings.tracking, tracking.evaluation(folder, training, inputs, settings))


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    run(work, arguments)
