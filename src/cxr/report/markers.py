"""Test AUC among the images with a large marker, and among the others.

A marker often tells the scanner. If one scanner made far more images of one class than of the
other, a network may take its look for the disease, and is then worse among its images than overall.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr.evaluation import intervals, metrics
from cxr.labels import CLASSES
from cxr.report.differences import tests
from cxr.report.results import Context, Result

COLUMNS = ("system", "large_marker", "normal", "pneumonia", "auc", "auc_low", "auc_high")


def table(results: Sequence[Result], shared: Context) -> pd.DataFrame:
    """Return the AUC of each system in both groups.

    Args:
        results: from :func:`cxr.report.results.collect`.
        shared: from :func:`cxr.report.results.context`; its ``markers`` list the images.

    Returns:
        Two rows for each system, with the columns of :data:`COLUMNS`: ``large_marker``, yes or no;
        the number of images of each class; the AUC with its 95 % interval over resampled patients,
        NaN where a class is missing. No rows without an audit, or if no test image has one.

    Raises:
        InputError: systems were tested on other images than the manifest's.
    """
    rows: list[dict[str, Any]] = []
    marked = set() if shared.markers is None else set(shared.markers["id"])
    for name, tested in tests(results, shared).items():
        if marked & set(tested["id"]):
            rows += [{"system": name} | row for row in groups(tested, marked, shared.seed)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def groups(tested: pd.DataFrame, marked: set[str], seed: int) -> list[dict[str, Any]]:
    """Return the figures of a system in both groups, those of the marked images first.

    Args:
        tested: id, label, patient and probability of each test image.
        marked: the ids of the images with a large marker.
        seed: ``seed`` of params.yaml, for the resampling of patients.
    """
    found = []
    inside = tested["id"].isin(marked)
    for word, of_group in {"yes": tested[inside], "no": tested[~inside]}.items():
        labels, probabilities, patients = (
            of_group[column].to_numpy() for column in ("label", "probability", "patient")
        )
        ends = intervals.auc_interval(labels, probabilities, patients, seed) or (np.nan, np.nan)
        auc = metrics.auc(labels, probabilities)
        figures = (np.nan if auc is None else auc, *ends)
        counts = [int((labels == label).sum()) for label in range(len(CLASSES))]
        found.append(dict(zip(COLUMNS[1:], (word, *counts, *figures), strict=True)))
    return found


def by_group(found: pd.DataFrame | None, audit: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what the page shows of :func:`table`; None if there is nothing.

    Returns:
        ``groups``: by yes and no, ``normal``, ``pneumonia`` and ``systems`` with their figures; and
        ``training``: by class, the ``marked`` and ``all`` training images.
    """
    if found is None or found.empty or audit is None:
        return None
    return {
        "groups": {
            word: {
                "normal": int(rows["normal"].iloc[0]),
                "pneumonia": int(rows["pneumonia"].iloc[0]),
                "systems": rows.set_index("system").to_dict("index"),
            }
            for word, rows in found.groupby("large_marker", sort=False)
        },
        "training": {
            name: {
                "marked": audit["large_markers"]["train"][name],
                "all": audit["balance"]["train"][name],
            }
            for name in CLASSES
        },
    }
