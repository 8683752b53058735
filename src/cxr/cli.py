"""The command ``cxr``: start the MLflow UI, and log the runs that MLflow lacks."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from cxr import urls
from cxr.errors import InputError, reported
from cxr.tracking.provenance import NAME

# The stages' output folders in pipeline order, so that training is logged before its evaluation.
FOLDERS = ("raw", "splits", "tensors/*", "weights/*", "models/*", "evaluations/*", "reports")

UI = """\
Start the MLflow UI on this machine, and print the address of each experiment's table of models.
The UI shows mlflow.db at the repository's root. If MLFLOW_TRACKING_URI names a server, the command
only prints the addresses there, because the server has its own UI.
"""
SYNC = """\
Log the runs that MLflow lacks, from the outputs in this repository. Use it after the database was
lost, the server was down, or `dvc pull` or `dvc repro` restored a stage instead of running it. Each
run is built from its stage's provenance.json, so it shows when, where and with which code the stage
ran. Complete runs do not change; incomplete runs are completed.

Run it from the repository's root. It writes to mlflow.db there, or to MLFLOW_TRACKING_URI.
"""

CHECK = """\
Read every file in DVC's cache and every output in this repository, and name each that is not what
DVC wrote: a bad disk, an edit in place. It says which outputs they belong to and what to do.

Run it from the repository's root. It reads everything and changes nothing.
"""

log = logging.getLogger(__name__)


def main() -> None:
    """Parse the arguments and run the subcommand."""
    parser = argparse.ArgumentParser("cxr", description="Show and log the pipeline's MLflow runs.")
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser(
        "ui", help="start the MLflow UI", description=UI,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    shown.add_argument("--port", type=int, default=5000, help="port of the UI (default: 5000)")
    commands.add_parser(
        "sync", help="log the runs that MLflow lacks", description=SYNC,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands.add_parser(
        "check", help="verify DVC's cache and the outputs", description=CHECK,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with reported():
        if given.command == "ui":
            ui(given.port)
        elif given.command == "check":
            from cxr import integrity  # here, so that --help does not import DVC

            integrity.check(Path())
        else:
            sync(Path())


def sync(root: Path) -> None:
    """Log the runs that MLflow lacks.

    Args:
        root: the folder with ``raw/``, ``models/`` and the other outputs.

    Raises:
        InputError: there are no outputs, MLflow cannot be reached, or a run cannot be built.
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

    from cxr.tracking import client, records  # here, so that --help does not import MLflow

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
        "%d of %d stages were missing in MLflow at %s and have been logged",
        sent, loggable, urls.public(client.uri()),
    )  # fmt: skip
    if problems:
        message = f"{len(problems)} cannot be logged: {'; '.join(problems)}"
        raise InputError(message)


def ui(port: int) -> None:
    """Replace this process by the MLflow UI.

    Args:
        port: the port that the UI listens on.

    Raises:
        InputError: MLflow's database or server cannot be reached.
    """
    from cxr.tracking import client

    served = client.uri().startswith("http")
    root = urls.public(client.uri().rstrip("/")) if served else f"http://127.0.0.1:{port}"
    try:
        pages = client.pages()
    except client.FAILURES as error:
        message = f"MLflow at {client.uri()} does not answer: {error}"
        raise InputError(message) from error
    for experiment, page in pages.items():
        log.info("%-20s %s/%s", experiment, root, page)
    if not pages:
        log.info("no runs yet: run `dvc repro` or `make demo`; the UI is at %s", root)
    if not served:
        log.info("starting; press Ctrl-C to stop")
        # Not an argument, which every user of the machine can see: the address of a database may
        # hold a password.
        os.environ["MLFLOW_BACKEND_STORE_URI"] = client.uri()
        where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        os.execvp("mlflow", ["mlflow", "server", *where])


def _load(folder: Path) -> Any:
    """Load a trained model; the first call imports Keras."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on instruction sets
    from cxr import models

    return models.load(folder)


if __name__ == "__main__":
    main()
