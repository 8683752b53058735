"""Who beats whom: a matrix of all systems for each metric of comparisons.csv."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

TITLES = {"auc": "AUC", "sensitivity": "Sensitivity at equal specificity",
          "net_benefit": "Net benefit"}  # fmt: skip
_WORDS = {"beats": "beats", "loses": "loses to", "open": "cannot say"}
_KINDS = {"better": "beats", "worse": "loses"}
_REVERSE = {"beats": "loses", "loses": "beats", "open": "open"}


@dataclass(frozen=True)
class Cell:
    """A row's system against a column's.

    Attributes:
        kind: ``beats``, ``loses`` or ``open``.
        difference: metric of the row minus that of the column.
        p: the corrected p value in words.
    """

    kind: str
    difference: float
    p: str

    @property
    def words(self) -> str:
        """The outcome in words."""
        return _WORDS[self.kind]


@dataclass(frozen=True)
class Matrix:
    """All comparisons by one metric.

    Attributes:
        title: the metric.
        names: the systems, in the order of the report.
        cells: by row and column.
    """

    title: str
    names: Sequence[str]
    cells: Mapping[tuple[str, str], Cell]


def matrices(comparisons: pd.DataFrame | None, names: Sequence[str]) -> list[Matrix]:
    """Return one matrix a metric.

    Args:
        comparisons: one, other, metric, difference, p_holm, outcome (of ``one``: ``better``,
            ``worse``, or another word where the data cannot say); or None.
        names: the systems of the report; others are left out.
    """
    if comparisons is None:
        return []
    found = []
    for metric, rows in comparisons.groupby("metric", sort=False):
        cells: dict[tuple[str, str], Cell] = {}
        for row in rows.to_dict("records"):
            one, other, difference = row["one"], row["other"], float(row["difference"])
            kind, p = _KINDS.get(str(row["outcome"]), "open"), _p(row["p_holm"])
            cells.setdefault((other, one), Cell(_REVERSE[kind], -difference, p))
            cells[one, other] = Cell(kind, difference, p)
        compared = [name for name in names if any(name in pair for pair in cells)]
        found.append(Matrix(TITLES.get(str(metric), str(metric)), compared, cells))
    return found


def _p(value: float) -> str:
    if pd.isna(value):
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
