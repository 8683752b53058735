"""Metrics of a binary classifier, for a set of images or for many resamples of it at once.

PNEUMONIA (label 1) is the positive class throughout. An undefined metric (a division by zero, or
AUC with one class) is NaN, and None in a result, but never 0, which would read as a bad result.

F1 is not among them: it depends on which class is called positive, ignores true negatives, and is
neither a proper score nor one of decision analysis (Van Calster and others 2025).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from cxr.errors import InputError

# The names of :func:`weighted`, in the order of a result.
FIGURES = (
    "auc", "average_precision", "accuracy", "balanced_accuracy", "precision", "recall",
    "specificity", "ppv", "npv", "mcc", "brier", "net_benefit",
)  # fmt: skip


@dataclass(frozen=True)
class Stakes:
    """What a decision is worth where the model would be used.

    Systems with thresholds of their own are compared by one exchange rate: a threshold on
    probabilities that are not calibrated does not tell what its user holds a miss to be worth.

    Attributes:
        prevalence: share of PNEUMONIA, 0 to 1; None for that of the images.
        false_alarms_per_miss: the number of false alarms that are as bad as one miss.
    """

    prevalence: float | None
    false_alarms_per_miss: float


EVEN = Stakes(None, 1.0)


def weighted(
    positive: np.ndarray,
    negative: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    stakes: Stakes,
) -> dict[str, np.ndarray]:
    """Return all metrics of weighted images, for each row of weights.

    Args:
        positive: [rows, n], the weight of each PNEUMONIA image and 0 for NORMAL, for example how
            often it was drawn.
        negative: the same for NORMAL images.
        probabilities: [n], 0 to 1.
        threshold: an image at or above it counts as PNEUMONIA.
        stakes: for ppv, npv and net_benefit.

    Returns:
        float64 [rows] for each name of :data:`FIGURES`: area under the ROC curve; average
        precision; those of :func:`rates`; positive and negative predictive value at the
        prevalence; Brier score, the mean squared error, 0 (best) to 1; and net benefit, see
        :func:`net_benefit`. NaN where undefined.
    """
    tied = _tied(positive, negative, probabilities)
    predicted = (probabilities >= threshold).astype(float)
    tp, fp = positive @ predicted, negative @ predicted
    all_positive, all_negative = positive.sum(axis=1), negative.sum(axis=1)
    found = rates(tp, all_negative - fp, fp, all_positive - tp)
    share = stakes.prevalence
    if share is None:
        share = divide(all_positive, all_positive + all_negative)
    sensitivity, specificity = found["recall"], found["specificity"]
    ill, well = sensitivity * share, specificity * (1 - share)  # rightly called ill and well
    errors = positive @ (1 - probabilities) ** 2 + negative @ probabilities**2
    return {
        "auc": _mann_whitney(*tied),
        "average_precision": _average_precision(*tied),
        **found,
        "ppv": divide(ill, ill + (1 - specificity) * (1 - share)),
        "npv": divide(well, well + (1 - sensitivity) * share),
        "brier": divide(errors, all_positive + all_negative),
        "net_benefit": net_benefit(
            sensitivity, specificity, share, 1 / stakes.false_alarms_per_miss
        ),
    }


def weighted_auc(
    positive: np.ndarray, negative: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """Return ``auc`` of :func:`weighted` alone, float64 [rows], in a fraction of its time."""
    return _mann_whitney(*_tied(positive, negative, probabilities))


def rates(tp: Any, tn: Any, fp: Any, fn: Any) -> dict[str, Any]:
    """Return the rates computed from the four counts, each a number or an array.

    Returns:
        ``accuracy``; ``balanced_accuracy``, the mean of recall and specificity; ``precision`` tp /
        (tp + fp); ``recall`` (sensitivity) tp / (tp + fn); ``specificity`` tn / (tn + fp); ``mcc``,
        Matthews's correlation, -1 to 1. The others are 0 to 1; NaN where undefined.
    """
    tp, tn, fp, fn = (np.asarray(count, dtype=float) for count in (tp, tn, fp, fn))
    recall, specificity = divide(tp, tp + fn), divide(tn, tn + fp)
    scale = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {
        "accuracy": divide(tp + tn, tp + tn + fp + fn),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": divide(tp, tp + fp),
        "recall": recall,
        "specificity": specificity,
        "mcc": divide(tp * tn - fp * fn, scale),
    }


def net_benefit(sensitivity: Any, specificity: Any, prevalence: Any, harm: Any) -> Any:
    """Return the net benefit of acting on a model (Vickers and Elkin 2006).

    It is the share of patients rightly called ill, minus the share wrongly called ill times the
    harm of a false alarm. 0 is the benefit of calling nobody ill; the highest possible is the
    prevalence.

    Args:
        sensitivity: 0 to 1, a number or an array, as the others.
        specificity: 0 to 1.
        prevalence: share of PNEUMONIA, 0 to 1.
        harm: of a false alarm, as a fraction of that of a miss.
    """
    return sensitivity * prevalence - (1 - specificity) * (1 - prevalence) * harm


def sensitivity_at(
    positive: np.ndarray, negative: np.ndarray, probabilities: np.ndarray, specificity: float
) -> np.ndarray:
    """Return the highest sensitivity of any threshold with at least this specificity.

    Args:
        positive: [rows, n], the weights of PNEUMONIA images, as for :func:`weighted`.
        negative: the same of NORMAL images.
        probabilities: [n].
        specificity: 0 to 1.

    Returns:
        float64 [rows]; NaN if a class is missing.
    """
    called = [_by_value(n, -probabilities).cumsum(axis=1) for n in (positive, negative)]
    true, false = (divide(n, n[:, -1:]) for n in called)
    # Counts are whole numbers, so that a rate equal to the limit may miss it by rounding alone.
    best = np.where(1 - false >= specificity - 1e-9, true, 0.0).max(axis=1)
    return np.where(np.isnan(true[:, -1]) | np.isnan(false[:, -1]), np.nan, best)


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


def auc(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the area under the ROC curve, 0 to 1; None if a class is missing."""
    if len(np.unique(labels)) < 2:
        return None
    return float(roc_auc_score(labels, probabilities))


