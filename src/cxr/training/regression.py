"""Logistic regression on features in which each patient weighs the same, without Keras."""

from typing import Any

import numpy as np

ITERATIONS = 2000  # at most; L-BFGS needs 20 to 300 at the strengths of params.yaml


def patient_weights(patients: np.ndarray, labels: np.ndarray, balanced: bool) -> np.ndarray:
    """Return a weight for each image, so that each patient weighs 1.

    Args:
        patients: [n], the patient of each image.
        labels: [n], 0 or 1.
        balanced: scale the weights of each class so that both have the same sum; the sum of all
            stays the number of patients.

    Returns:
        float64 [n].
    """
    _, patient, images = np.unique(patients, return_inverse=True, return_counts=True)
    weights = 1 / images[patient]
    if balanced:
        sums = np.bincount(labels, weights, minlength=2)
        weights *= sums.sum() / (np.count_nonzero(sums) * sums[labels])
    return weights


def statistics(inputs: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean and standard deviation of each feature, to standardise it with.

    Args:
        inputs: float64 [n, m].
        weights: [n], from :func:`patient_weights`.

    Returns:
        Two arrays float64 [m]. The deviation of a constant is infinite: it tells nothing, and
        becomes 0.
    """
    mean = np.average(inputs, axis=0, weights=weights)
    scale = np.sqrt(np.average((inputs - mean) ** 2, axis=0, weights=weights))
    scale[inputs.min(axis=0) == inputs.max(axis=0)] = np.inf
    return mean, scale


def fit(inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray, strength: float) -> Any:
    """Fit scikit-learn's ``LogisticRegression``.

    It minimises the log loss plus half the strength times the squared norm of the coefficients.

    Args:
        inputs: float64 [n, m], standardised with :func:`statistics`.
        labels: [n], 0 and 1, both of which occur.
        weights: [n], from :func:`patient_weights`.
        strength: of the penalty, above 0: 1 / C of scikit-learn.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    model = LogisticRegression(C=1 / strength, tol=1e-6, max_iter=ITERATIONS)
    return model.fit(inputs, labels, sample_weight=weights)
