"""Records -> MLflow. No result depends on it, and nothing is lost without it.

A stage logs its record when it ends; ``cxr sync`` completes what MLflow lacks (a deleted database,
an unreachable server, a stage that DVC took from its cache). Training logs its epochs as they come,
see :mod:`cxr.tracking.live`.

A run is found by the id in provenance.json. Training and evaluation of a model are one run. The
mark that says that a run is complete is written last, so a run that was sent in part is completed.
"""

import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before mlflow is imported, which reads them then. No usage data leaves the machine; a server that
# is down costs seconds, not the minutes of MLflow's default of seven retries.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import mlflow
from alembic.util import CommandError
from mlflow.entities import LoggedModelStatus, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from cxr.errors import InputError
from cxr.tracking import records
from cxr.tracking.records import Record

log = logging.getLogger(__name__)

# The table that the UI opens with: the models, what set them apart and what came out. MLflow keeps
# a view as a tag of the experiment and shows it for ?viewStateShareKey=systems.
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

MODEL = "cxr.model"  # tag: system and hash of the weights, which training and evaluation share

# What MLflow raises, its database's errors among it, and what reading a record raises.
FAILURES = (MlflowException, CommandError, SQLAlchemyError, OSError, InputError)

# Limits of MLflow's log_batch.
MAX_METRICS, MAX_ENTRIES, MAX_VALUE = 1000, 100, 6000

LoadModel = Callable[[Path], Any]


def write(folder: Path, load: LoadModel | None = None) -> None:
    """Log the stage whose outputs lie in a folder; a failure is a warning, never an error.

    Args:
        folder: such as ``models/vgg16_transfer``, with its provenance.json.
        load: gives the Keras model of a folder, for training and evaluation; where None, the run of
            a model goes without it.
    """
    with optional(str(folder)):
        record = records.of(folder)
        if record is not None:
            send(record, load)


def send(record: Record, load: LoadModel | None = None) -> bool:
    """Log what MLflow lacks of a record, and return whether that was anything.

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
        # The model was evaluated before with other parameters: this evaluation has its own run.
        run = _write(client, experiment_id, training, run, load)
    if run is None and record.stage == "evaluate":
        message = (
            f"{record.folder} was evaluated from a model that is neither in MLflow nor in models/: "
            f"run `dvc repro evaluate@{record.item}`"
        )
        raise InputError(message)
    _write(client, experiment_id, record, run, load)
    return True


def uri() -> str:
    """Return MLFLOW_TRACKING_URI or, by default, an SQLite file at the repository's root.

    ``dvc exp run --temp`` and the queue run in a copy of the repository; DVC names the original in
    DVC_ROOT, and that is where the runs belong.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_root()}/mlflow.db"


def pages() -> dict[str, str]:
    """Return, for each experiment of ours, the address of its table of models in the UI."""
    ours = [e for e in connect().search_experiments() if VIEW_TAG in e.tags]
    return {e.name: f"#/experiments/{e.experiment_id}/runs?viewStateShareKey={VIEW}" for e in ours}


@contextmanager
def optional(what: str) -> Iterator[None]:
    """Turn a failure of the tracking into a warning: results do not depend on it."""
    try:
        yield
    except FAILURES as error:
        reason = str(error).strip().split("\n")[0][:200]
        log.warning(
            "MLflow at %s did not take %s (%s). Nothing is lost: the outputs hold all of it, and "
            "`cxr sync` sends it later.",
            uri(), what, reason,
        )  # fmt: skip


def connect() -> mlflow.MlflowClient:
    """Return the client of :func:`uri`, and let MLflow log warnings alone."""
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri())
    with _alone():
        return mlflow.MlflowClient()


def experiment(client: mlflow.MlflowClient, name: str) -> str:
    """Return the id of an MLflow experiment; created where it is missing."""
    found = client.get_experiment_by_name(name)
    if found is None:
        # Beside the database, not in the working folder, which may be a temporary copy.
        local = (_root() / "mlartifacts").as_uri() if uri().startswith("sqlite:") else None
        try:
            tags = {VIEW_TAG: json.dumps(VIEW_STATE)}
            return client.create_experiment(name, artifact_location=local, tags=tags)
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process may have been faster
            if found is None:
                raise
    return found.experiment_id


