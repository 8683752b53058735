"""Records -> MLflow. No result depends on it, and nothing is lost without it.

A stage logs its record when it ends. ``cxr sync`` logs the records that MLflow lacks, because the
database was deleted, the server was down, or DVC took the stage from its cache. Training logs each
epoch when it ends, see :mod:`cxr.tracking.live`.

The id in provenance.json identifies a run. Training and evaluation of a model share one run. The
tag that marks a run as complete is written last, so that an incomplete run can be completed.
"""

import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# mlflow reads these when it is imported. No usage data leaves the machine. A server that is down
# costs seconds, not the minutes of MLflow's default of seven retries.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
# MLflow would print the server's URL with its credentials.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
import requests
from alembic.util import CommandError
from mlflow.entities import LoggedModelStatus, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from cxr import urls
from cxr.errors import InputError
from cxr.tracking import records
from cxr.tracking.records import Record

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

MODEL = "cxr.model"  # tag: system and MD5 of the weights, equal for training and evaluation

# Errors of MLflow, of its database, and of reading a record.
FAILURES = (MlflowException, CommandError, SQLAlchemyError, OSError, InputError)

# Limits of MLflow's log_batch.
MAX_METRICS, MAX_ENTRIES, MAX_VALUE = 1000, 100, 6000

# A server that accepts connections and answers nothing would cost MLFLOW_HTTP_REQUEST_TIMEOUT three
# times, at the start and at the end of each stage.
ANSWER_SECONDS = 10

LoadModel = Callable[[Path], Any]


def write(*folders: Path, load: LoadModel | None = None) -> None:
    """Log the stages that wrote these folders; a failure is a warning, never an error.

    Args:
        folders: for example ``models/vgg16_transfer``, each with its provenance.json.
        load: returns the Keras model of a folder; if None, no model is logged.
    """
    with optional(", ".join(map(str, folders))):
        for record in filter(None, map(records.of, folders)):
            send(record, load)


def send(record: Record, load: LoadModel | None = None) -> bool:
    """Log the parts of a record that MLflow lacks, and return whether there were any.

    Raises:
        InputError: an evaluation's training is neither in MLflow nor in ``models/``.
        MlflowException: the server cannot be reached.
    """
    training = record.training
    if training is not None:
        send(training, load)
    client = connect()
    experiment_id = experiment(client, record.experiment)
    run = _find(client, experiment_id, record)
    if run is not None and _is_complete(run, record):
        return False
    if training is not None and (run is None or _mark("train") not in run.data.tags):
        # The training's run holds an evaluation with other parameters, so this one gets its own.
        run = _write(client, experiment_id, training, run, load)
    if run is None and record.stage == "evaluate":
        message = (
            f"{record.folder} evaluates a model that is neither in MLflow nor in models/: run "
            f"`dvc repro evaluate@{record.item}`"
        )
        raise InputError(message)
    _write(client, experiment_id, record, run, load)
    return True


def uri() -> str:
    """Return MLFLOW_TRACKING_URI or, by default, an SQLite file at the repository's root.

    ``dvc exp run --temp`` and the queue run in a copy of the repository, but log to the original,
    whose path DVC sets in DVC_ROOT.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_root()}/mlflow.db"


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
        reason = urls.public(error).strip().split("\n")[0][:200]
        log.warning(
            "MLflow at %s could not log %s (%s). Nothing is lost: the outputs contain everything, "
            "and `cxr sync` logs it later.",
            urls.public(uri()), subject, reason,
        )  # fmt: skip


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
    with _alone():
        return mlflow.MlflowClient()


def experiment(client: mlflow.MlflowClient, name: str) -> str:
    """Return the id of an MLflow experiment; a missing one is created."""
    existing = client.get_experiment_by_name(name)
    if existing is None:
        # In the database's folder, because the working folder may be a temporary copy.
        local = (_root() / "mlartifacts").as_uri() if uri().startswith("sqlite:") else None
        try:
            tags = {VIEW_TAG: json.dumps(VIEW_STATE)}
            return client.create_experiment(name, artifact_location=local, tags=tags)
        except MlflowException:
            existing = client.get_experiment_by_name(name)  # another process may have created it
            if existing is None:
                raise
    return existing.experiment_id


def id_tag(stage: str) -> str:
    """Return the name of the tag that holds the id of a stage's provenance."""
    return f"cxr.{stage}.id"


