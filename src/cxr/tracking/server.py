"""MLflow's tracking server, or the SQLite file that stands for one: address, connection, limits.

No result depends on it: :func:`optional` turns a failure into a warning.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import mlflow
import requests
from alembic.util import CommandError
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from cxr import files, urls
from cxr.errors import InputError

log = logging.getLogger(__name__)

# The table of models, with settings and metrics, that `cxr ui` links to. MLflow stores a view as a
# tag of the experiment and shows it for ?viewStateShareKey=systems.
VIEW = "systems"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
VIEW_STATE = {
    "searchFilter": "tags.stage = 'train'",
    "orderByKey": "metrics.`test/auc`",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "modelVersionFilter": "All Runs",
    "datasetsFilter": [],
    "selectedColumns": [
        *(f"metrics.`{name}`" for name in ("test/auc", "perturbed/auc", "test/accuracy", "epochs")),
        *(f"params.`{name}`" for name in ("freeze_blocks", "weights", "image_size")),
        "tags.`dvc.experiment`",
    ],
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "compareRunCharts": [],
    "viewMaximized": False,
}

# Errors of MLflow, of its database, and of reading a record.
FAILURES = (MlflowException, CommandError, SQLAlchemyError, OSError, InputError)

# Limits of MLflow's log_batch, and of the length of a value.
MAX_METRICS, MAX_ENTRIES, MAX_VALUE = 1000, 100, 6000

# A server that accepts connections and answers nothing would cost MLFLOW_HTTP_REQUEST_TIMEOUT three
# times, at the start and at the end of each stage.
ANSWER_SECONDS = 10


def uri() -> str:
    """Return MLFLOW_TRACKING_URI or, by default, an SQLite file at the repository's root.

    ``dvc exp run --temp`` and the queue run in a copy of the repository, but log to the original,
    whose path DVC sets in DVC_ROOT.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{files.root()}/mlflow.db"


def pages() -> dict[str, str]:
    """Return the address of the table of models in the UI, for each experiment of this project."""
    ours = [e for e in connect().search_experiments() if VIEW_TAG in e.tags]
    return {e.name: f"#/experiments/{e.experiment_id}/runs?viewStateShareKey={VIEW}" for e in ours}


@contextmanager
def optional(subject: str) -> Iterator[None]:
    """Log a tracking failure inside the block as a warning, because no result depends on it."""
    try:
        yield
    except FAILURES as error:
        log.warning(
            "MLflow at %s could not log %s (%s). Nothing is lost: the outputs contain everything, "
            "and `cxr sync` logs it later.",
            address(), subject, reason(error),
        )  # fmt: skip


@contextmanager
def answering() -> Iterator[None]:
    """Turn a tracking failure inside the block into an error for the user.

    Raises:
        InputError: with the server's address and the reason.
    """
    try:
        yield
    except InputError:
        raise
    except FAILURES as error:
        message = f"MLflow at {address()} does not answer: {reason(error)}"
        raise InputError(message) from error


def address() -> str:
    """Return :func:`uri` for messages: without the credentials that a URL may hold."""
    return urls.public(uri())


def reason(error: Exception | str) -> str:
    """Return the first line of an error, at most 200 characters, without credentials."""
    return urls.public(error).strip().split("\n")[0][:200]


def connect() -> mlflow.MlflowClient:
    """Return a client of :func:`uri`, and limit MLflow's own log to warnings.

    Raises:
        TimeoutError: the server accepts connections and does not answer.
    """
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for handler in logging.getLogger("mlflow").handlers:
        handler.addFilter(_without_credentials)
    mlflow.set_tracking_uri(uri())
    _check_answers()
    with alone():
        return mlflow.MlflowClient()


def experiment(client: mlflow.MlflowClient, name: str) -> str:
    """Return the id of an MLflow experiment; a missing one is created.

    Raises:
        InputError: the experiment is in MLflow's trash.
        MlflowException: the server cannot be reached.
    """
    existing = client.get_experiment_by_name(name)
    if existing is None:
        # In the database's folder, because the working folder may be a temporary copy.
        local = (files.root() / "mlartifacts").as_uri() if uri().startswith("sqlite:") else None
        try:
            tags = {VIEW_TAG: json.dumps(VIEW_STATE)}
            return client.create_experiment(name, artifact_location=local, tags=tags)
        except MlflowException:
            existing = client.get_experiment_by_name(name)  # another process may have created it
            if existing is None:
                raise
    if existing.lifecycle_stage != "active":
        message = (
            f"the MLflow experiment {name} was deleted: run `mlflow experiments restore "
            f"--experiment-id {existing.experiment_id}`, or name another one in tracking.experiment"
        )
        raise InputError(message)
    return existing.experiment_id


def id_tag(stage: str) -> str:
    """Return the name of the tag that holds the id of a stage's provenance."""
    return f"cxr.{stage}.id"


def complete_tag(stage: str) -> str:
    """Return the name of the tag that marks a stage's record as completely logged."""
    return f"cxr.{stage}.complete"


def metrics(values: Mapping[str, float], moment: int, step: int) -> list[Metric]:
    """Return metrics for log_batch; ``moment`` is in milliseconds since 1970."""
    return [Metric(name, value, moment, step) for name, value in values.items()]


def log_batches(
    client: mlflow.MlflowClient,
    run_id: str,
    params: Sequence[Param],
    tags: Sequence[RunTag],
    metrics: Sequence[Metric],
) -> None:
    """Log with as few calls as MLflow's limits allow."""
    while params or tags or metrics:
        # At most 1,000 entries in total per call.
        room = MAX_METRICS - len(params[:MAX_ENTRIES]) - len(tags[:MAX_ENTRIES])
        client.log_batch(
            run_id, metrics=metrics[:room], params=params[:MAX_ENTRIES], tags=tags[:MAX_ENTRIES]
        )
        params, tags, metrics = params[MAX_ENTRIES:], tags[MAX_ENTRIES:], metrics[room:]


def logged(client: mlflow.MlflowClient, run_id: str, names: Iterable[str]) -> set[tuple[str, int]]:
    """Return the (metric, step) pairs that a run has, so that no epoch is logged twice."""
    return {(name, m.step) for name in names for m in client.get_metric_history(run_id, name)}


def _without_credentials(entry: logging.LogRecord) -> bool:
    """Hide the credentials of URLs in an entry of MLflow's log, which is shown then."""
    entry.msg, entry.args = urls.public(entry.getMessage()), ()
    return True


def _check_answers() -> None:
    """Raise a TimeoutError if a server hangs; MLflow itself reports every other failure."""
    if not uri().startswith("http"):
        return
    try:
        requests.get(f"{uri().rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except requests.exceptions.Timeout as error:
        message = f"no answer in {ANSWER_SECONDS} seconds"
        raise TimeoutError(message) from error
    except requests.exceptions.RequestException:
        return


@contextmanager
def alone(purpose: str = "lock") -> Iterator[None]:
    """Let one process of this repository at a time into the block, if MLflow is an SQLite file.

    Args:
        purpose: blocks of different purposes do not wait for each other. The default guards the
            opening of the file, because MLflow's migrations of a new one race.
    """
    if not uri().startswith("sqlite:///"):
        yield
        return
    with Path(f"{uri().removeprefix('sqlite:///')}-{purpose}").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        yield
