"""A stage's folder -> a :class:`cxr.tracking.record.Record`, the content of its MLflow run.

A record is read from stage outputs alone, because HEAD, the environment, params.yaml and
dvc.lock may have changed since the stage ran.
"""

import statistics
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from cxr import files
from cxr.errors import InputError
from cxr.labels import CLASSES, SPLITS
from cxr.tracking import datasets, metrics, notes
from cxr.tracking.provenance import NAME
from cxr.tracking.record import Record, build, milliseconds

WEIGHTS = "model.weights.h5"
TRAINED = (WEIGHTS, "architecture.json", "history.csv", "train.json")

# Outputs that no record reads; they are most of the bytes.
UNREAD = (
    "raw/xrays.zip", "tensors/*/images.npy", "weights/*/initial/*.h5", "features/*/frozen/*.npy",
    "shifted/*/validation/*.npy", "externals/*/xrays.zip",
)  # fmt: skip


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


def nothing(provenance: Mapping[str, Any]) -> str | None:
    """Return why a stage has no record, in words; None if it has one."""
    match provenance["stage"]:
        case "weights" if not any(path.endswith(".h5") for path in provenance["outputs"]):
            return "random weights"
        case "features" if not any(path.endswith(".npy") for path in provenance["outputs"]):
            return "no frozen features"
        case "shifted" if not any(path.endswith(".npy") for path in provenance["outputs"]):
            return "no shifted images"
    return None


def _download(folder: Path, provenance: Mapping[str, Any]) -> Record:
    source = files.read_json(folder / "source.json")
    return build(
        folder, provenance,
        parameters=provenance["parameters"] | {"images": source["counts"]}
        | {"bytes": source["bytes"]},
        artifacts=["source.json"],
        extra={"source.sha256": source["sha256"]},
    )  # fmt: skip


def _split(folder: Path, provenance: Mapping[str, Any]) -> Record:
    summary = files.read_json(folder / "summary.json")
    counts = {split: summary["images"].get(split, {}) for split in SPLITS}
    return build(
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
    return build(
        folder, provenance,
        parameters=provenance["parameters"] | {"image_size": provenance["item"]},
        artifacts=["contact_sheet.png", "index.csv"],
        images=datasets.listed("index.csv", provenance["outputs"], counts),
    )  # fmt: skip


def _weights(folder: Path, provenance: Mapping[str, Any]) -> Record | None:
    about = files.read_json(folder / "initial" / "weights.json")
    if about["sha256"] is None:
        return None
    return build(
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
    return build(
        folder, provenance,
        parameters=provenance["parameters"] | {"features": phases},
        artifacts=["frozen/features.json"],
    )  # fmt: skip


def _shifted(folder: Path, provenance: Mapping[str, Any]) -> Record | None:
    if nothing(provenance):
        return None
    index = files.read_csv(folder / "validation" / "index.csv")
    return build(
        folder, provenance,
        parameters=provenance["parameters"] | {"images": len(index)},
        artifacts=["validation/index.csv"],
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
    return build(
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


def _external(folder: Path, provenance: Mapping[str, Any]) -> Record:
    source = files.read_json(folder / "source.json")
    return build(
        folder, provenance,
        parameters=provenance["parameters"] | {"images": source["counts"]}
        | {"splits": source["splits"], "rejected": source["rejected"]},
        artifacts=["source.json", "images.csv", "rejected.csv"],
        extra={"source.sha256": source["sha256"]},
    )  # fmt: skip


def _shift(folder: Path, provenance: Mapping[str, Any]) -> Record:
    """Read the record of the predictions; their figures are in that of the evaluation."""
    return build(
        folder, provenance,
        parameters=provenance["parameters"], artifacts=["predictions.csv", "samples.png"],
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
    evaluate = _evaluated(own.pop("evaluate"))
    return build(
        folder, provenance,
        parameters={"evaluate": evaluate | own},
        figures=metrics.of_evaluation(figures),
        images=images,
        note=notes.written(
            f"{notes.EVALUATION} of {system}", provenance, images, notes.evaluation(figures)
        ),
        artifacts=_names(folder),
        prefix="evaluate.",
        weights=weights,
        training=training,
    )  # fmt: skip


def _ensemble(folder: Path, provenance: Mapping[str, Any]) -> Record:
    """Read the record of a mean, whose figures have the names of a system's."""
    figures = files.read_json(folder / "metrics.json")
    parameters = dict(provenance["parameters"])
    parameters["evaluate"] = _evaluated(parameters["evaluate"])
    parameters["ensembles"] = {folder.name: ", ".join(figures["members"])}
    images = datasets.listed(
        "manifest.csv", provenance["inputs"], {"test": datasets.of_rates(figures["test"])}
    )
    what = f"Mean of {', '.join(figures['members'])}"
    return build(
        folder, provenance,
        parameters=parameters,
        figures=metrics.of_evaluation(figures | {"explanations": {}}),  # it has no network
        images=images,
        note=notes.written(what, provenance, images, notes.evaluation(figures)),
        artifacts=_names(folder),
    )  # fmt: skip


def _audit(folder: Path, provenance: Mapping[str, Any]) -> Record:
    found = files.read_json(folder / "audit.json")
    shortcuts = found["shortcuts"]
    return build(
        folder, provenance,
        parameters=provenance["parameters"]
        | {"alarm": shortcuts["alarm"]}
        | {"not_assessable": metrics.not_assessable(shortcuts["groups"])},
        figures=metrics.of_audit(found),
        artifacts=_names(folder),
    )  # fmt: skip


def _compare(folder: Path, provenance: Mapping[str, Any]) -> Record:
    table = files.read_csv(folder / "comparison.csv").set_index("system")
    return build(
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
    "shifted": _shifted,
    "audit": _audit,
    "train": _train,
    "external": _external,
    "shift": _shift,
    "evaluate": _evaluate,
    "ensemble": _ensemble,
    "compare": _compare,
}


def _evaluated(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``evaluate`` of params.yaml with one parameter for all rules of the threshold.

    MLflow's runs can be told apart by it.
    """
    rule = settings["threshold"]
    if isinstance(rule, Mapping):
        rule = ", ".join(f"{key}: {value}" for key, value in rule.items())
    return {**settings, "threshold": rule}


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
