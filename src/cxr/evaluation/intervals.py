"""Intervals: how far an AUC, or a difference of two, would move had other patients come."""

import numpy as np

from cxr import seeding

RESAMPLES = 1000  # enough for the 2.5th and 97.5th percentiles to be steady to the third digit


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
