"""A stage's folder -> a :class:`Record`, the content of its MLflow run.

A record is read from stage outputs alone, because HEAD, the environment, params.yaml and
dvc.lock may have changed since the stage ran.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from cxr import files
from cxr.errors import InputError
from cxr.labels import CLASSES, SPLITS
from cxr.tracking import datasets, metrics, notes
from cxr.tracking.datasets import Dataset
from cxr.tracking.provenance import NAME, title

WEIGHTS = "model.weights.h5"
TRAINED = (WEIGHTS, "architecture.json", "history.csv", "train.json")

# Outputs that no record reads; they are most of the bytes.
UNREAD = (
    "raw/xrays.zip", "tensors/*/images.npy", "weights/*/initial/*.h5", "features/*/frozen/*.npy",
)  # fmt: skip

# The tags of the run as a whole. An evaluation in its training's run does not change them.
OF_RUN = ("mlflow.user", "mlflow.source.name", "mlflow.source.type")

# A stage with more inputs has no tags for them; the artifact provenance.json lists them all.
INPUT_TAGS = 100


@dataclass(frozen=True)
class Record:
    """The content of the MLflow run of one execution of a stage.

    Attributes:
        id: of the stage's provenance.
        folder: of the stage's outputs.
        stage: its name in dvc.yaml.
        item: the system or the image size, for a stage with one run for each.
        experiment: name of the MLflow experiment when the stage ran.
        started: milliseconds since 1970.
        ended: milliseconds since 1970.
        params: by dotted name.
        tags: by name.
        metrics: finite numbers, by name, for example ``test/auc``.
        note: the run's description, in Markdown.
        datasets: the images that the stage used or made.
        epochs: for each epoch, its end in milliseconds since 1970 and its metrics, for example
            ``epoch/val_loss``.
        artifacts: names of files in the folder.
        has_model: whether the folder holds a Keras model to log.
        requirements: packages that loading the model needs, for example ``keras==3.15.1``.
        weights: system and MD5 of the trained weights, equal for a training and its evaluations.
        training: of an evaluation, the record of the model's training, if ``models/`` has it.
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
    note: str = ""
    datasets: Sequence[Dataset] = ()
    epochs: Sequence[tuple[int, Mapping[str, float]]] = ()
    has_model: bool = False
    requirements: Sequence[str] = ()
    weights: str | None = None
    training: "Record | None" = None

    @property
    def name(self) -> str:
        """The run's name in the UI."""
        return " ".join(filter(None, (self.stage, self.item)))


def of(folder: Path) -> Record | None:
    """Read the record of the stage that wrote a folder.

    Args:
        folder: for example ``models/vgg16_transfer``, with its provenance.json.

    Returns:
        The record; None for a stage with nothing to log; see :func:`nothing`.

    Raises:
        InputError: a file is missing, or was written by another version of this project.
    """
    provenance = files.read_json(folder / NAME)
    try:
        return _READERS[provenance["stage"]](folder, provenance)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        message = (
            f"{folder} was written by another version of this project ({error!r}): "
            "rebuild it with `dvc repro --force`"
        )
        raise InputError(message) from error


def tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return a run's tags from its provenance, which may be that of an unfinished stage."""
    inputs = provenance["inputs"] if len(provenance["inputs"]) <= INPUT_TAGS else {}
    named = {
        "mlflow.user": provenance.get("user"),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": f"stages/{provenance['stage']}.py",
        "mlflow.source.git.commit": provenance["git"]["commit"],
        "git.changed": str(bool(provenance["git"]["changed"])).lower(),
        "dvc.experiment": provenance["dvc"]["experiment"],
        "dvc.baseline": provenance["dvc"]["baseline"],
        "device": provenance.get("device"),
        "cores": str(provenance["cores"]) if "cores" in provenance else None,
        **{f"version.{name}": number for name, number in provenance.get("versions", {}).items()},
        **{f"dvc.md5.{path}": md5 for path, md5 in inputs.items()},
    }
    return {name: value for name, value in named.items() if value is not None}


