"""A stage's folder -> a :class:`Record` of what MLflow is to hold of it.

A record is read from files that DVC keeps, and from nothing else: HEAD, the environment,
params.yaml and dvc.lock may have changed since the stage ran.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from cxr import files, params
from cxr.errors import InputError
from cxr.tracking.provenance import NAME

WEIGHTS = "model.weights.h5"
TRAINED = (WEIGHTS, "architecture.json", "history.csv", "train.json")
BACKENDS = ("tensorflow", "jax")

# A tag for each input is of use up to here; provenance.json, an artifact, lists them all.
INPUT_TAGS = 100


@dataclass(frozen=True)
class Record:
    """What MLflow is to hold of one run of a stage.

    Attributes:
        id: of the stage's provenance.
        folder: of the stage's outputs.
        stage: its name in dvc.yaml.
        item: the system or the image size, where the stage has one run for each.
        experiment: MLflow's, as it was called when the stage ran.
        started: milliseconds since 1970.
        ended: milliseconds since 1970.
        params: by dotted name.
        tags: by name.
        metrics: finite numbers, by names such as ``test/auc``.
        epochs: the metrics of each epoch, with the time of its end in milliseconds since 1970.
        artifacts: names of files in the folder.
        has_model: whether the folder holds a Keras model to log.
        requirements: what the model needs to be loaded, such as ``keras==3.15.1``.
        weights: system and MD5 of the trained weights: what a training and an evaluation share.
        training: the record of the evaluated model's training, where it lies here.
    """

    id: str
    folder: Path
    stage: str
    item: str | None
    experiment: str
    started: int
    ended: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    artifacts: Sequence[str]
    epochs: Sequence[tuple[int, Mapping[str, float]]] = ()
    has_model: bool = False
    requirements: Sequence[str] = ()
    weights: str | None = None
    training: "Record | None" = None

    @property
    def name(self) -> str:
        """Return a name for people."""
        return " ".join(filter(None, (self.stage, self.item)))


def of(folder: Path) -> Record | None:
    """Read the record of the stage that a folder is of.

    Args:
        folder: such as ``splits`` or ``models/vgg16_transfer``, with its provenance.json.

    Returns:
        The record; None where there is nothing to log, as of the weights stage for random weights.

    Raises:
        InputError: a file is missing, or was written by another version of this project.
    """
    note = files.read_json(folder / NAME)
    try:
        return _READERS[note["stage"]](folder, note)
    except (KeyError, TypeError, AttributeError) as error:
        message = (
            f"{folder} was written by another version of this project ({error!r}): "
            "rebuild it with `dvc repro --force`"
        )
        raise InputError(message) from error


def tags(note: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that a provenance, finished or just started, gives to a run."""
    inputs = note["inputs"] if len(note["inputs"]) <= INPUT_TAGS else {}
    named = {
        "mlflow.source.git.commit": note["git"]["commit"],
        "git.changed": str(bool(note["git"]["changed"])).lower(),
        "dvc.experiment": note["dvc"]["experiment"],
        "dvc.baseline": note["dvc"]["baseline"],
        "device": note.get("device"),
        **{f"version.{name}": number for name, number in note.get("versions", {}).items()},
        **{f"dvc.md5.{path}": md5 for path, md5 in inputs.items()},
    }
    return {name: value for name, value in named.items() if value is not None}


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Flatten nested figures to ``test/auc`` names; what is not a finite number is left out."""
    return {
        name: float(value)
        for name, value in _flat(values, "/").items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def milliseconds(moment: str) -> int:
    """Return an ISO time as MLflow counts it: milliseconds since 1970."""
    return round(1000 * datetime.fromisoformat(moment).timestamp())


def _download(folder: Path, note: Mapping[str, Any]) -> Record:
    source = files.read_json(folder / "source.json")
    return _record(
        folder, note,
        parameters=note["parameters"],
        metrics={"images": source["counts"], "bytes": source["bytes"]},
        artifacts=["source.json"],
        extra={"source.sha256": source["sha256"]},
    )  # fmt: skip


def _split(folder: Path, note: Mapping[str, Any]) -> Record:
    return _record(
        folder, note,
        parameters=note["parameters"],
        metrics=files.read_json(folder / "summary.json"),
        artifacts=["summary.json", "manifest.csv", "rejected.csv"],
    )  # fmt: skip


def _preprocess(folder: Path, note: Mapping[str, Any]) -> Record:
    return _record(
        folder, note,
        parameters=note["parameters"] | {"image_size": note["item"]},
        metrics={"images": len(files.read_csv(folder / "index.csv"))},
        artifacts=["contact_sheet.png", "index.csv"],
    )  # fmt: skip


def _weights(folder: Path, note: Mapping[str, Any]) -> Record | None:
    about = files.read_json(folder / "weights.json")
    if about["sha256"] is None:
        return None
    return _record(
        folder, note,
        parameters={"backbone": about["backbone"], "weights": about["weights"]},
        artifacts=["weights.json"],
        extra={"weights.sha256": about["sha256"]},
    )  # fmt: skip


def _train(folder: Path, note: Mapping[str, Any]) -> Record:
    about, training = files.read_json(folder / "train.json"), note["training"]
    history = files.read_csv(folder / "history.csv").drop(columns=["epoch", "phase"])
    seconds = training["seconds_per_epoch"]
    begun = milliseconds(note["started"])
    ends = [begun + round(1000 * passed) for passed in accumulate(seconds)]
    rows = [numbers({str(k): v for k, v in row.items()}) for row in history.to_dict("records")]
    phases = sorted(path.relative_to(folder).as_posix() for path in (folder / "phases").iterdir())
    backend = [training["backend"]] if "backend" in training else BACKENDS
    return _record(
        folder, note,
        parameters=about["system"]
        | {"seed": about["seed"], "freeze_blocks": about["freeze_blocks"]}
        | {"class_weight": about["class_weights"] or "none", "policy": training["policy"]},
        metrics={
            "parameters": about["parameters"],
            "epochs": about["epochs"],
            "seconds": training["seconds"],
            "seconds_per_epoch": statistics.median(seconds),
            "images": about["images"],
        },
        artifacts=[*TRAINED, *phases],
        extra={"weights.sha256": about["weights_sha256"]},
        epochs=list(zip(ends, rows, strict=True)),
        has_model=True,
        requirements=[
            f"{package}=={note['versions'][package]}"
            for package in ("keras", *backend)
            if package in note["versions"]
        ],
        weights=f"{folder.name}:{note['outputs'][(folder / WEIGHTS).as_posix()]}",
    )  # fmt: skip


def _evaluate(folder: Path, note: Mapping[str, Any]) -> Record:
    system = folder.name
    figures = files.read_json(folder / "metrics.json")
    trained = folder.parents[1] / "models" / system
    weights = f"{system}:{note['inputs'][(trained / WEIGHTS).as_posix()]}"
    training = of(trained) if (trained / NAME).is_file() else None
    if training is not None and training.weights != weights:
        training = None  # trained again since: these figures are of the model before
    # Training's parameters stand in the same run, as does its provenance.
    own = dict(note["parameters"])
    return _record(
        folder, note,
        parameters={"evaluate": own.pop("evaluate") | own},
        metrics={k: figures[k] for k in (*params.SPLITS, "perturbed", "phases")},
        artifacts=_names(folder),
        prefix="evaluate.",
        weights=weights,
        training=training,
    )  # fmt: skip


def _compare(folder: Path, note: Mapping[str, Any]) -> Record:
    table = files.read_csv(folder / "comparison.csv").set_index("system")
    return _record(
        folder, note,
        parameters={"systems": ", ".join(note["parameters"]["systems"])},
        metrics={str(k): v for k, v in table.select_dtypes("number").to_dict("index").items()},
        artifacts=_names(folder),
    )  # fmt: skip


_READERS: dict[str, Callable[[Path, Mapping[str, Any]], Record | None]] = {
    "download": _download,
    "split": _split,
    "preprocess": _preprocess,
    "weights": _weights,
    "train": _train,
    "evaluate": _evaluate,
    "compare": _compare,
}


def _record(
    folder: Path,
    note: Mapping[str, Any],
    parameters: Mapping[str, Any],
    artifacts: Iterable[str],
    metrics: Mapping[str, Any] | None = None,
    extra: Mapping[str, str] | None = None,
    prefix: str = "",
    **more: Any,
) -> Record:
    """Put together what the records of all stages have in common."""
    everything = tags(note) | dict(extra or {})
    system = {"system": folder.name} if note["stage"] in ("weights", "train", "evaluate") else {}
    return Record(
        id=note["id"],
        folder=folder,
        stage=note["stage"],
        item=note["item"],
        experiment=note["mlflow_experiment"],
        started=milliseconds(note["started"]),
        ended=milliseconds(note["ended"]),
        params={name: str(value) for name, value in _flat(parameters, ".").items()},
        tags=system | {f"{prefix}{name}": value for name, value in everything.items()},
        metrics=numbers(metrics or {}),
        artifacts=list(dict.fromkeys([*artifacts, NAME])),
        **more,
    )


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


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
