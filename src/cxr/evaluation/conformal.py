"""Conformal sets: the classes that cannot be ruled out for an image, or "cannot tell".

Split conformal prediction with a quantile for each class (Vovk and others 2005, mondrian; Sadinle
and others 2019): of new images of a class like those of validation, at least 1 - ALPHA have their
own class in the set.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cxr.evaluation import intervals
from cxr.evaluation.metrics import divide, known
from cxr.labels import CLASSES

ALPHA = 0.05  # the share of images whose own class may be missing from the set


def quantiles(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the lowest probability of its own class that an image needs, for each class.

    Args:
        labels: [n], 0 or 1, of validation.
        probabilities: [n], of PNEUMONIA, 0 to 1.

    Returns:
        float64 [2], NORMAL first. 0, which rules nothing out, for a class with fewer images than
        the 19 that a guarantee of 95 % needs.
    """
    found = np.zeros(2)
    for label, own in enumerate((1 - probabilities, probabilities)):
        scores = np.sort(own[labels == label])
        # The images that may be lower: floor((n + 1) * ALPHA), one less than the rank kept.
        rank = int(np.floor((len(scores) + 1) * ALPHA + 1e-9))
        if rank >= 1:
            found[label] = scores[rank - 1]
    return found


def sets(probabilities: np.ndarray, lowest: np.ndarray) -> np.ndarray:
    """Return which classes are in each image's set, bool [n, 2].

    Args:
        probabilities: [n], of PNEUMONIA.
        lowest: from :func:`quantiles`.
    """
    own = np.stack([1 - probabilities, probabilities], axis=1)
    return own >= lowest - 1e-12


def evaluate(
    val: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    patients: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    """Take the quantiles from validation and measure the sets of the test set.

    Args:
        val: labels and probabilities of validation.
        test: those of the test set, each [n].
        patients: [n], the patient of each test image.
        seed: ``seed`` of params.yaml.

    Returns:
        ``alpha``; ``quantiles`` by class; and, each with ``_low`` and ``_high``: ``coverage``, the
        share of images whose class is in their set; ``coverage_NORMAL`` and ``coverage_PNEUMONIA``;
        ``undecided``, the share whose set is not one class; and ``accuracy_of_decided``, of the
        rest. None where undefined.
    """
    labels, probabilities = test
    lowest = quantiles(*val)
    members = sets(probabilities, lowest)
    covered = members[np.arange(len(labels)), labels].astype(float)
    decided = (members.sum(axis=1) == 1).astype(float)

    def figures(positive: np.ndarray, negative: np.ndarray) -> Mapping[str, np.ndarray]:
        times = positive + negative
        return {
            "coverage": divide(times @ covered, times.sum(axis=1)),
            "coverage_NORMAL": divide(negative @ covered, negative.sum(axis=1)),
            "coverage_PNEUMONIA": divide(positive @ covered, positive.sum(axis=1)),
            "undecided": 1 - divide(times @ decided, times.sum(axis=1)),
            "accuracy_of_decided": divide(times @ (decided * covered), times @ decided),
        }

    once = np.stack([labels == 1, labels == 0]).astype(float)[:, np.newaxis]
    values = known({name: value.item() for name, value in figures(*once).items()})
    spread = intervals.resampled(labels, patients, seed, figures)
    return {
        "alpha": ALPHA,
        "quantiles": dict(zip(CLASSES, lowest.tolist(), strict=True)),
        **intervals.beside(values, {name: intervals.interval(v) for name, v in spread.items()}),
    }
