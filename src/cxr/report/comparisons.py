"""Who beats whom: every pair of systems, on the same resampled test patients."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cxr.evaluation import intervals, metrics
from cxr.report.differences import tests
from cxr.report.results import Context, Result

SPECIFICITY = 0.90  # at which sensitivities are compared, since each threshold gives another one
ALPHA = 0.05
METRICS = ("auc", "sensitivity", "net_benefit")
COLUMNS = ("one", "other", "metric", "difference", "low", "high", "p", "p_holm", "outcome")


def table(results: Sequence[Result], shared: Context) -> pd.DataFrame:
    """Compare every pair of systems by AUC, sensitivity at a specificity of 0.90, and net benefit.

    The interval and the p value of a difference come from the same resamples of patients, which
    both systems share. Not DeLong's test, because it takes images of one patient for independent.
    The p values of a metric are corrected for the number of pairs (Holm 1979).

    Args:
        results: from :func:`cxr.report.results.collect`.
        shared: from :func:`cxr.report.results.context`.

    Returns:
        One row for each pair and metric, with the columns of :data:`COLUMNS`: ``difference`` is
        ``one`` minus ``other``, and ``low`` and ``high`` its 95 % interval, not corrected;
        ``outcome`` is of ``one``: ``better`` or ``worse`` if the corrected p value is below 0.05,
        ``open`` if the data cannot say, ``unknown`` if the difference is undefined.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    found = tests(results, shared)
    pairs = list(itertools.combinations(found, 2))
    if not pairs:
        return pd.DataFrame(columns=list(COLUMNS))
    first = next(iter(found.values()))
    labels, patients = first["label"].to_numpy(), first["patient"].to_numpy()
    thresholds = {result.name: result.metrics["threshold"] for result in results}

    def figures(positive: np.ndarray, negative: np.ndarray) -> Mapping[str, np.ndarray]:
        values = {}
        for name, rows in found.items():
            given = positive, negative, rows["probability"].to_numpy()
            of_one = metrics.weighted(*given, thresholds[name], shared.stakes)
            values[f"{name} auc"] = of_one["auc"]
            values[f"{name} net_benefit"] = of_one["net_benefit"]
            values[f"{name} sensitivity"] = metrics.sensitivity_at(*given, SPECIFICITY)
        return values

    once = figures(*np.stack([labels == 1, labels == 0]).astype(float)[:, np.newaxis])
    drawn = intervals.resampled(labels, patients, shared.seed, figures)
    rows = []
    for metric in METRICS:
        compared = []
        for one, other in pairs:
            keys = f"{one} {metric}", f"{other} {metric}"
            difference = (once[keys[0]] - once[keys[1]]).item()
            spread = drawn[keys[0]] - drawn[keys[1]]
            low, high = intervals.interval(spread) or (np.nan, np.nan)
            compared.append([one, other, metric, difference, low, high, p_value(spread)])
        corrected = holm([row[-1] for row in compared])
        rows += [[*row, p, _outcome(row[3], p)] for row, p in zip(compared, corrected, strict=True)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def p_value(differences: np.ndarray) -> float:
    """Return the two-sided p value of resampled differences: of those at or beyond 0, twice.

    One is added to both counts, so that no p value is 0 (Davison and Hinkley 1997).

    Returns:
        0 to 1; NaN if all differences are NaN.
    """
    known = differences[~np.isnan(differences)]
    if not len(known):
        return float("nan")
    beyond = min(np.sum(known <= 0), np.sum(known >= 0))
    return float(min(1.0, 2 * (beyond + 1) / (len(known) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm 1979); NaN stays NaN and does not count."""
    given = np.array(p_values, dtype=float)
    order = [place for place in np.argsort(given, kind="stable") if not np.isnan(given[place])]
    corrected, highest = np.full(len(given), np.nan), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, float(given[place]) * (len(order) - rank)))
        corrected[place] = highest
    return corrected.tolist()


def _outcome(difference: float, p: float) -> str:
    if np.isnan(difference) or np.isnan(p):
        return "unknown"
    if p >= ALPHA:
        return "open"
    return "better" if difference > 0 else "worse"
