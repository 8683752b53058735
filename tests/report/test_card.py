"""The model card: the same values as the page, and what the model is not for."""

import json

from cxr.report import card
from cxr.report.answer import verdict
from cxr.report.checks import Check, checks
from cxr.report.results import Context, Result
from tests.report.fabricate import Project, with_unknown_patients


def test_it_has_the_figures_of_the_page(results: list[Result], shared: Context) -> None:
    found = card.card(results, shared, verdict(results, shared), checks(results, shared))
    auc = found["systems"][0]["metrics"]["test"]["auc"]
    test = results[0].test
    assert auc == {"value": test["auc"], "low": test["auc_low"], "high": test["auc_high"]}
    text = card.text(found)
    assert f"| {test['auc']:.3f} ({test['auc_low']:.3f} to {test['auc_high']:.3f}) |" in text
    assert "Not a medical device" in text
    assert "PNEUMONIA is the positive class" in text
    assert "doi:10.17632/rscbjbr9sj" in text
    assert "- No check of the report warns." in text
    assert json.loads(json.dumps(found)) == found


def test_warnings_are_its_limits(results: list[Result], shared: Context) -> None:
    doubtful = with_unknown_patients(shared, 3)
    warned = Check("Split", "image", "patients leak", False)
    found = card.card(results, doubtful, verdict(results, doubtful), [warned])
    assert found["limits"][0].startswith("3 of 240 images have no known patient")
    assert found["limits"][-1] == "Split: image; patients leak"
    assert "- Split: image; patients leak\n" in card.text(found)


def test_its_table_has_as_many_cells_in_every_row(evident: Project) -> None:
    results, shared = evident.collect("probe", "vgg16_transfer"), evident.context()
    found = card.card(results, shared, verdict(results, shared), [])
    lines = card.text(found).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("| system |"))
    assert len({line.count("|") for line in lines[start : start + 4]}) == 1
    assert found["systems"][0]["auc_elsewhere"]["clinic"] == 0.9
