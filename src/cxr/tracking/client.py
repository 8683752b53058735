"""MLflow beside the pipeline: every stage's run, made from what the stage left in its outputs.

No result depends on this module, and nothing is lost without it: a run is described by a
:class:`Record`, read from files that DVC keeps. A stage logs its record when it ends; ``make sync``
logs the records whose runs are missing (a deleted database, an unreachable server, a stage that DVC
took from its cache). Training logs its epochs as they come, besides.

Training and evaluation of a model are one run, found by the hash of the weights.
"""

import hashlib
import json
import logging
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

# Before mlflow is imported: it decides then. No usage data leaves the machine; a server that is
# down costs seconds, not the minutes of MLflow's default of seven retries.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import mlflow
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from cxr import files, params

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
    ],
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "compareRunCharts": [],
    "viewMaximized": False,
}

TRAINED = ("model.weights.h5", "architecture.json", "history.csv", "train.json", "timing.json")

KEY = "cxr.key"  # tag: what the run is of; for a model, its system and the hash of its weights
REBUILD = "cxr.rebuild"  # tag of a parent run: commit, experiment and parameters in one hash
PARENT = "mlflow.parentRunId"  # MLflow's own tags
COMMIT = "mlflow.source.git.commit"
PACKAGES = (
    "dvc",
    "jax",
    "keras",
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "scikit-learn",
    "tensorflow",
)


@dataclass(frozen=True)
class Record:
    """What MLflow is to hold of one stage.

    Attributes:
        stage: name of the stage; ``system`` where it is of one.
        identity: hash of what the stage made: the run is found by it.
        params: parameters that the stage used, nested.
        metrics: its figures, nested; what is not a number is left out.
        steps: metrics of each epoch, from 1.
        artifacts: files; ``pictures`` and all else side by side.
        inputs: paths whose md5 in dvc.lock becomes a tag.
        tags: further tags.
        model: gives the Keras model to log, where there is one.
        requirements: what the model needs to be loaded, such as ``keras==3.15.1``.
        before: the record that the run must hold before this one: an evaluation's its training's.
    """

    stage: str
    identity: str
    system: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Mapping[str, float]] = ()
    artifacts: Sequence[Path] = ()
    inputs: Sequence[Path] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    model: Callable[[], Any] | None = None
    requirements: Sequence[str] = ()
    before: "Record | None" = None

    @property
    def key(self) -> str:
        """Return what the run is found by; training and evaluation of a model share it."""
        kind = "model" if self.stage in ("train", "evaluate") else self.stage
        return ":".join(filter(None, (kind, self.system, self.identity)))


class Live:
    """The run of a training that is under way; it may lose its server and goes on without."""

    def __init__(self, settings: params.Tracking, system: str) -> None:
        self.run_id: str | None = None
        self.epochs = 0  # how many the server has
        with _going_on(f"training of {system}"):
            experiment = _experiment(settings)
            tags = {"stage": "train", "system": system}
            _end_abandoned(experiment, tags)
            self.run_id = _create(experiment, f"train {system}", tags)

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Log the metrics of an epoch; after a failure no more: ``log`` makes up for it."""
        if self.run_id is not None and self.epochs == number - 1:
            with _going_on("training"):
                mlflow.MlflowClient().log_batch(self.run_id, metrics=_metrics(values, number))
                self.epochs = number

    def failed(self, status: str) -> None:
        """Mark the run as FAILED or KILLED."""
        if self.run_id is not None:
            with _going_on("training"):
                mlflow.MlflowClient().set_terminated(self.run_id, status)


def uri() -> str:
    """Return MLFLOW_TRACKING_URI or, by default, an SQLite file at the repository's root.

    ``dvc exp run --temp`` and the queue run in a copy of the repository; DVC names the original in
    DVC_ROOT, and that is where the runs belong.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_root()}/mlflow.db"


def pages() -> dict[str, str]:
    """Return, for each experiment of ours, the address of its table of models in the UI."""
    mlflow.set_tracking_uri(uri())
    ours = [e for e in mlflow.MlflowClient().search_experiments() if VIEW_TAG in e.tags]
    return {e.name: f"#/experiments/{e.experiment_id}/runs?viewStateShareKey={VIEW}" for e in ours}


@contextmanager
def live(settings: params.Tracking, system: str) -> Iterator[Live]:
    """Give the run of a training; where the block fails, the run says so."""
    run = Live(settings, system)
    try:
        yield run
    except BaseException as error:
        run.failed("KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED")
        raise


