"""The difference between the test AUCs of two recorded runs, with its 95 % interval."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.errors import InputError
from cxr.evaluation import intervals, metrics
from tools.results.records import Record

CLEAN, PERTURBED = "probability", "perturbed_probability"


@dataclass(frozen=True)
class Difference:
    """One AUC minus another, -1 to 1, and the ends of its interval.

    Attributes:
        value: the difference.
        low: 2.5th percentile over resampled patients.
        high: 97.5th percentile.
        paired: whether both runs were tested on the same images. If so they share the resamples.
    """

    value: float
    low: float
    high: float
    paired: bool

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def difference(one: Record, other: Record, column: str = CLEAN) -> Difference:
    """Return the test AUC of ``one`` minus that of ``other``.

    Args:
        one: a record.
        other: another.
        column: CLEAN, or PERTURBED for the perturbed test set.

    Raises:
        InputError: a test set lacks a class.
    """
    ours, theirs = (record.predictions.sort_values("id") for record in (one, other))
    value = _auc(one, ours, column) - _auc(other, theirs, column)
    paired = list(ours["id"]) == list(theirs["id"])
    if paired:
        labels, patients = ours["label"].to_numpy(), ours["patient"].to_numpy()
        both = (ours[column].to_numpy(), theirs[column].to_numpy())
        found = intervals.auc_difference_interval(labels, *both, patients, one.seed)
    else:
        # Different test sets share patients at most by chance, so their draws are independent.
        draws = [_draws(rows, column, seed) for seed, rows in enumerate((ours, theirs))]
        found = intervals.interval(draws[0] - draws[1])
    low, high = found or (np.nan, np.nan)
    return Difference(value, low, high, paired)


def _auc(record: Record, rows: pd.DataFrame, column: str) -> float:
    value = metrics.auc(rows["label"].to_numpy(), rows[column].to_numpy())
    if value is None:
        message = f"the test set of {record.name} lacks a class, so it has no AUC"
        raise InputError(message)
    return value


def _draws(rows: pd.DataFrame, column: str, seed: int) -> np.ndarray:
    """Return the AUC on resampled patients, float64 [2,000]."""
    values = rows[column].to_numpy()
    return intervals.resampled(
        rows["label"].to_numpy(),
        rows["patient"].to_numpy(),
        seed,
        lambda positive, negative: {"auc": metrics.weighted_auc(positive, negative, values)},
    )["auc"]
