"""The command ``cxr``: look at the runs in MLflow, and send to MLflow the runs that it lacks.

cxr ui      start the MLflow UI and say where the tables of models are
cxr sync    log the runs that MLflow lacks, from the outputs that lie here
"""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from mlflow.exceptions import MlflowException

from cxr import models, params
from cxr.errors import InputError, reported
from cxr.tracking import client as tracking

RAW, SPLITS, TENSORS = Path("raw"), Path("splits"), Path("tensors")
WEIGHTS, MODELS, EVALUATIONS = Path("weights"), Path("models"), Path("evaluations")
REPORTS = Path("reports")

log = logging.getLogger(__name__)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        "cxr", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync", help="log the runs that MLflow lacks")
    shown = commands.add_parser("ui", help="start the MLflow UI")
    shown.add_argument("--port", type=int, default=5000, help="of the UI; 5000 by default")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with reported():
        if given.command == "ui":
            ui(given.port)
        else:
            sync(params.load())


def sync(settings: params.Params) -> None:
    """Log the runs that MLflow lacks."""
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
                    judged, record, [images, trained / "model.weights.h5"], settings
                )
    if (REPORTS / "comparison.csv").is_file():
        yield tracking.comparison(REPORTS, settings, RAW)


def ui(port: int) -> None:
    """Start the MLflow UI."""
    served = tracking.uri().startswith("http")
    root = tracking.uri().rstrip("/") if served else f"http://127.0.0.1:{port}"
    try:
        pages = tracking.pages()
    except MlflowException as error:
        message = f"MLflow at {tracking.uri()} does not answer: {error}"
        raise InputError(message) from error
    for experiment, page in pages.items():
        log.info("%-20s %s/%s", experiment, root, page)
    if not pages:
        log.info("no runs yet: `dvc repro` or `make demo` makes some; the UI is at %s", root)
    if not served:
        log.info("starting; Ctrl-C ends it")
        store = ["--backend-store-uri", tracking.uri()]
        where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        os.execvp("mlflow", ["mlflow", "server", *where, *store])


if __name__ == "__main__":
    main()