def write(settings: params.Tracking, record: Record, run: Live | None = None) -> None:
    """Log a record: into ``run``, into the run that has its key in this rebuild, or into a new one.

    An unreachable server is a warning that says how to send the record later, not an error.
    """
    with _going_on(record.stage):
        experiment = _experiment(settings)
        if run is not None and run.run_id is not None:
            _write(experiment, record, run.run_id, run.epochs)
        else:
            _write(experiment, record, *_place(experiment, record))


def write_missing(settings: params.Tracking, records: Sequence[Record]) -> int:
    """Log the records that no run holds and return how many those were.

    Raises:
        MlflowException: the server cannot be reached; here that is the whole job.
    """
    experiment = _experiment(settings)
    missing = 0
    for record in records:
        run = _find(experiment, record)
        # Evaluation shares its run with training: the run may be there without the figures.
        if run is None or not _numbers(record.metrics).keys() <= run.data.metrics.keys():
            _write(experiment, record, *_place(experiment, record))
            missing += 1
    return missing


def download(folder: Path, settings: params.Params) -> Record:
    """Describe the download stage by ``raw/``."""
    source = _json(folder / "source.json")
    return Record(
        stage="download",
        identity=source["sha256"],
        params={"source": settings.source},
        metrics={"images": source["counts"], "bytes": source["bytes"]},
        artifacts=[folder / "source.json"],
        tags=_source(folder),
    )


def split(folder: Path, settings: params.Params, raw: Path) -> Record:
    """Describe the split stage by ``splits/``."""
    return Record(
        stage="split",
        identity=files.file_sha256(folder / "manifest.csv"),
        params={"seed": settings.seed, "split": settings.split.model_dump()},
        metrics=_json(folder / "summary.json"),
        artifacts=[folder / n for n in ("summary.json", "manifest.csv", "rejected.csv")],
        inputs=[raw / "xrays.zip"],
        tags=_source(raw),
    )


def preprocess(folder: Path, settings: params.Params, raw: Path, splits: Path) -> Record:
    """Describe a preprocess stage by ``tensors/<size>/``."""
    return Record(
        stage="preprocess",
        identity=files.file_sha256(folder / "images.npy"),
        params={"image_size": int(folder.name), "tensors": settings.tensors.model_dump()},
        metrics={"images": len(pd.read_csv(folder / "index.csv"))},
        artifacts=[folder / "contact_sheet.png", folder / "index.csv"],
        inputs=[raw / "xrays.zip", splits / "manifest.csv"],
        tags=_source(raw),
    )


def weights(folder: Path) -> Record:
    """Describe a weights stage by ``weights/<system>/``."""
    note = _json(folder / "weights.json")
    return Record(
        stage="weights",
        system=folder.name,
        identity=str(note["sha256"]),
        params={"backbone": note["backbone"], "weights": note["weights"]},
        artifacts=[folder / "weights.json"],
    )


def training(folder: Path, model: Callable[[], Any], inputs: Sequence[Path], raw: Path) -> Record:
    """Describe the training of a system by ``models/<system>/``."""
    record, timing = _json(folder / "train.json"), _json(folder / "timing.json")
    seconds = pd.Series(timing["seconds_per_epoch"])
    history = pd.read_csv(folder / "history.csv").drop(columns=["epoch", "phase"])
    return Record(
        stage="train",
        system=folder.name,
        identity=record["weights_sha256"],
        params=record["system"]
        | {"seed": record["seed"], "freeze_blocks": record["freeze_blocks"]}
        | {"class_weight": record["class_weights"] or "none", "policy": timing["policy"]},
        metrics={
            "parameters": record["parameters"],
            "epochs": record["epochs"],
            "seconds": timing["seconds"],
            "seconds_per_epoch": float(seconds.median()),
            "images": record["images"],
        },
        steps=_rows(history),
        artifacts=[*(folder / name for name in TRAINED), *sorted((folder / "phases").iterdir())],
        inputs=inputs,
        tags=_source(raw)
        | {"device": timing["device"]}
        | {f"version.{package}": number for package, number in timing["versions"].items()},
        model=model,
        requirements=[
            f"{p}=={timing['versions'][p]}"
            for p in ("keras", "tensorflow", "jax")
            if p in timing["versions"]
        ],
    )