def id_tag(stage: str) -> str:
    """Name the tag that says which execution of a stage a run is of."""
    return f"cxr.{stage}.id"


def metrics(values: Mapping[str, float], moment: int, step: int) -> list[Metric]:
    """Return figures as log_batch takes them; ``moment`` in milliseconds since 1970."""
    return [Metric(name, value, moment, step) for name, value in values.items()]


@contextmanager
def _alone() -> Iterator[None]:
    """Let one process at a time open an SQLite file: MLflow's migrations of a new one race."""
    if not uri().startswith("sqlite:///"):
        yield
        return
    with Path(uri().removeprefix("sqlite:///") + "-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        yield


def _find(client: mlflow.MlflowClient, experiment_id: str, record: Record) -> Run | None:
    """Find the run that a record belongs to, complete or not.

    An evaluation's is a run of the same system and weights: its training's first, then one that
    holds this evaluation, then the newest. A run with other parameters or other figures is not it:
    MLflow cannot change parameters, and the earlier evaluation is as true as this one.
    """
    own = (id_tag(record.stage), record.id)
    by_id = {own} if record.training is None else {own, (id_tag("train"), record.training.id)}
    tag, value = (MODEL, record.weights) if record.stage == "evaluate" else own
    runs = client.search_runs(
        [experiment_id], f"tags.`{tag}` = '{value}'", order_by=["attributes.start_time DESC"]
    )

    def rank(run: Run) -> tuple[bool, bool]:
        found = by_id & run.data.tags.items()
        return bool(found - {own}), own in found

    fitting = [
        run
        for run in runs
        if _fits(run, record) and (by_id & run.data.tags.items() or _mark("train") in run.data.tags)
    ]
    return max(fitting, key=rank, default=None)


def _fits(run: Run, record: Record) -> bool:
    """Return whether the parameters and figures that both have are equal."""
    pairs = ((run.data.params, _params(record)), (run.data.metrics, record.metrics))
    return all(held.get(k, v) == v for held, given in pairs for k, v in given.items())


def _is_complete(run: Run, record: Record) -> bool:
    return run.data.tags.get(_mark(record.stage)) == record.id


def _mark(stage: str) -> str:
    """Name the tag that says which execution of a stage a run holds all of."""
    return f"cxr.{stage}.complete"


def _write(
    client: mlflow.MlflowClient,
    experiment_id: str,
    record: Record,
    run: Run | None,
    load: LoadModel | None,
) -> Run:
    """Log what a run lacks of a record, or all of it in a new run; the mark comes last."""
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
    if record.stage != "evaluate":  # which belongs to a run that has ended, with its training
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
    """Log in as few calls as MLflow's limits allow."""
    while params or tags or metrics:
        # At most 1,000 entries a call in all.
        room = MAX_METRICS - len(params[:MAX_ENTRIES]) - len(tags[:MAX_ENTRIES])
        client.log_batch(
            run_id, metrics=metrics[:room], params=params[:MAX_ENTRIES], tags=tags[:MAX_ENTRIES]
        )
        params, tags, metrics = params[MAX_ENTRIES:], tags[MAX_ENTRIES:], metrics[room:]


def _logged(client: mlflow.MlflowClient, run_id: str, names: Iterable[str]) -> set[tuple[str, int]]:
    """Return which metrics a run has at which step, so that no epoch is logged twice."""
    return {(name, m.step) for name in names for m in client.get_metric_history(run_id, name)}


def _has_model(client: mlflow.MlflowClient, run: Run) -> bool:
    models = client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    return any(model.status == LoggedModelStatus.READY for model in models)


def _log_model(run_id: str, model: Any, requirements: Sequence[str]) -> None:
    """Log the Keras model with what it takes and gives."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    shape = model.input_shape
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("uint8"), (-1, *shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, 1))]),
    )
    with mlflow.start_run(run_id=run_id):
        # The flavour of every backend; mlflow.tensorflow is TensorFlow's alone. Requirements are
        # given: to infer them, MLflow starts a process that imports TensorFlow, 10 s. No input
        # example: the flavour fails on every one (mlflow/mlflow#16183).
        mlflow.keras.log_model(
            model, name="model", signature=signature, pip_requirements=list(requirements)
        )


def _params(record: Record) -> dict[str, str]:
    return {name: value[:MAX_VALUE] for name, value in record.params.items()}


def _root() -> Path:
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
