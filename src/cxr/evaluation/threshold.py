"""Choose the threshold on validation; it is then locked and applied to every other image."""

import numpy as np

from cxr import params
from cxr.errors import InputError


def choose(
    labels: np.ndarray, probabilities: np.ndarray, rule: float | str | params.Sensitivity
) -> float:
    """Return the threshold at or above which an image counts as PNEUMONIA.

    A threshold lies midway between two neighbouring probabilities, so that it does not depend on
    the last digit of one of them.

    Args:
        labels: [n], 0 or 1, of the validation images.
        probabilities: [n], 0 to 1.
        rule: ``evaluate.threshold`` of params.yaml. A number is the threshold itself. ``youden``:
            the highest sensitivity + specificity (Youden 1950); of thresholds that tie the lowest,
            which has the highest sensitivity. A sensitivity: the highest threshold that reaches
            it; the lowest if none does.

    Returns:
        Between 0 and 1, both excluded.

    Raises:
        InputError: validation has no image of a class that the rule needs.
    """
    if isinstance(rule, int | float):
        return float(rule)
    needed = (0, 1) if rule == "youden" else (1,)
    if not np.isin(needed, labels).all():
        message = (
            f"evaluate.threshold: {rule!r} cannot be chosen, because validation has no image of "
            "one class: give a number, for example 0.5"
        )
        raise InputError(message)
    cuts = _cuts(probabilities)
    sensitivity = 1 - _below(probabilities[labels == 1], cuts)
    if isinstance(rule, params.Sensitivity):
        return float(cuts[sensitivity >= rule.sensitivity].max(initial=cuts[0]))
    both = np.round(sensitivity + _below(probabilities[labels == 0], cuts), 9)  # against rounding
    return float(cuts[both == both.max()].min())


def _cuts(probabilities: np.ndarray) -> np.ndarray:
    """Return the thresholds that give different results, the lowest first: all of them are ill."""
    values = np.unique(np.concatenate([[0.0], probabilities, [1.0]]))
    return (values[1:] + values[:-1]) / 2


def _below(probabilities: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Return the share of probabilities below each threshold."""
    return np.searchsorted(np.sort(probabilities), cuts) / len(probabilities)
