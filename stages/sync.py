"""Send to MLflow what it lacks of the outputs that lie here; not a stage: `make sync`.

For a database that was deleted, a server that was down, a stage that DVC took from its cache.
"""

import logging
from collections.abc import Iterator
from functools import partial

from mlflow.exceptions import MlflowException

from cxr import models, params, tracking
from cxr.errors import InputError
from stages import EVALUATIONS, MODELS, RAW, REPORTS, SPLITS, TENSORS, WEIGHTS, parser, run

log = logging.getLogger(__name__)


def work(settings: params.Params) -> None:
    records = list(_records(settings))
    if not records:
        message = "there are no outputs here to send: run `dvc repro`, or `dvc pull`, first"
        raise InputError(message)
    try:
        missing = tracking.write_missing(settings.tracking, records)
    except MlflowException as error:
        message = f"MLflow at {tracking.uri()} does not answer: {error}"
        raise InputError(message) from error
    log.info(
        "%d of %d runs were missing at %s; all are there now", missing, len(records), tracking.uri()
    )


def _records(settings: params.Params) -> Iterator[tracking.Record]:
    """Describe every stage whose outputs are here, in the order of the pipeline."""
    if not (RAW / "source.json").is_file():
        return
    yield tracking.download(RAW, settings)
    if (SPLITS / "summary.json").is_file():
        yield tracking.split(SPLITS, settings, RAW)
    for size in sorted({system.image_size for system in settings.systems.values()}):
        if (TENSORS / str(size) / "index.csv").is_file():
            yield tracking.preprocess(TENSORS / str(size), settings, RAW, SPLITS)
    for name, system in settings.systems.items():
        images = TENSORS / str(system.image_size) / "images.npy"
        weights, trained, judged = WEIGHTS / name, MODELS / name, EVALUATIONS / name
        if system.weights is not None and (weights / "weights.json").is_file():
            yield tracking.weights(weights)
        if (trained / "train.json").is_file():
            model = partial(models.load, trained)
            record = tracking.training(trained, model, [images, weights], RAW)
            yield record
            if (judged / "metrics.json").is_file():
                yield tracking.evaluation(
                    judged, record, [images, trained / models.WEIGHTS], settings
                )
    if (REPORTS / "comparison.csv").is_file():
        yield tracking.comparison(REPORTS, settings, RAW)


if __name__ == "__main__":
    run(work, parser(__doc__))
