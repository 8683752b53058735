"""Evaluate one trained model: compute its metrics and write them to files."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import files
from cxr.evaluation import intervals, metrics
from cxr.evaluation.predictions import Predictions
from cxr.labels import CLASSES


def evaluate(predictions: Predictions, threshold: float, seed: int) -> dict[str, Any]:
    """Compute the metrics of each split, of the perturbed test set and of each phase.

    Args:
        predictions: from :func:`cxr.evaluation.predictions.predict`.
        threshold: an image at or above it counts as PNEUMONIA, 0 to 1.
        seed: ``seed`` of params.yaml, for the resampling of patients.

    Returns:
        ``threshold``; the metrics of ``train``, ``val``, ``test`` and ``perturbed`` (the perturbed
        test set), see :func:`cxr.evaluation.metrics.summarise`; and ``phases``, with ``test`` and
        ``perturbed`` after each phase. ``test`` and ``perturbed`` also have ``auc_low`` and
        ``auc_high``, the interval of the AUC, or None if it is undefined.
    """
    result: dict[str, Any] = {"threshold": threshold}
    for split in ("train", "val"):
        rows = predictions.images[predictions.images["split"] == split]
        labels, probabilities = rows["label"].to_numpy(), rows["probability"].to_numpy()
        result[split] = metrics.summarise(labels, probabilities, threshold)
    phases = {
        phase: {
            "test": _with_interval(rows, "probability", threshold, seed),
            "perturbed": _with_interval(rows, "perturbed_probability", threshold, seed),
        }
        for phase, rows in predictions.phases.groupby("phase", sort=False)
    }
    last = list(phases)[-1]
    return result | phases[last] | {"phases": phases}


def write(predictions: Predictions, result: dict[str, Any], folder: Path) -> None:
    """Write metrics.json, predictions.csv, phases.csv, and the points of the test set's curves.

    Args:
        predictions: from :func:`cxr.evaluation.predictions.predict`.
        result: from :func:`evaluate`.
        folder: for example ``evaluations/vgg16_transfer``.
    """
    images = predictions.images.drop(columns="patient")
    test = images[images["split"] == "test"]
    labels, probabilities = test["label"].to_numpy(), test["probability"].to_numpy()
    names, predicted = np.array(CLASSES), probabilities >= result["threshold"]
    tables = {
        "predictions.csv": images,
        "phases.csv": predictions.phases.drop(columns="patient"),
        "roc.csv": metrics.roc_points(labels, probabilities),
        "precision_recall.csv": metrics.precision_recall_points(labels, probabilities),
        "confusion.csv": pd.DataFrame(
            {"actual": names[labels], "predicted": names[predicted.astype(int)]}
        ),
    }
    for name, table in tables.items():
        files.write_csv(folder / name, table)
    files.write_json(folder / "metrics.json", result)


def _with_interval(
    rows: pd.DataFrame, column: str, threshold: float, seed: int
) -> dict[str, float | int | None]:
    """Return the metrics of a column of probabilities and the interval of its AUC."""
    labels, probabilities = rows["label"].to_numpy(), rows[column].to_numpy()
    interval = intervals.auc_interval(labels, probabilities, rows["patient"].to_numpy(), seed)
    low, high = interval or (None, None)
    return metrics.summarise(labels, probabilities, threshold) | {"auc_low": low, "auc_high": high}
