"""The difference between the test AUCs of two recorded runs, with its 95 % interval."""

import numpy as np
import pandas as pd

from cxr.evaluation import intervals, metrics
from cxr.report import differences
from cxr.report.differences import Difference
from tools.results.records import Record

CLEAN, PERTURBED = "probability", "perturbed_probability"


def difference(one: Record, other: Record, column: str = CLEAN) -> Difference:
    """Return the test AUC of ``one`` minus that of ``other``.

    It is paired where both were tested on the same images: they then share the resamples.

    Args:
        one: a record.
        other: another.
        column: CLEAN, or PERTURBED for the perturbed test set.
    """
    ours, theirs = (record.predictions.sort_values("id") for record in (one, other))
    if list(ours["id"]) == list(theirs["id"]):
        return differences.difference(ours, theirs, column, one.seed)
    first, second = (
        metrics.auc(r["label"].to_numpy(), r[column].to_numpy()) for r in (ours, theirs)
    )
    value = None if first is None or second is None else first - second
    # The test sets of two splits have few patients in common, so their draws are independent.
    draws = [_draws(rows, column, seed) for seed, rows in enumerate((ours, theirs))]
    return Difference(value, intervals.interval(draws[0] - draws[1]))


def _draws(rows: pd.DataFrame, column: str, seed: int) -> np.ndarray:
    """Return the AUC on resampled patients, float64 [2,000]."""
    values = rows[column].to_numpy()
    return intervals.resampled(
        rows["label"].to_numpy(),
        rows["patient"].to_numpy(),
        seed,
        lambda positive, negative: {"auc": metrics.weighted_auc(positive, negative, values)},
    )["auc"]
