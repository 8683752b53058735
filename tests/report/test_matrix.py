"""Who beats whom: each pair in both directions."""

import pandas as pd

from cxr.report.matrix import matrices

COLUMNS = ["one", "other", "metric", "difference", "p_holm", "outcome"]


def table(*rows: list[object]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=COLUMNS)


def test_both_directions() -> None:
    rows = table(["a", "b", "auc", 0.05, 0.0123, "better"], ["a", "c", "auc", 0.01, 0.5, "open"])
    (matrix,) = matrices(rows, ["c", "a", "b"])
    assert matrix.title == "AUC"
    assert list(matrix.names) == ["c", "a", "b"]
    assert (matrix.cells["a", "b"].words, matrix.cells["b", "a"].words) == ("beats", "loses to")
    assert matrix.cells["b", "a"].difference == -0.05
    assert matrix.cells["b", "a"].p == "p = 0.012"
    assert matrix.cells["c", "a"].words == "cannot say"
    assert ("b", "c") not in matrix.cells


def test_a_row_of_its_own_direction_is_kept() -> None:
    rows = table(["a", "b", "auc", 0.05, 0.01, "better"], ["b", "a", "auc", -0.04, 0.02, "worse"])
    (matrix,) = matrices(rows, ["a", "b"])
    assert matrix.cells["b", "a"].difference == -0.04


def test_an_undefined_comparison_cannot_say() -> None:
    rows = table(["a", "b", "net_benefit", float("nan"), float("nan"), "unknown"])
    (matrix,) = matrices(rows, ["a", "b"])
    assert (matrix.cells["a", "b"].kind, matrix.cells["a", "b"].p) == ("open", "")


def test_without_comparisons_there_is_no_matrix() -> None:
    assert matrices(None, ["a"]) == []
    assert matrices(table(), ["a"]) == []
