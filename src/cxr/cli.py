"""The command ``cxr``: MLflow's UI, and the runs that MLflow lacks."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from cxr.errors import InputError, reported
from cxr.tracking.provenance import NAME

# The folders of the stages, in the order of the pipeline: a training comes before its evaluation.
FOLDERS = ("raw", "splits", "tensors/*", "weights/*", "models/*", "evaluations/*", "reports")

UI = """\
Start the MLflow UI on this machine, and print the address of each experiment's table of models.
It shows mlflow.db at the repository's root. Where MLFLOW_TRACKING_URI names a server, which has a
UI of its own, the addresses there are printed and nothing is started.
"""
SYNC = """\
Log the runs that MLflow lacks, from the outputs here: after a lost database, an unreachable server,
or a `dvc pull` or `dvc repro` that restored a stage instead of running it. A run is made from the
provenance.json of its stage, so it says when, where and with which code the stage ran. Runs that
are complete are left as they are; runs that were sent in part are completed.

Run it from the repository's root. It writes to mlflow.db there, or to MLFLOW_TRACKING_URI.
"""

log = logging.getLogger(__name__)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser("cxr", description="Look at the pipeline's runs in MLflow.")
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser(
        "ui", help="start the MLflow UI", description=UI,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    shown.add_argument("--port", type=int, default=5000, help="port of the UI (default: 5000)")
    commands.add_parser(
        "sync", help="log the runs that MLflow lacks, from the outputs here", description=SYNC,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with reported():
        if given.command == "ui":
            ui(given.port)
        else:
            sync(Path())


def sync(root: Path) -> None:
    """Log the runs that MLflow lacks.

    Args:
        root: the folder that has ``raw/``, ``models/`` and the other outputs.

    Raises:
        InputError: there are no outputs, MLflow cannot be reached, or a run cannot be made.
    """
    folders = [
        path.parent for pattern in FOLDERS for path in sorted(root.glob(f"{pattern}/{NAME}"))
    ]
    if not folders:
        message = (
            f"no {NAME} in {', '.join(FOLDERS)}: run from the repository's root, after `dvc repro` "
            "or `dvc pull`"
        )
        raise InputError(message)
    from tqdm import tqdm

    from cxr.tracking import client, records  # here: MLflow takes seconds to import, --help none

    sent, loggable, problems = 0, 0, []
    for folder in tqdm(folders, unit="run", disable=None):
        try:
            record = records.of(folder)
            if record is not None:
                loggable += 1
                sent += client.send(record, _load)
        except InputError as error:
            problems.append(str(error))
        except client.FAILURES as error:
            message = f"MLflow at {client.uri()} does not answer: {error}"
            raise InputError(message) from error
    log.info(
        "%d of %d stages were missing in MLflow at %s and are there now",
        sent, loggable, client.uri(),
    )  # fmt: skip
    if problems:
        message = f"{len(problems)} cannot be sent: {'; '.join(problems)}"
        raise InputError(message)


def ui(port: int) -> None:
    """Start the MLflow UI, which replaces this process.

    Args:
        port: that the UI listens on.

    Raises:
        InputError: MLflow's database or server cannot be reached.
    """
    from cxr.tracking import client

    served = client.uri().startswith("http")
    root = client.uri().rstrip("/") if served else f"http://127.0.0.1:{port}"
    try:
        pages = client.pages()
    except client.FAILURES as error:
        message = f"MLflow at {client.uri()} does not answer: {error}"
        raise InputError(message) from error
    for experiment, page in pages.items():
        log.info("%-20s %s/%s", experiment, root, page)
    if not pages:
        log.info("no runs yet: `dvc repro` or `make demo` makes some; the UI is at %s", root)
    if not served:
        log.info("starting; Ctrl-C ends it")
        store = ["--backend-store-uri", client.uri()]
        where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        os.execvp("mlflow", ["mlflow", "server", *where, *store])


def _load(folder: Path) -> Any:
    """Load a trained model; Keras is imported for the first one."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on instruction sets
    from cxr import models

    return models.load(folder)


if __name__ == "__main__":
    main()
