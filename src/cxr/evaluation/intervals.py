"""Intervals of an AUC and of the difference of two AUCs, by resampling patients."""

import numpy as np

from cxr import seeding

RESAMPLES = 1000  # enough for ends that are stable to the third digit
BLOCK = 2**18  # counts of images in memory at once: about 20 MB, however many images there are


def auc_interval(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, seed: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of the AUC over resampled patients.

    Whole patients are drawn with replacement (the cluster bootstrap). Drawing images would make the
    interval too narrow, because images of one patient are alike.

    Args:
        labels: [n], 0 or 1.
        probabilities: [n], 0 to 1.
        patients: [n], the patient of each image.
        seed: ``seed`` of params.yaml.

    Returns:
        The 2.5th and 97.5th percentile over 1,000 resamples; None if no resample has both classes.
    """
    return _interval([auc for (auc,) in _resampled_aucs(labels, [probabilities], patients, seed)])


def auc_difference_interval(
    labels: np.ndarray, one: np.ndarray, other: np.ndarray, patients: np.ndarray, seed: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of AUC(one) - AUC(other), both on the same resampled patients.

    Pairing removes the variation that both share. If the interval excludes 0, the choice of
    patients does not explain the difference.
    """
    pairs = _resampled_aucs(labels, [one, other], patients, seed)
    return _interval([first - second for first, second in pairs])


def _interval(values: list[float]) -> tuple[float, float] | None:
    if not values:
        return None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _resampled_aucs(
    labels: np.ndarray, columns: list[np.ndarray], patients: np.ndarray, seed: int
) -> list[list[float]]:
    """Return the AUC of each column, for each resample of patients that has both classes."""
    if len(np.unique(labels)) < 2:
        return []
    names, patient = np.unique(patients, return_inverse=True)
    draws, n = seeding.generator(seed, "bootstrap"), len(names)
    found: list[list[float]] = []
    block = max(1, BLOCK // len(patient))
    for start in range(0, RESAMPLES, block):
        count = min(block, RESAMPLES - start)
        drawn = [np.bincount(draws.integers(n, size=n), minlength=n) for _ in range(count)]
        times = np.stack(drawn)[:, patient]  # how often each image was drawn
        positive, negative = times * (labels == 1), times * (labels == 0)
        both = positive.any(axis=1) & negative.any(axis=1)
        aucs = [_weighted_aucs(positive[both], negative[both], column) for column in columns]
        found += np.stack(aucs, axis=1).tolist()
    return found


def _weighted_aucs(
    positive: np.ndarray, negative: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """Return AUCs by Mann-Whitney's U: the share of pairs in the right order, a tie as half.

    Args:
        positive: int64 [resamples, n], how often each PNEUMONIA image was drawn.
        negative: the same for NORMAL images.
        probabilities: [n].

    Returns:
        float64 [resamples].
    """
    order = np.argsort(probabilities, kind="stable")
    _, starts = np.unique(probabilities[order], return_index=True)
    above, below = (np.add.reduceat(n[:, order], starts, axis=1) for n in (positive, negative))
    right = above * (below.cumsum(axis=1) - below / 2)
    return right.sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
