"""The curves over strengths, and the table of other images."""

from dataclasses import replace

from cxr.report import robustness
from cxr.report.results import Result
from tests.report.evidence import RATES, shifts
from tests.report.fabricate import Project


def test_a_chart_per_kind_starts_from_the_images_as_they_are(results: list[Result]) -> None:
    changed = [replace(results[0], shift=shifts(0.9)), results[1]]
    drawings = robustness.drawings(changed)
    assert [str(d.spec["title"]) for d in drawings] == ["brightness", "jpeg", "rotation"]
    frame = drawings[0].tables[0].frame
    jpeg = frame[frame["kind"] == "jpeg"]
    assert jpeg["strength"].tolist() == [5, 20, 50, 100]
    assert jpeg["auc"].iloc[-1] == 0.9
    assert "masked" not in frame.to_string()
    assert set(frame["system"]) == {results[0].name}


def test_without_shift_there_is_nothing(results: list[Result]) -> None:
    assert robustness.drawings(results) == []
    assert robustness.conditions(results) == {}


def test_conditions_of_the_systems_that_have_them(evident: Project, results: list[Result]) -> None:
    (first,) = evident.collect("vgg16_transfer")
    found = robustness.conditions([first, results[1]])
    assert list(found)[-3:] == ["Lungs masked", "All but lungs masked", "clinic"]
    assert list(found["Lungs masked"]) == ["vgg16_transfer"]
    assert found["clinic"]["vgg16_transfer"].order == RATES["auc"]
    assert found["clinic"]["vgg16_transfer"].notes[-1] == "624 images"
