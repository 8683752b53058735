"""Evaluate one trained model: compute its metrics and write them to files."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import files, params
from cxr.evaluation import (
    calibration,
    conformal,
    decision,
    intervals,
    metrics,
    shift,
    threshold,
)
from cxr.evaluation.predictions import Predictions
from cxr.labels import CLASSES

HALF = 0.5  # the threshold of the published systems


def evaluate(
    predictions: Predictions, shifted: pd.DataFrame, settings: params.Evaluate, seed: int
) -> dict[str, Any]:
    """Choose the threshold on validation, and compute all metrics at it.

    Args:
        predictions: from :func:`cxr.evaluation.inference.predict`.
        shifted: ``shifts/<system>/predictions.csv``, for a threshold from validation under shift.
        settings: how the threshold is chosen, and the prevalence.
        seed: ``seed`` of params.yaml, for the resampling of patients.

    Returns:
        ``threshold``, ``threshold_rule``, ``threshold_from``, ``prevalence`` and
        ``false_alarms_per_miss``; the metrics of ``train``, ``val``, ``test`` and ``perturbed``
        (the perturbed test set), see :func:`cxr.evaluation.metrics.summarise`; ``test_at_half``,
        those of the test set at 0.5;
        ``phases``, with ``test`` and ``perturbed`` after each phase; ``calibration``, measured on
        the test set, and ``conformal``. ``test``, ``perturbed`` and ``test_at_half`` also have the
        ends of each metric's interval, ``auc_low`` and ``auc_high``. Undefined figures are None.

    Raises:
        InputError: a probability is not a number, or the threshold cannot be chosen.
    """
    images = predictions.images
    metrics.check(images, "probability")
    metrics.check(predictions.phases, "probability")
    metrics.check(predictions.phases, "perturbed_probability")
    val, test = _of(images, "val"), _of(images, "test")
    chosen_on = shift.shifted_validation(shifted) if settings.threshold_from == "shifted" else val
    cut = threshold.choose(*chosen_on, settings.threshold)
    stakes = metrics.Stakes(settings.prevalence, settings.false_alarms_per_miss)

    def with_intervals(rows: pd.DataFrame, column: str, at: float) -> dict[str, Any]:
        labels, probabilities, patients = (
            rows[name].to_numpy() for name in ("label", column, "patient")
        )
        return intervals.summarise(labels, probabilities, patients, seed, at, stakes)

    phases = {
        phase: {
            "test": with_intervals(rows, "probability", cut),
            "perturbed": with_intervals(rows, "perturbed_probability", cut),
        }
        for phase, rows in predictions.phases.groupby("phase", sort=False)
    }
    tested = images[images["split"] == "test"]
    methods = calibration.fit(*val)
    return {
        "threshold": cut,
        "threshold_rule": settings.model_dump(mode="json")["threshold"],
        "threshold_from": settings.threshold_from,
        "prevalence": settings.prevalence,
        "false_alarms_per_miss": settings.false_alarms_per_miss,
        "train": metrics.summarise(*_of(images, "train"), cut, stakes),
        "val": metrics.summarise(*val, cut, stakes),
        **phases[list(phases)[-1]],
        "test_at_half": with_intervals(tested, "probability", HALF),
        "phases": phases,
        "calibration": {
            name: {**method.settings, **calibration.measure(test[0], method.apply(test[1]))}
            for name, method in methods.items()
        },
        "conformal": conformal.evaluate(val, test, tested["patient"].to_numpy(), seed),
    }


def write(predictions: Predictions, result: dict[str, Any], folder: Path) -> None:
    """Write metrics.json, predictions.csv, phases.csv, and the points of the test set's curves.

    Args:
        predictions: from :func:`cxr.evaluation.inference.predict`.
        result: from :func:`evaluate`.
        folder: for example ``evaluations/vgg16_transfer``.
    """
    images = predictions.images
    labels, probabilities = test = _of(images, "test")
    names, predicted = np.array(CLASSES), probabilities >= result["threshold"]
    tables = {
        "predictions.csv": images.drop(columns="patient"),
        "phases.csv": predictions.phases.drop(columns="patient"),
        "roc.csv": metrics.roc_points(*test),
        "precision_recall.csv": metrics.precision_recall_points(*test),
        "confusion.csv": pd.DataFrame(
            {"actual": names[labels], "predicted": names[predicted.astype(int)]}
        ),
        "reliability.csv": _reliability(_of(images, "val"), test),
        "decision.csv": decision.curve(*test, result["prevalence"]),
    }
    for name, table in tables.items():
        files.write_csv(folder / name, table)
    files.write_json(folder / "metrics.json", result)


def _of(images: pd.DataFrame, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and probabilities of a split."""
    rows = images[images["split"] == split]
    return rows["label"].to_numpy(), rows["probability"].to_numpy()


def _reliability(
    val: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> pd.DataFrame:
    """Return the reliability diagrams of the test set, one per method of calibration."""
    tables = []
    for name, method in calibration.fit(*val).items():
        table = calibration.reliability(test[0], method.apply(test[1]))
        table.insert(0, "method", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