def evaluation(
    folder: Path, trained: Record, inputs: Sequence[Path], settings: params.Params
) -> Record:
    """Describe the evaluation of a trained system by ``evaluations/<system>/``."""
    figures = _json(folder / "metrics.json")
    return Record(
        stage="evaluate",
        system=folder.name,
        identity=trained.identity,
        params={
            "evaluate": {"threshold": figures["threshold"]},
            "perturbation": settings.perturbation.model_dump(mode="json"),
        },
        metrics={k: figures[k] for k in (*params.SPLITS, "perturbed", "phases")},
        artifacts=sorted(folder.iterdir()),
        inputs=inputs,
        before=trained,
    )


def comparison(folder: Path, settings: params.Params, raw: Path) -> Record:
    """Describe the compare stage by ``reports/``."""
    table = pd.read_csv(folder / "comparison.csv").set_index("system")
    return Record(
        stage="compare",
        identity=files.file_sha256(folder / "comparison.csv"),
        params={"systems": ", ".join(settings.systems)},
        metrics=dict(zip(table.index, _rows(table.select_dtypes("number")), strict=True)),
        artifacts=sorted(folder.iterdir()),
        tags=_source(raw),
    )


def _place(experiment: str, record: Record) -> tuple[str | None, int]:
    """Find the run for a record, None for a new one, and how many of its epochs are there."""
    found = _find(experiment, record)
    if found is not None:
        return found.info.run_id, len(record.steps)
    if record.before is not None:
        return _write(experiment, record.before, None, 0), 0
    return None, 0


def _write(experiment: str, record: Record, run_id: str | None, epochs: int) -> str:
    """Log a record into a run (a new one where None) that has the first ``epochs`` already."""
    client = mlflow.MlflowClient()
    tags = {"stage": record.stage, "system": record.system, KEY: record.key}
    tags |= _tags(record)
    name = " ".join(filter(None, (record.stage, record.system)))
    if run_id is None:
        run_id = _create(experiment, name, {})
    elif record.stage == "evaluate":
        del tags["stage"]  # the run began as the training's and keeps that name
    client.log_batch(
        run_id,
        params=[Param(k, str(v)[:6000]) for k, v in _flat(record.params, ".").items()],
        tags=[RunTag(k, str(v)) for k, v in tags.items() if v is not None],
    )
    for number, values in enumerate(record.steps[epochs:], start=epochs + 1):
        client.log_batch(run_id, metrics=_metrics(values, number))
    client.log_batch(run_id, metrics=_metrics(record.metrics, 0))
    for path in record.artifacts:
        client.log_artifact(run_id, str(path), record.stage)
    if record.model is not None:
        _log_model(run_id, record.model(), record.requirements)
    if record.before is None:  # else the run has ended before, and its duration is the training's
        client.set_terminated(run_id, "FINISHED")
    parent = client.get_run(run_id).data.tags[PARENT]
    client.set_terminated(parent, "FINISHED")
    return run_id


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


def _find(experiment: str, record: Record) -> Run | None:
    """Find the run that a record belongs to: in this rebuild first, then in any.

    A run whose parameters say otherwise (a model evaluated before at another threshold) is not it:
    MLflow's parameters cannot be changed, and the earlier figures are as true as the new ones.
    """
    runs = mlflow.MlflowClient().search_runs(
        [experiment], f"tags.`{KEY}` = '{record.key}'", order_by=["attributes.start_time DESC"]
    )
    given = {k: str(v)[:6000] for k, v in _flat(record.params, ".").items()}
    fitting = [r for r in runs if all(r.data.params.get(k, v) == v for k, v in given.items())]
    parent = _parent_of(experiment)
    here = [r for r in fitting if parent and r.data.tags.get(PARENT) == parent]
    elsewhere = fitting if record.stage in ("train", "evaluate") else []
    return next(iter(here + elsewhere), None)


