"""The columns of the table: intervals, the threshold and 0.5, and what is left out."""

from dataclasses import replace
from typing import Any

from cxr.report.columns import Column, columns
from cxr.report.results import Result


def found(results: list[Result]) -> dict[str, Column]:
    return {column.label: column for column in columns(results, None)}


def with_metrics(result: Result, **changes: Any) -> Result:
    return replace(result, metrics=dict(result.metrics) | changes)


def test_a_figure_stands_above_its_interval(results: list[Result]) -> None:
    test = dict(results[0].test) | {"recall": 0.9, "recall_low": 0.8, "recall_high": 0.95}
    cell = found([with_metrics(results[0], test=test)])["Sensitivity"].cells[results[0].name]
    assert (cell.text, cell.notes[0], cell.order) == ("0.900", "0.800 to 0.950", 0.9)


def test_columns_without_figures_are_left_out(results: list[Result]) -> None:
    assert list(found(results))[:3] == ["AUC", "AUC, perturbed", "Threshold"]
    bare = [
        with_metrics(r, threshold=0.5, test={k: v for k, v in r.test.items() if k != "npv"})
        for r in results
    ]
    assert {"NPV", "Threshold"} & set(found(results)) == {"NPV", "Threshold"}
    assert not {"NPV", "Threshold"} & set(found(bare))


def test_rates_at_half_stand_below_those_at_another_threshold(results: list[Result]) -> None:
    half = {"recall": 0.75}
    other = with_metrics(results[0], threshold=0.2, test_at_half=half)
    same = with_metrics(results[0], threshold=0.5, test_at_half=half)
    assert found([other])["Sensitivity"].cells[other.name].notes[-1] == "at 0.5: 0.750"
    assert len(found([same])["Sensitivity"].cells[same.name].notes) == 1


def test_thresholds_have_a_column_if_they_differ(results: list[Result]) -> None:
    other = with_metrics(results[1], threshold=0.2)
    cells = found([with_metrics(results[0], threshold=0.5), other])["Threshold"].cells
    assert [cell.text for cell in cells.values()] == ["0.5", "0.2"]


def test_an_undefined_figure_is_a_dash_without_an_order(results: list[Result]) -> None:
    test = dict(results[0].test) | {"auc": None, "auc_low": None, "auc_high": None}
    undefined = with_metrics(results[0], test=test)
    cell = found([undefined, results[1]])["AUC"].cells[undefined.name]
    assert (cell.text, list(cell.notes), cell.order) == ("\N{EN DASH}", [], None)
