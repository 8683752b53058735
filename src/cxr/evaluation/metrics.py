"""Metrics of a binary classifier: those that the authors of the published systems report.

PNEUMONIA (label 1) is the positive class throughout. An undefined metric (a division by zero, or
AUC with one class) is None and not 0, which would read as a bad result.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve


def confusion(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, int]:
    """Count ``tp``, ``tn``, ``fp`` and ``fn``.

    Args:
        labels: [n], 0 or 1.
        probabilities: [n], 0 to 1.
        threshold: an image at or above it counts as PNEUMONIA.
    """
    positive, predicted = labels == 1, probabilities >= threshold
    return {
        "tp": int(np.sum(positive & predicted)),
        "tn": int(np.sum(~positive & ~predicted)),
        "fp": int(np.sum(~positive & predicted)),
        "fn": int(np.sum(positive & ~predicted)),
    }


def rates(tp: int, tn: int, fp: int, fn: int) -> dict[str, float | None]:
    """Return the rates computed from the four counts.

    Returns:
        ``accuracy``; ``precision`` (positive predictive value) tp / (tp + fp); ``recall``
        (sensitivity) tp / (tp + fn); ``specificity`` tn / (tn + fp); ``f1``, the harmonic mean of
        precision and recall. Each is 0 to 1, or None if it is undefined.
    """
    return {
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def auc(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the area under the ROC curve, 0 to 1; None if a class is missing."""
    if len(np.unique(labels)) < 2:
        return None
    return float(roc_auc_score(labels, probabilities))


def summarise(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float
) -> dict[str, float | int | None]:
    """Return all metrics of a split: auc, the rates and the four counts."""
    counts = confusion(labels, probabilities, threshold)
    return {"auc": auc(labels, probabilities)} | rates(**counts) | counts


def roc_points(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return the ROC curve: threshold, fpr (1 - specificity), tpr (recall).

    There are no points if a class is missing, because one of the two rates is then undefined.
    """
    if len(np.unique(labels)) < 2:
        return pd.DataFrame(columns=["threshold", "fpr", "tpr"], dtype=float)
    fpr, tpr, thresholds = roc_curve(labels, probabilities, drop_intermediate=True)
    return pd.DataFrame({"threshold": np.minimum(thresholds, 1.0), "fpr": fpr, "tpr": tpr})


def precision_recall_points(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return the precision-recall curve: threshold, recall, precision.

    There are no points without PNEUMONIA, because recall is then undefined.
    """
    if not np.any(labels == 1):
        return pd.DataFrame(columns=["threshold", "recall", "precision"], dtype=float)
    precision, recall, thresholds = precision_recall_curve(
        labels, probabilities, drop_intermediate=True
    )
    columns = {"threshold": np.append(thresholds, 1.0), "recall": recall, "precision": precision}
    return pd.DataFrame(columns)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
