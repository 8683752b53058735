"""The numbers of a run: which of a stage's figures become MLflow metrics, and their names."""

import math
from collections.abc import Mapping
from typing import Any

# The metrics that MLflow gets; metrics.json, history.csv and comparison.csv, among the artifacts,
# have the rest. MLflow's page of a run has a section of charts for each prefix, sorted by name:
# `epoch` comes first, with the curves of training in its first row and those of validation in its
# second.
CURVES = ("accuracy", "auc", "loss")
TEST = (
    "auc", "auc_low", "auc_high", "average_precision", "accuracy", "balanced_accuracy", "precision",
    "npv", "recall", "specificity", "mcc", "brier", "net_benefit",
)  # fmt: skip
EVALUATED = {
    "train": ("auc", "accuracy"),
    "val": ("auc", "accuracy"),
    "test": TEST,
    "perturbed": ("auc", "auc_low", "auc_high", "accuracy"),
    "test_at_half": ("accuracy",),
    "conformal": ("coverage", "undecided"),
    "explanations": ("centre_share", "randomised_correlation"),
}
CALIBRATION = ("slope", "ece")  # of the probabilities as they are
# Of the key `shift` of metrics.json, by their names in MLflow.
SHIFTED = {
    "val_auc": ("validation", "shifted_auc"),
    "test_auc": ("curve", "shifted_auc"),
    "lungs_masked_auc": ("masked", "centre", "auc"),
    "outside_masked_auc": ("masked", "outside", "auc"),
}
COMPARED = ("auc", "accuracy", "perturbed_auc")


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Flatten nested metrics to names like ``test/auc``; only finite numbers are returned."""
    return {
        name: float(value)
        for name, value in flat(values, "/").items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def of_evaluation(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of metrics.json that MLflow gets, nested."""
    picked: dict[str, Any] = {
        part: {name: figures[part].get(name) for name in names} for part, names in EVALUATED.items()
    }
    picked["threshold"] = figures["threshold"]
    picked["calibration"] = {name: figures["calibration"]["none"][name] for name in CALIBRATION}
    picked["shift"] = of_shift(figures["shift"])
    return picked


def of_shift(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures under shift for MLflow from the key ``shift`` of metrics.json.

    Args:
        found: from :func:`cxr.evaluation.shift.evaluate`.
    """
    figures = {}
    for name, path in SHIFTED.items():
        value: Any = found
        for part in path:
            value = value.get(part, {})
        figures[name] = value
    external = found.get("external", {})
    return figures | {f"external_{name}_auc": of_one["auc"] for name, of_one in external.items()}


def of_epoch(row: Mapping[str, Any]) -> dict[str, float]:
    """Return an epoch's metrics for MLflow from a row of history.csv or Keras's logs."""
    curves = {f"epoch/{side}{name}" for side in ("", "val_") for name in CURVES}
    curves |= {"epoch/shifted_loss"}  # of a phase that restores by it
    named = {f"epoch/{name}": value for name, value in numbers(row).items()}
    rate = {"schedule/learning_rate": named.get("epoch/learning_rate")}
    return numbers({name: value for name, value in named.items() if name in curves} | rate)


def of_audit(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of audits/audit.json that one compares between archives and splits."""
    copies, leak = found["duplicates"], found["leak"] or {}
    sets = found["shortcuts"]["sets"].items()
    return {
        "patients_in_two_splits": found["patients"]["in_two_splits"],
        "duplicates": {kind: copies[kind]["groups"] for kind in ("exact", "near")},
        "duplicates_in_test_and_rest": copies["in_test_and_rest"],
        "image_level_leak": leak.get("mean"),
        "suspects": found["suspects"]["suspects"] if found["suspects"]["assessable"] else None,
        "shortcuts": {
            name: {split: rated[split]["auc"] for split in ("val", "test") if rated[split]}
            for name, rated in sets
        },
    }


def not_assessable(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the names of the shortcuts that an archive cannot show, or ``none``."""
    return ", ".join(name for name, rated in groups.items() if not rated["assessable"]) or "none"


def flat(nested: Mapping[str, Any], joint: str = ".", prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings and lists of mappings to keys like ``a.b.0.c``, as in params.yaml."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            found |= flat(value, joint, f"{name}{joint}")
        else:
            found[name] = value
    return found
