"""Calibration and conformal sets, as the page shows them."""

from dataclasses import replace

from cxr.report.confidence import confidence
from cxr.report.results import Result
from tests.report.fabricate import Project


def test_a_measure_stands_above_what_calibration_makes_of_it(evident: Project) -> None:
    (result,) = evident.collect("probe")
    found = confidence([result])
    slope = found["Calibration slope"]["probe"]
    assert (slope.text, slope.order) == ("0.625", 0.625)
    assert slope.notes == ["temperature: 1.000", "Platt: 1.000"]
    assert found["Conformal coverage"]["probe"].notes == ["0.900 to 0.970"]
    assert found["Cannot tell"]["probe"].text == "0.125"


def test_an_undefined_measure_is_a_dash(evident: Project) -> None:
    (result,) = evident.collect("probe")
    none = {**result.metrics["calibration"]["none"], "slope": None}
    changed = replace(result, metrics={**result.metrics, "calibration": {"none": none}})
    cell = confidence([changed])["Calibration slope"]["probe"]
    assert (cell.text, cell.order) == ("\N{EN DASH}", None)


def test_files_without_them_have_no_columns(results: list[Result]) -> None:
    bare = [result for result in results if "calibration" not in result.metrics]
    assert confidence(bare) == {}
