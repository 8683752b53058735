"""Sensitivity by subtype of pneumonia, bacteria or virus, at each system's threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr.evaluation import intervals
from cxr.evaluation.metrics import divide
from cxr.report.differences import tests
from cxr.report.results import Context, Result

COLUMNS = ("system", "subtype", "images", "sensitivity", "low", "high")


def table(results: Sequence[Result], shared: Context) -> pd.DataFrame:
    """Return the sensitivity on the test images of each subtype.

    Args:
        results: from :func:`cxr.report.results.collect`.
        shared: from :func:`cxr.report.results.context`; the manifest has the subtypes.

    Returns:
        One row for each system and subtype, with the columns of :data:`COLUMNS`: ``low`` and
        ``high`` are the ends of the 95 % interval over resampled patients. No rows where file names
        do not tell the subtype.

    Raises:
        InputError: systems were tested on other images than the manifest's.
    """
    of_images = shared.manifest.set_index("id")["subtype"]
    rows: list[list[object]] = []
    thresholds = {result.name: result.metrics["threshold"] for result in results}
    for name, tested in tests(results, shared).items():
        subtype = tested["id"].map(of_images).to_numpy()
        found = (tested["probability"] >= thresholds[name]).to_numpy(float)
        for kind in sorted(set(subtype) - {""}):
            of_kind = (subtype == kind).astype(float)

            def sensitivity(
                positive: np.ndarray,
                negative: np.ndarray,
                of_kind: np.ndarray = of_kind,
                found: np.ndarray = found,
            ) -> Mapping[str, np.ndarray]:
                return {"": divide(positive @ (of_kind * found), positive @ of_kind)}

            labels, patients = tested["label"].to_numpy(), tested["patient"].to_numpy()
            once = sensitivity((labels == 1)[np.newaxis].astype(float), np.empty(0))[""].item()
            drawn = intervals.resampled(labels, patients, shared.seed, sensitivity)[""]
            low, high = intervals.interval(drawn) or (np.nan, np.nan)
            rows.append([name, kind, int(of_kind.sum()), once, low, high])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def by_subtype(found: pd.DataFrame | None) -> dict[str, dict[str, Any]]:
    """Return the page's table from :func:`table`: of each subtype ``images`` and ``systems``."""
    if found is None:
        return {}
    return {
        str(subtype): {
            "images": int(rows["images"].iloc[0]),
            "systems": rows.set_index("system").to_dict("index"),
        }
        for subtype, rows in found.groupby("subtype", sort=False)
    }
