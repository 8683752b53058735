"""Records -> MLflow. No result depends on it, and nothing is lost without it.

A stage logs its record when it ends. ``cxr sync`` logs the records that MLflow lacks, because the
database was deleted, the server was down, or DVC took the stage from its cache. Training logs each
epoch when it ends, see :mod:`cxr.tracking.live`.

The id in provenance.json identifies a run. Training and evaluation of a model share one run. The
tag that marks a run as complete is written last, so that an incomplete run can be completed. A run
that a user deleted in MLflow stays deleted.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import entities
from mlflow.data.schema import TensorDatasetSchema
from mlflow.entities import DatasetInput, InputTag, Param, Run, RunTag, ViewType
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from cxr.errors import InputError
from cxr.tracking import notes, records, server
from cxr.tracking.datasets import Dataset
from cxr.tracking.record import Record

MODEL = "cxr.model"  # tag: system and MD5 of the weights, equal for training and evaluation
NOTE = "mlflow.note.content"  # tag: the description, in Markdown

LoadModel = Callable[[Path], Any]


def write(*folders: Path, load: LoadModel | None = None) -> None:
    """Log the stages that wrote these folders; a failure is a warning, never an error.

    Args:
        folders: for example ``models/vgg16_transfer``, each with its provenance.json.
        load: returns the Keras model of a folder; if None, no model is logged.
    """
    with server.optional(", ".join(map(str, folders))):
        for record in filter(None, map(records.of, folders)):
            send(record, load)


def send(record: Record, load: LoadModel | None = None) -> bool:
    """Log the parts of a record that MLflow lacks, and return whether there were any.

    Raises:
        InputError: an evaluation's training is neither in MLflow nor in ``models/``.
        MlflowException: the server cannot be reached.
    """
    # A stage that ends while `cxr sync` runs must not log its run twice.
    with server.alone("sending"):
        return _send(record, load)


def _send(record: Record, load: LoadModel | None) -> bool:
    training = record.training
    if training is not None:
        _send(training, load)
    client = server.connect()
    experiment_id = server.experiment(client, record.experiment)
    run = _find(client, experiment_id, record)
    if run is not None and _is_complete(run, record):
        return False
    if run is None and _is_deleted(client, experiment_id, record):
        return False
    if training is not None and (run is None or server.complete_tag("train") not in run.data.tags):
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


def _find(client: mlflow.MlflowClient, experiment_id: str, record: Record) -> Run | None:
    """Return the run that a record belongs to, complete or not.

    The run of an evaluation has the same system and weights. Its training's run is preferred, then
    one that holds this evaluation, then the newest. Runs with other parameters or metrics do not
    count, because MLflow cannot change parameters and the earlier evaluation remains valid.
    """
    own = (server.id_tag(record.stage), record.id)
    by_id = {own}
    if record.training is not None:
        by_id.add((server.id_tag("train"), record.training.id))
    tag, value = (MODEL, record.weights) if record.stage == "evaluate" else own
    runs = client.search_runs(
        [experiment_id], f"tags.`{tag}` = '{value}'", order_by=["attributes.start_time DESC"]
    )

    def rank(run: Run) -> tuple[bool, bool]:
        matching = by_id & run.data.tags.items()
        return bool(matching - {own}), own in matching

    def belongs(run: Run) -> bool:
        known = bool(by_id & run.data.tags.items())
        return known or server.complete_tag("train") in run.data.tags

    return max((run for run in runs if _fits(run, record) and belongs(run)), key=rank, default=None)


def _fits(run: Run, record: Record) -> bool:
    """Return whether the parameters and metrics that run and record share are equal."""
    pairs = ((run.data.params, _params(record)), (run.data.metrics, record.metrics))
    return all(held.get(k, v) == v for held, given in pairs for k, v in given.items())


def _is_complete(run: Run, record: Record) -> bool:
    return run.data.tags.get(server.complete_tag(record.stage)) == record.id


def _is_deleted(client: mlflow.MlflowClient, experiment_id: str, record: Record) -> bool:
    complete = f"tags.`{server.complete_tag(record.stage)}` = '{record.id}'"
    return bool(client.search_runs([experiment_id], complete, ViewType.DELETED_ONLY, 1))


def _write(
    client: mlflow.MlflowClient,
    experiment_id: str,
    record: Record,
    run: Run | None,
    load: LoadModel | None,
) -> Run:
    """Log the parts of a record that a run lacks, or all in a new run; the mark comes last."""
    is_new = run is None
    tags = {**record.tags, server.id_tag(record.stage): record.id}
    if record.weights is not None:
        tags[MODEL] = record.weights
    if run is None:
        run = client.create_run(
            experiment_id, start_time=record.started, run_name=record.name,
            tags={"stage": record.stage} | tags,
        )  # fmt: skip
    run_id, held = run.info.run_id, run.data
    tags[NOTE] = notes.merged(held.tags.get(NOTE, ""), record.note)[: server.MAX_VALUE]
    params = [Param(k, v) for k, v in _params(record).items() if k not in held.params]
    figures = {k: v for k, v in record.metrics.items() if held.metrics.get(k) != v}
    values = server.metrics(figures, record.ended, 0)
    epochs = [
        value
        for number, (ended, row) in enumerate(record.epochs, start=1)
        for value in server.metrics(row, ended, number)
    ]
    known = set() if is_new else server.logged(client, run_id, {value.key for value in epochs})
    values += [value for value in epochs if (value.key, value.step) not in known]
    entries = [RunTag(k, v) for k, v in tags.items() if held.tags.get(k) != v]
    server.log_batches(client, run_id, params, entries, values)
    if record.datasets:
        client.log_inputs(run_id, [_input(dataset) for dataset in record.datasets])
    for name in record.artifacts:
        inside = (Path(record.stage) / name).parent.as_posix()
        client.log_artifact(run_id, str(record.folder / name), inside)
    if record.has_model and load is not None and (is_new or not _has_model(client, run)):
        _log_model(run, load(record.folder), record.requirements)
    if record.stage != "evaluate":  # whose run ended with its training
        client.set_terminated(run_id, "FINISHED", end_time=record.ended)
    client.set_tag(run_id, server.complete_tag(record.stage), record.id)
    return run


def _input(dataset: Dataset) -> DatasetInput:
    """Return the entry under "Datasets" in the UI; MLflow keeps one of each name and digest."""
    schema = None
    if dataset.size is not None:
        pixels = TensorSpec(np.dtype("uint8"), (-1, dataset.size, dataset.size))
        schema = json.dumps(TensorDatasetSchema(Schema([pixels])).to_dict())
    shown = entities.Dataset(
        name=dataset.name,
        digest=dataset.md5,
        source_type="local",
        source=json.dumps({"uri": dataset.path}),
        schema=schema,
        profile=json.dumps(dataset.profile),
    )
    return DatasetInput(shown, [InputTag("mlflow.data.context", dataset.split)])


def _has_model(client: mlflow.MlflowClient, run: Run) -> bool:
    models = client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    return any(model.status == entities.LoggedModelStatus.READY for model in models)


def _log_model(run: Run, model: Any, requirements: Sequence[str]) -> None:
    """Log a Keras model with its signature."""
    shape = model.input_shape
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("uint8"), (-1, *shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, 1))]),
    )
    # By the client, because log_model would add tags of the moment: the URL of git's first remote,
    # which may hold credentials, and HEAD.
    run_id = run.info.run_id
    logged = mlflow.MlflowClient().create_logged_model(run.info.experiment_id, "model", run_id)
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
    return {name: value[: server.MAX_VALUE] for name, value in record.params.items()}