def nothing(provenance: Mapping[str, Any]) -> str | None:
    """Return why a stage has no record, in words: random weights, no features; otherwise None."""
    match provenance["stage"]:
        case "weights" if not any(path.endswith(".h5") for path in provenance["outputs"]):
            return "random weights"
        case "features" if not any(path.endswith(".npy") for path in provenance["outputs"]):
            return "no frozen features"
    return None


def milliseconds(moment: str) -> int:
    """Return an ISO time in milliseconds since 1970, as MLflow expects it."""
    return round(1000 * datetime.fromisoformat(moment).timestamp())


def _download(folder: Path, provenance: Mapping[str, Any]) -> Record:
    source = files.read_json(folder / "source.json")
    return _record(
        folder, provenance,
        parameters=provenance["parameters"] | {"images": source["counts"]}
        | {"bytes": source["bytes"]},
        artifacts=["source.json"],
        extra={"source.sha256": source["sha256"]},
    )  # fmt: skip


def _split(folder: Path, provenance: Mapping[str, Any]) -> Record:
    summary = files.read_json(folder / "summary.json")
    counts = {split: summary["images"].get(split, {}) for split in SPLITS}
    return _record(
        folder, provenance,
        parameters=provenance["parameters"]
        | {name: value for name, value in summary.items() if isinstance(value, int)},
        artifacts=["summary.json", "manifest.csv", "rejected.csv"],
        images=datasets.listed("manifest.csv", provenance["outputs"], counts),
    )  # fmt: skip


def _preprocess(folder: Path, provenance: Mapping[str, Any]) -> Record:
    index = files.read_csv(folder / "index.csv")
    counts = {
        split: {
            name: int(((index["split"] == split) & (index["label"] == label)).sum())
            for label, name in enumerate(CLASSES)
        }
        for split in SPLITS
    }
    return _record(
        folder, provenance,
        parameters=provenance["parameters"] | {"image_size": provenance["item"]},
        artifacts=["contact_sheet.png", "index.csv"],
        images=datasets.listed("index.csv", provenance["outputs"], counts),
    )  # fmt: skip


def _weights(folder: Path, provenance: Mapping[str, Any]) -> Record | None:
    about = files.read_json(folder / "initial" / "weights.json")
    if about["sha256"] is None:
        return None
    return _record(
        folder, provenance,
        parameters={"backbone": about["backbone"], "weights": about["weights"]},
        artifacts=["initial/weights.json"],
        extra={"weights.sha256": about["sha256"]},
    )  # fmt: skip


def _features(folder: Path, provenance: Mapping[str, Any]) -> Record | None:
    if nothing(provenance):
        return None
    about = files.read_json(folder / "frozen" / "features.json")
    read = ("layer", "views", "policy", "dtype")
    phases = {
        phase: {key: about["files"][name][key] for key in read}
        for phase, name in about["phases"].items()
    }
    return _record(
        folder, provenance,
        parameters=provenance["parameters"] | {"features": phases},
        artifacts=["frozen/features.json"],
    )  # fmt: skip


def _train(folder: Path, provenance: Mapping[str, Any]) -> Record:
    about = files.read_json(folder / "train.json")
    training, versions = provenance["training"], provenance["versions"]
    history = files.read_csv(folder / "history.csv").drop(columns=["epoch", "phase"])
    images = datasets.listed("index.csv", provenance["inputs"], about["images"])
    what, result = notes.training(about)
    seconds = training["seconds_per_epoch"]
    begun = milliseconds(provenance["started"])
    ends = [begun + round(1000 * passed) for passed in accumulate(seconds)]
    rows = [
        metrics.of_epoch({str(k): v for k, v in row.items()}) for row in history.to_dict("records")
    ]
    phases = sorted(path.relative_to(folder).as_posix() for path in (folder / "phases").iterdir())
    return _record(
        folder, provenance,
        parameters=about["system"]
        | {"seed": about["seed"], "freeze_blocks": about["freeze_blocks"]}
        | {"class_weight": about["class_weights"] or "none", "policy": training["policy"]}
        | {"parameters": about["parameters"]},
        figures={
            "epochs": about["epochs"],
            "seconds": training["seconds"],
            "seconds_per_epoch": statistics.median(seconds),
        },
        images=images,
        note=notes.written(
            f"{notes.TRAINING} of {folder.name}: {what}", provenance, images, result
        ),
        artifacts=[*TRAINED, *phases],
        extra={"weights.sha256": about["weights_sha256"]},
        epochs=list(zip(ends, rows, strict=True)),
        has_model=True,
        requirements=[
            f"{package}=={versions[package]}"
            for package in ("keras", training["backend"])
            if package in versions
        ],
        weights=f"{folder.name}:{provenance['outputs'][f'models/{folder.name}/{WEIGHTS}']}",
    )  # fmt: skip


