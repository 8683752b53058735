"""Judge a trained system on train, val and test: models/<system>/ -> evaluations/<system>/."""

import pandas as pd

from cxr import batches, evaluation, models, params, pictures, tracking
from stages import EVALUATIONS, MODELS, RAW, TENSORS, add_system, parser, run


def work(settings: params.Params, system: str) -> None:
    cache = TENSORS / str(settings.system(system).image_size)
    trained, folder = MODELS / system, EVALUATIONS / system
    images, index = batches.open_cache(cache)
    judged = evaluation.evaluate(
        models.load(trained), images, index, settings.evaluate.threshold, settings.seed
    )
    evaluation.write(judged, folder)
    history = pd.read_csv(trained / "history.csv")
    pictures.of_system(system, judged.metrics, history, folder)

    inputs = [cache / "images.npy", trained / models.WEIGHTS]
    model = tracking.training(trained, lambda: models.load(trained), inputs[:1], RAW)
    tracking.write(settings.tracking, tracking.evaluation(folder, model, inputs))


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    run(work, arguments)
