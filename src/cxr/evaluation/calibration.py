"""Calibration: whether a probability of 0.8 means PNEUMONIA in 8 of 10 images.

Two ways to mend it are fitted on validation and applied to the test set. Neither changes the order
of the images, and so neither changes the AUC. The model itself stays as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from cxr.evaluation.metrics import divide, known

BINS = 10
SMALLEST = 1e-7  # predictions are rounded to 7 digits; a probability of 0 has no logit
TEMPERATURES = (0.02, 50.0)  # where one class is separated from the other, the best one is 0


@dataclass(frozen=True)
class Method:
    """A way to calibrate.

    Attributes:
        settings: what was fitted; empty for the model as it is.
        apply: from probabilities [n] to calibrated ones, float64 [n].
    """

    settings: Mapping[str, float]
    apply: Callable[[np.ndarray], np.ndarray]


def fit(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Method]:
    """Fit temperature and Platt scaling.

    Temperature scaling divides logits by one number (Guo and others 2017), Platt scaling gives them
    a slope and an intercept (Platt 1999). Platt's targets, (N+ + 1) / (N+ + 2) and 1 / (N- + 2)
    instead of 1 and 0, keep both finite where validation is separated perfectly.

    Args:
        labels: [n], 0 or 1, of validation.
        probabilities: [n], 0 to 1.

    Returns:
        ``none``, the probabilities as they are; and, if both classes are there, ``temperature`` and
        ``platt``.
    """
    methods = {"none": Method({}, lambda given: given)}
    if len(np.unique(labels)) < 2:
        return methods
    scores = _logits(probabilities)

    def loss(log_temperature: float) -> float:
        return log_loss(labels, expit(scores / np.exp(log_temperature)))

    temperature = float(np.exp(minimize_scalar(loss, bounds=np.log(TEMPERATURES)).x))
    positive, negative = np.sum(labels == 1), np.sum(labels == 0)
    target = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    slope, intercept = _logistic(scores, target)
    return methods | {
        "temperature": Method(
            {"temperature": temperature}, lambda given: expit(_logits(given) / temperature)
        ),
        "platt": Method(
            {"slope_fitted": slope, "intercept_fitted": intercept},
            lambda given: expit(slope * _logits(given) + intercept),
        ),
    }


def measure(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """Measure how well probabilities are calibrated.

    Args:
        labels: [n], 0 or 1.
        probabilities: [n], 0 to 1.

    Returns:
        ``slope`` and ``intercept`` (Cox 1958; Van Calster and others 2019): of a logistic
        regression on the logits, 1 if the probabilities are as extreme as they should be and below
        1 if they are too extreme; and the shift of the logits, at a slope of 1, that makes their
        mean right, 0 if it is. ``brier``; ``log_loss``; and ``ece``, see :func:`expected_error`.
        None where undefined: the slope if the classes are separated perfectly, slope and intercept
        if one is missing.
    """
    slope, intercept = _slope_and_intercept(labels, probabilities)
    return known(
        {
            "slope": slope,
            "intercept": intercept,
            "brier": float(np.mean((probabilities - labels) ** 2)),
            "log_loss": log_loss(labels, probabilities),
            "ece": expected_error(labels, probabilities),
        }
    )


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> pd.DataFrame:
    """Return the reliability diagram: ten bins of equal width.

    Bins of equal width and not of equal counts, because a good network's probabilities are nearly
    all close to 0 or to 1: bins of equal counts would all lie there.

    Returns:
        One row per bin: low and high, its ends; mean_probability and frequency (the share of
        PNEUMONIA), NaN in an empty bin; and count.
    """
    place = _bins(probabilities)
    count = np.bincount(place, minlength=BINS)
    ends = np.arange(BINS + 1) / BINS
    return pd.DataFrame(
        {
            "low": ends[:-1],
            "high": ends[1:],
            "mean_probability": divide(np.bincount(place, probabilities, BINS), count),
            "frequency": divide(np.bincount(place, labels, BINS), count),
            "count": count,
        }
    )


def expected_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the expected calibration error, 0 to 1 (Guo and others 2017).

    It is the mean over the bins of :func:`reliability` of the distance between frequency and mean
    probability, weighted by the number of images.

    Args:
        labels: [n], 0 or 1, n at least 1.
        probabilities: [n], 0 to 1.
    """
    gaps = np.bincount(_bins(probabilities), probabilities - labels, BINS)
    return float(np.abs(gaps).sum() / len(labels))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean negative log likelihood; a probability counts as at least 1e-7."""
    likely = np.where(labels == 1, probabilities, 1 - probabilities)
    return float(-np.log(np.clip(likely, SMALLEST, 1)).mean())


def _bins(probabilities: np.ndarray) -> np.ndarray:
    """Return the bin of each probability; the last bin includes 1."""
    return np.minimum((probabilities * BINS).astype(int), BINS - 1)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return logit(np.clip(probabilities, SMALLEST, 1 - SMALLEST))


def _slope_and_intercept(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Return calibration slope and intercept; NaN where undefined."""
    scores = _logits(probabilities)
    if len(np.unique(labels)) < 2:
        return float("nan"), float("nan")
    intercept = brentq(lambda shift: float(np.sum(expit(scores + shift) - labels)), -100, 100)
    ill, well = scores[labels == 1], scores[labels == 0]
    separated = ill.min() >= well.max() or ill.max() <= well.min()
    slope = float("nan") if separated else _logistic(scores, labels.astype(float))[0]
    return slope, intercept


def _logistic(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Fit targets, 0 to 1, to scores by logistic regression; return slope and intercept."""
    both = np.concatenate([scores, scores])[:, np.newaxis]
    labels = np.repeat([1, 0], len(scores))
    weights = np.concatenate([targets, 1 - targets])
    used = weights > 0
    fitted = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
        both[used], labels[used], sample_weight=weights[used]
    )
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
