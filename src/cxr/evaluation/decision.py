"""The decision curve: what acting on a model's probabilities is worth, by threshold."""

import numpy as np
import pandas as pd

from cxr.evaluation.metrics import divide, net_benefit

THRESHOLDS = np.arange(1, 100) / 100


def curve(labels: np.ndarray, probabilities: np.ndarray, prevalence: float | None) -> pd.DataFrame:
    """Return the decision curve (Vickers and Elkin 2006).

    A doctor who treats at a probability of 0.1 holds nine needless treatments to be worth one
    missed pneumonia; the curve has the net benefit of the model for each such view, beside that of
    treating everyone and of treating no one.

    Args:
        labels: [n], 0 or 1.
        probabilities: [n], 0 to 1.
        prevalence: share of PNEUMONIA; None for that of the labels.

    Returns:
        One row for each threshold from 0.01 to 0.99: threshold, net_benefit, treat_all and
        treat_none (0). No rows if a class is missing.
    """
    columns = ["threshold", "net_benefit", "treat_all", "treat_none"]
    ill, well = np.sort(probabilities[labels == 1]), np.sort(probabilities[labels == 0])
    if not len(ill) or not len(well):
        return pd.DataFrame(columns=columns, dtype=float)
    share = len(ill) / len(labels) if prevalence is None else prevalence
    sensitivity = 1 - divide(np.searchsorted(ill, THRESHOLDS), len(ill))
    specificity = divide(np.searchsorted(well, THRESHOLDS), len(well))
    harm = THRESHOLDS / (1 - THRESHOLDS)
    values = [
        THRESHOLDS,
        net_benefit(sensitivity, specificity, share, harm),
        net_benefit(1.0, 0.0, share, harm),
        np.zeros(len(THRESHOLDS)),
    ]
    return pd.DataFrame(dict(zip(columns, values, strict=True)))