def metrics(values: Mapping[str, float], moment: int, step: int) -> list[Metric]:
    """Return metrics for log_batch; ``moment`` is in milliseconds since 1970."""
    return [Metric(name, value, moment, step) for name, value in values.items()]


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
def _alone() -> Iterator[None]:
    """Let one process at a time open an SQLite file: MLflow's migrations of a new one race."""
    if not uri().startswith("sqlite:///"):
        yield
        return
    with Path(uri().removeprefix("sqlite:///") + "-lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        yield


def _find(client: mlflow.MlflowClient, experiment_id: str, record: Record) -> Run | None:
    """Return the run that a record belongs to, complete or not.

    The run of an evaluation has the same system and weights. Its training's run is preferred, then
    one that holds this evaluation, then the newest. Runs with other parameters or metrics do not
    count, because MLflow cannot change parameters and the earlier evaluation remains valid.
    """
    own = (id_tag(record.stage), record.id)
    by_id = {own} if record.training is None else {own, (id_tag("train"), record.training.id)}
    tag, value = (MODEL, record.weights) if record.stage == "evaluate" else own
    runs = client.search_runs(
        [experiment_id], f"tags.`{tag}` = '{value}'", order_by=["attributes.start_time DESC"]
    )

    def rank(run: Run) -> tuple[bool, bool]:
        matching = by_id & run.data.tags.items()
        return bool(matching - {own}), own in matching

    fitting = [
        run
        for run in runs
        if _fits(run, record) and (by_id & run.data.tags.items() or _mark("train") in run.data.tags)
    ]
    return max(fitting, key=rank, default=None)


def _fits(run: Run, record: Record) -> bool:
    """Return whether the parameters and metrics that run and record share are equal."""
    pairs = ((run.data.params, _params(record)), (run.data.metrics, record.metrics))
    return all(held.get(k, v) == v for held, given in pairs for k, v in given.items())


def _is_complete(run: Run, record: Record) -> bool:
    return run.data.tags.get(_mark(record.stage)) == record.id


def _mark(stage: str) -> str:
    """Return the name of the tag that marks a stage's record as completely logged."""
    return f"cxr.{stage}.complete"


def _write(
    client: mlflow.MlflowClient,
    experiment_id: str,
    record: Record,
    run: Run | None,
    load: LoadModel | None,
) -> Run:
    """Log the parts of a record that a run lacks, or all in a new run; the mark comes last."""
    is_new = run is None
    tags = {**record.tags, id_tag(record.stage): record.id}
    if record.weights is not None:
        tags[MODEL] = record.weights
    if run is None:
        run = client.create_run(
            experiment_id, start_time=record.started, run_name=record.name,
            tags={"stage": record.stage} | tags,
        )  # fmt: skip
    run_id, held = run.info.run_id, run.data
    params = [Param(k, v) for k, v in _params(record).items() if k not in held.params]
    figures = {k: v for k, v in record.metrics.items() if held.metrics.get(k) != v}
    values = metrics(figures, record.ended, 0)
    epochs = [
        value
        for number, (ended, row) in enumerate(record.epochs, start=1)
        for value in metrics(row, ended, number)
    ]
    logged = set() if is_new else _logged(client, run_id, {value.key for value in epochs})
    values += [value for value in epochs if (value.key, value.step) not in logged]
    entries = [RunTag(k, v) for k, v in tags.items() if held.tags.get(k) != v]
    _log_batches(client, run_id, params, entries, values)
    for name in record.artifacts:
        inside = (Path(record.stage) / name).parent.as_posix()
        client.log_artifact(run_id, str(record.folder / name), inside)
    if record.has_model and load is not None and (is_new or not _has_model(client, run)):
        _log_model(run_id, load(record.folder), record.requirements)
    if record.stage != "evaluate":  # whose run ended with its training
        client.set_terminated(run_id, "FINISHED", end_time=record.ended)
    client.set_tag(run_id, _mark(record.stage), record.id)
    return run


def _log_batches(
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


def _logged(client: mlflow.MlflowClient, run_id: str, names: Iterable[str]) -> set[tuple[str, int]]:
    """Return the (metric, step) pairs that a run has, so that no epoch is logged twice."""
    return {(name, m.step) for name in names for m in client.get_metric_history(run_id, name)}


def _has_model(client: mlflow.MlflowClient, run: Run) -> bool:
    models = client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    return any(model.status == LoggedModelStatus.READY for model in models)


def _log_model(run_id: str, model: Any, requirements: Sequence[str]) -> None:
    """Log a Keras model with its signature."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    shape = model.input_shape
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("uint8"), (-1, *shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, 1))]),
    )
    # By the client, because log_model would add tags of the moment: the URL of git's first remote,
    # which may hold credentials, and HEAD.
    experiment_id = mlflow.get_run(run_id).info.experiment_id
    logged = mlflow.MlflowClient().create_logged_model(experiment_id, "model", run_id)
    with mlflow.start_run(run_id=run_id):
        # mlflow.keras works with every backend, mlflow.tensorflow with TensorFlow alone.
        # Requirements are given, because MLflow would start a process that imports TensorFlow
        # (10 s) to infer them. There is no input example, because the flavour fails on it
        # (mlflow/mlflow#16183).
        mlflow.keras.log_model(
            model, model_id=logged.model_id, signature=signature,
            pip_requirements=list(requirements),
        )  # fmt: skip


def _params(record: Record) -> dict[str, str]:
    return {name: value[:MAX_VALUE] for name, value in record.params.items()}


def _root() -> Path:
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
