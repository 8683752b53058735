"""Start the MLflow UI on the project's runs and say where the tables of models are: `make ui`."""

import logging
import os

from mlflow.exceptions import MlflowException

from cxr import params, tracking
from cxr.errors import InputError
from stages import parser, run

log = logging.getLogger(__name__)


def work(_: params.Params, port: int) -> None:
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
    arguments = parser(__doc__)
    arguments.add_argument("--port", type=int, default=5000)
    run(work, arguments)