def _create(experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """Start a run under the parent of this rebuild, which is made with the first of them."""
    client = mlflow.MlflowClient()
    parent = _parent_of(experiment)
    if parent is None:
        label = os.environ.get("DVC_EXP_NAME") or f"repro {_commit()[:7]}"
        made = client.create_run(
            experiment,
            run_name=label,
            tags=_base_tags() | {REBUILD: _rebuild(), "stage": "rebuild"},
        )
        parent = made.info.run_id
    run = client.create_run(
        experiment, run_name=name, tags=_base_tags() | {PARENT: parent} | dict(tags)
    )
    return run.info.run_id


def _end_abandoned(experiment: str, tags: Mapping[str, str]) -> None:
    """Mark runs of this rebuild as KILLED whose process was, before it could say so."""
    client = mlflow.MlflowClient()
    wanted = {PARENT: _parent_of(experiment)} | dict(tags)
    named = " and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
    for run in client.search_runs([experiment], f"{named} and attributes.status = 'RUNNING'"):
        client.set_terminated(run.info.run_id, "KILLED")


def _parent_of(experiment: str) -> str | None:
    found = mlflow.MlflowClient().search_runs([experiment], f"tags.`{REBUILD}` = '{_rebuild()}'")
    return found[0].info.run_id if found else None


def _rebuild() -> str:
    """Name this rebuild: the same commit, experiment and parameters make the same one."""
    digest = hashlib.sha256(f"{os.environ.get('DVC_EXP_NAME', '')}:{_commit()}:".encode())
    digest.update(Path("params.yaml").read_bytes())
    return digest.hexdigest()[:16]


def _experiment(settings: params.Tracking) -> str:
    """Return the id of the MLflow experiment; made where it is missing."""
    mlflow.set_tracking_uri(uri())
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(settings.experiment)
    if found is not None:
        return found.experiment_id
    # Beside the database, not in the working folder, which may be a temporary copy.
    local = (_root() / "mlartifacts").as_uri() if uri().startswith("sqlite:") else None
    tags = {VIEW_TAG: json.dumps(VIEW_STATE)}
    return client.create_experiment(settings.experiment, artifact_location=local, tags=tags)


@contextmanager
def _going_on(what: str) -> Iterator[None]:
    """Turn a failure of the tracking into a warning: results do not depend on it."""
    try:
        yield
    except (MlflowException, OSError) as error:
        log.warning(
            "MLflow at %s did not take the run of %s (%s). Nothing is lost: all of it is in the "
            "stage's outputs; `make sync` sends it once the server answers.",
            uri(), what, str(error).split("\n")[0][:200],
        )  # fmt: skip


def _tags(record: Record) -> dict[str, str]:
    """Return a record's tags: the inputs' md5 from dvc.lock, and its own."""
    locked = _locked()
    inputs = {f"dvc.md5.{p}": locked[str(p)] for p in record.inputs if str(p) in locked}
    return inputs | dict(record.tags)


def _base_tags() -> dict[str, str]:
    """Return the tags that every run has: code, experiment, machine."""
    environment = {
        "dvc.experiment": os.environ.get("DVC_EXP_NAME"),
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV"),
        "device": platform.processor() or platform.machine(),
        "version.python": platform.python_version(),
    }
    environment |= {f"version.{package}": _version(package) for package in PACKAGES}
    present = {k: v for k, v in environment.items() if v}
    return {COMMIT: _commit(), "git.dirty": str(_dirty()).lower()} | present


def _version(package: str) -> str | None:
    """Return the version of a package, None where it is not installed: one backend is enough."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _source(raw: Path) -> dict[str, str]:
    """Return the tag that says which data it was."""
    return {"source.sha256": _json(raw / "source.json")["sha256"]}


def _locked() -> dict[str, str]:
    """Return the md5 of every output and input named in dvc.lock."""
    lock = Path("dvc.lock")
    if not lock.is_file():
        return {}
    stages = yaml.safe_load(lock.read_text(encoding="utf-8")).get("stages", {}).values()
    files = [f for s in stages for f in [*s.get("deps", []), *s.get("outs", [])]]
    return {f["path"]: f["md5"] for f in files if "md5" in f}


def _root() -> Path:
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def _commit() -> str:
    return _git("rev-parse", "HEAD") or "none"


def _dirty() -> bool:
    return bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*arguments: str) -> str:
    """Ask git; empty outside of a repository."""
    answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.strip()


def _metrics(values: Mapping[str, Any], step: int) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for name, value in _numbers(values).items()]


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Flatten nested figures to ``test/auc`` keys and leave out what is not a finite number."""
    return {
        name: float(value)
        for name, value in _flat(values, "/").items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _flat(nested: Mapping[str, Any], joint: str, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings and lists of mappings to ``a.b.0.c`` keys."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            flat |= _flat(value, joint, f"{name}{joint}")
        else:
            flat[name] = value
    return flat


def _rows(table: pd.DataFrame) -> list[dict[str, float]]:
    """Return a table of numbers row by row."""
    names = [str(name) for name in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.to_numpy(dtype=float).tolist()]


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