def summarise(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float, stakes: Stakes = EVEN
) -> dict[str, float | int | None]:
    """Return all metrics of a set of images, and the four counts.

    Args:
        labels: [n], 0 or 1; at least one.
        probabilities: [n], 0 to 1.
        threshold: an image at or above it counts as PNEUMONIA.
        stakes: for ppv, npv and net_benefit.
    """
    positive, negative = (labels == 1)[np.newaxis].astype(float), (labels == 0)[np.newaxis]
    found = weighted(positive, negative.astype(float), probabilities, threshold, stakes)
    counts = confusion(labels, probabilities, threshold)
    return known({name: found[name].item() for name in FIGURES}) | counts


def check(rows: pd.DataFrame, column: str = "probability") -> None:
    """Check that all probabilities are numbers.

    Args:
        rows: one per prediction, with the column ``id``.
        column: of the probabilities.

    Raises:
        InputError: one is NaN or infinite; the message names the images.
    """
    wrong = list(dict.fromkeys(rows.loc[~np.isfinite(rows[column].to_numpy(float)), "id"]))
    if wrong:
        more = f" and {len(wrong) - 3:,} more" if len(wrong) > 3 else ""
        message = (
            f"the model's probability is NaN for {', '.join(map(str, wrong[:3]))}{more}: its "
            "training diverged; lower the learning rate and train it again"
        )
        raise InputError(message)


def known(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Return figures with None instead of NaN, as they are written."""
    return {name: None if math.isnan(value) else float(value) for name, value in figures.items()}


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


def divide(part: Any, whole: Any) -> Any:
    """Return a quotient of numbers or arrays, NaN where the divisor is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)[()]


def _tied(
    positive: np.ndarray, negative: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of each class at each probability, the lowest first."""
    return _by_value(positive, probabilities), _by_value(negative, probabilities)


def _by_value(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the sums of the weights [rows, n] of equal values [n], from the lowest value up."""
    if not len(values):
        return np.zeros((len(weights), 1))
    order = np.argsort(values, kind="stable")
    _, starts = np.unique(values[order], return_index=True)
    return np.add.reduceat(weights[:, order], starts, axis=1)


def _mann_whitney(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Return AUCs by Mann-Whitney's U: the share of pairs in the right order, a tie as half.

    Args:
        positive: [rows, values], the weight of PNEUMONIA at each probability, the lowest first.
        negative: the same of NORMAL.
    """
    right = positive * (negative.cumsum(axis=1) - negative / 2)
    return divide(right.sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def _average_precision(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Return the mean of the precision at each probability, weighted by the gain in recall."""
    true, false = (n[:, ::-1].cumsum(axis=1) for n in (positive, negative))
    precision = np.nan_to_num(divide(true, true + false))  # of no image above: it gains nothing
    return divide((positive[:, ::-1] * precision).sum(axis=1), true[:, -1])