def _evaluate(folder: Path, provenance: Mapping[str, Any]) -> Record:
    system = folder.name
    figures = files.read_json(folder / "metrics.json")
    trained = folder.parents[1] / "models" / system
    weights = f"{system}:{provenance['inputs'][f'models/{system}/{WEIGHTS}']}"
    images = datasets.listed(
        "index.csv", provenance["inputs"], {"test": datasets.of_rates(figures["test"])}
    )
    training = of(trained) if (trained / NAME).is_file() else None
    if training is not None and training.weights != weights:
        training = None  # the system was trained again; these metrics are of the previous model
    # The run also has the training's parameters and provenance, hence the prefixes.
    own = dict(provenance["parameters"])
    return _record(
        folder, provenance,
        parameters={"evaluate": own.pop("evaluate") | own},
        figures={
            split: {name: figures[split].get(name) for name in names}
            for split, names in metrics.EVALUATED.items()
        },
        images=images,
        note=notes.written(
            f"{notes.EVALUATION} of {system}", provenance, images, notes.evaluation(figures)
        ),
        artifacts=_names(folder),
        prefix="evaluate.",
        weights=weights,
        training=training,
    )  # fmt: skip


def _audit(folder: Path, provenance: Mapping[str, Any]) -> Record:
    found = files.read_json(folder / "audit.json")
    shortcuts = found["shortcuts"]
    return _record(
        folder, provenance,
        parameters=provenance["parameters"]
        | {"alarm": shortcuts["alarm"]}
        | {"not_assessable": metrics.not_assessable(shortcuts["groups"])},
        figures=metrics.of_audit(found),
        artifacts=_names(folder),
    )  # fmt: skip


def _compare(folder: Path, provenance: Mapping[str, Any]) -> Record:
    table = files.read_csv(folder / "comparison.csv").set_index("system")
    return _record(
        folder, provenance,
        parameters={"systems": ", ".join(provenance["parameters"]["systems"])},
        figures={str(k): v for k, v in table[list(metrics.COMPARED)].to_dict("index").items()},
        artifacts=_names(folder),
    )  # fmt: skip


_READERS: dict[str, Callable[[Path, Mapping[str, Any]], Record | None]] = {
    "download": _download,
    "split": _split,
    "preprocess": _preprocess,
    "weights": _weights,
    "features": _features,
    "audit": _audit,
    "train": _train,
    "evaluate": _evaluate,
    "compare": _compare,
}


def _record(
    folder: Path,
    provenance: Mapping[str, Any],
    parameters: Mapping[str, Any],
    artifacts: Iterable[str],
    figures: Mapping[str, Any] | None = None,
    images: Sequence[Dataset] = (),
    note: str | None = None,
    extra: Mapping[str, str] | None = None,
    prefix: str = "",
    **more: Any,
) -> Record:
    """Build a record: the parts that all stages share, and those given."""
    everything = tags(provenance) | dict(extra or {})
    if prefix:
        everything = {name: v for name, v in everything.items() if name not in OF_RUN}
    of_system = ("weights", "features", "train", "evaluate")
    system = {"system": folder.name} if provenance["stage"] in of_system else {}
    return Record(
        id=provenance["id"],
        folder=folder,
        stage=provenance["stage"],
        item=provenance["item"],
        experiment=provenance["mlflow_experiment"],
        started=milliseconds(provenance["started"]),
        ended=milliseconds(provenance["ended"]),
        params={name: str(value) for name, value in metrics.flat(parameters).items()},
        tags=system | {f"{prefix}{name}": value for name, value in everything.items()},
        metrics=metrics.numbers(figures or {}),
        artifacts=list(dict.fromkeys([*artifacts, NAME])),
        datasets=images,
        note=note or notes.written(f"Stage {title(provenance)}", provenance, images),
        **more,
    )


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
