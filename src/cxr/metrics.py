"""The published metrics of a binary classifier, and how far to trust them.

PNEUMONIA (label 1) is the positive class throughout. A metric that is undefined (a division by
zero, AUC with one class) is None, never 0: a 0 would be read as a bad result.
"""

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from cxr import seeding

RESAMPLES = 1000  # enough for the 2.5th and 97.5th percentiles to be steady to the third digit


def confusion(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, int]:
    """Count ``tp``, ``tn``, ``fp`` and ``fn``.

    Args:
        labels: [n], 0 or 1.
        probabilities: [n], 0 to 1.
        threshold: from here on an image counts as PNEUMONIA.
    """
    positive, predicted = labels == 1, probabilities >= threshold
    return {
        "tp": int(np.sum(positive & predicted)),
        "tn": int(np.sum(~positive & ~predicted)),
        "fp": int(np.sum(~positive & predicted)),
        "fn": int(np.sum(positive & ~predicted)),
    }


def rates(tp: int, tn: int, fp: int, fn: int) -> dict[str, float | None]:
    """Return what follows from the four counts.

    Returns:
        ``accuracy``; ``precision`` (positive predictive value) tp / (tp + fp); ``recall``
        (sensitivity) tp / (tp + fn); ``specificity`` tn / (tn + fp); ``f1``, the harmonic mean of
        precision and recall. Each 0 to 1.
    """
    return {
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def auc(labels: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Return the area under the ROC curve, 0 to 1; None where only one class is there."""
    if len(np.unique(labels)) < 2:
        return None
    return float(roc_auc_score(labels, probabilities))


def summarise(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float
) -> dict[str, float | int | None]:
    """Return all of a split's metrics: auc, the rates, and the four counts."""
    counts = confusion(labels, probabilities, threshold)
    return {"auc": auc(labels, probabilities)} | rates(**counts) | counts


def auc_interval(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, seed: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of the AUC if other patients had come.

    Whole patients are resampled with replacement (the cluster bootstrap): images of one patient
    are alike, and resampling images would make the interval too narrow.

    Args:
        labels: [n], 0 or 1.
        probabilities: [n], 0 to 1.
        patients: [n], the patient of each image.
        seed: ``seed`` of params.yaml.

    Returns:
        The 2.5th and 97.5th percentile over 1,000 resamples; None where no resample has both
        classes.
    """
    return _interval([auc for (auc,) in _resampled_aucs(labels, [probabilities], patients, seed)])


def auc_difference_interval(
    labels: np.ndarray, one: np.ndarray, other: np.ndarray, patients: np.ndarray, seed: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of AUC(one) - AUC(other), both on the same resampled patients.

    Pairing takes out what makes some patients hard for both; where 0 lies outside of the interval
    the two differ by more than the choice of patients explains.
    """
    pairs = _resampled_aucs(labels, [one, other], patients, seed)
    return _interval([first - second for first, second in pairs])


def roc_points(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return the ROC curve: threshold, fpr (1 - specificity), tpr (recall).

    No point where only one class is there: one of the two would be a division by zero.
    """
    if len(np.unique(labels)) < 2:
        return pd.DataFrame(columns=["threshold", "fpr", "tpr"], dtype=float)
    fpr, tpr, thresholds = roc_curve(labels, probabilities, drop_intermediate=True)
    return pd.DataFrame({"threshold": np.minimum(thresholds, 1.0), "fpr": fpr, "tpr": tpr})


def precision_recall_points(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return the precision-recall curve: threshold, recall, precision.

    No point without PNEUMONIA, where recall would be a division by zero.
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


def _interval(values: list[float]) -> tuple[float, float] | None:
    if not values:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _resampled_aucs(
    labels: np.ndarray, scores: list[np.ndarray], patients: np.ndarray, seed: int
) -> list[list[float]]:
    """Return, for each resample of the patients that has both classes, the AUC of each score."""
    if len(np.unique(labels)) < 2:
        return []
    names, patient = np.unique(patients, return_inverse=True)
    draws, n = seeding.generator(seed, "bootstrap"), len(names)
    drawn = [np.bincount(draws.integers(n, size=n), minlength=n) for _ in range(RESAMPLES)]
    times = np.stack(drawn)[:, patient]  # how often each image is in each resample
    positive, negative = times * (labels == 1), times * (labels == 0)
    both = positive.any(axis=1) & negative.any(axis=1)
    aucs = [_weighted_aucs(positive[both], negative[both], score) for score in scores]
    return np.stack(aucs, axis=1).tolist()


def _weighted_aucs(positive: np.ndarray, negative: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return AUCs as Mann and Whitney's U: pairs in the right order, ties counted half, of all.

    Args:
        positive: int64 [resamples, n], how often each image counts as PNEUMONIA.
        negative: the same for NORMAL.
        scores: [n].

    Returns:
        float64 [resamples].
    """
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    above, below = (np.add.reduceat(n[:, order], starts, axis=1) for n in (positive, negative))
    right = above * (below.cumsum(axis=1) - below / 2)
    return right.sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
