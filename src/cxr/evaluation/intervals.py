"""95 % intervals of metrics and of their differences, by resampling patients.

Whole patients are drawn with replacement (the cluster bootstrap). Drawing images would make the
intervals too narrow, because images of one patient are alike. All metrics of a set of images, and
all systems that are compared on it, have the same resamples.
"""

from collections.abc import Callable, Mapping

import numpy as np

from cxr import seeding
from cxr.evaluation import metrics

RESAMPLES = 2000  # enough for ends that are stable to the third digit
BLOCK = 2**18  # counts of images in memory at once: about 20 MB, however many images there are

Interval = tuple[float, float]
# From weights [rows, n] of the PNEUMONIA images and of the NORMAL ones, to figures [rows].
Figures = Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]


def resampled(
    labels: np.ndarray, patients: np.ndarray, seed: int, figures: Figures
) -> dict[str, np.ndarray]:
    """Compute figures on resamples of the patients.

    Args:
        labels: [n], 0 or 1.
        patients: [n], the patient of each image.
        seed: ``seed`` of params.yaml.
        figures: computes them from weights; see :data:`Figures`.

    Returns:
        float64 [2,000] for each figure, NaN where a resample leaves it undefined; nothing for a set
        without images.
    """
    names, patient = np.unique(patients, return_inverse=True)
    draws, n = seeding.generator(seed, "bootstrap"), len(names)
    if n == 0:
        return {}
    blocks: list[Mapping[str, np.ndarray]] = []
    block = max(1, BLOCK // len(patient))
    for start in range(0, RESAMPLES, block):
        count = min(block, RESAMPLES - start)
        drawn = [np.bincount(draws.integers(n, size=n), minlength=n) for _ in range(count)]
        times = np.stack(drawn)[:, patient].astype(float)  # how often each image was drawn
        blocks.append(figures(times * (labels == 1), times * (labels == 0)))
    return {name: np.concatenate([found[name] for found in blocks]) for name in blocks[0]}


def interval(values: np.ndarray) -> Interval | None:
    """Return the 2.5th and 97.5th percentile of a resampled figure; None if it is all NaN."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def beside(
    values: Mapping[str, float | None], spread: Mapping[str, Interval | None]
) -> dict[str, float | None]:
    """Return each figure with the ends of its interval: ``auc``, ``auc_low``, ``auc_high``."""
    found: dict[str, float | None] = {}
    for name, value in values.items():
        low, high = spread.get(name) or (None, None)
        found |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return found


def of_metrics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    seed: int,
    threshold: float,
    stakes: metrics.Stakes,
) -> dict[str, Interval | None]:
    """Return the interval of each metric of :data:`cxr.evaluation.metrics.FIGURES`.

    Args:
        labels: [n], 0 or 1.
        probabilities: [n], 0 to 1.
        patients: [n], the patient of each image.
        seed: ``seed`` of params.yaml.
        threshold: the same in all resamples, since it was not chosen on these images.
        stakes: for predictive values and net benefit.
    """

    def figures(positive: np.ndarray, negative: np.ndarray) -> Mapping[str, np.ndarray]:
        return metrics.weighted(positive, negative, probabilities, threshold, stakes)

    found = resampled(labels, patients, seed, figures)
    return {name: interval(found.get(name, np.empty(0))) for name in metrics.FIGURES}


def summarise(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    seed: int,
    threshold: float,
    stakes: metrics.Stakes,
) -> dict[str, float | int | None]:
    """Return :func:`cxr.evaluation.metrics.summarise` with the ends of each metric's interval.

    Args:
        labels: [n], 0 or 1.
        probabilities: [n], 0 to 1.
        patients: [n], the patient of each image.
        seed: ``seed`` of params.yaml.
        threshold: an image at or above it counts as PNEUMONIA.
        stakes: for predictive values and net benefit.
    """
    found = metrics.summarise(labels, probabilities, threshold, stakes)
    spread = of_metrics(labels, probabilities, patients, seed, threshold, stakes)
    counts = {name: value for name, value in found.items() if name not in spread}
    return beside({name: found[name] for name in spread}, spread) | counts


def auc_interval(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, seed: int
) -> Interval | None:
    """Return the interval of an AUC; None if no resample has both classes."""

    def figures(positive: np.ndarray, negative: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"auc": metrics.weighted_auc(positive, negative, probabilities)}

    return interval(resampled(labels, patients, seed, figures).get("auc", np.empty(0)))


def auc_difference_interval(
    labels: np.ndarray, one: np.ndarray, other: np.ndarray, patients: np.ndarray, seed: int
) -> Interval | None:
    """Return the interval of AUC(one) - AUC(other), both on the same resampled patients.

    Pairing removes the variation that both share. If the interval excludes 0, the choice of
    patients does not explain the difference.
    """

    def figures(positive: np.ndarray, negative: np.ndarray) -> Mapping[str, np.ndarray]:
        first, second = (metrics.weighted_auc(positive, negative, c) for c in (one, other))
        return {"difference": first - second}

    return interval(resampled(labels, patients, seed, figures).get("difference", np.empty(0)))
