"""The section on ensembles: against the best member on validation, and only if there are some."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr.errors import InputError
from cxr.evaluation import intervals
from cxr.report import differences, ensembles, wording
from cxr.report.results import Context, Ensemble, Result
from tests.report.fabricate import Project, render
from tests.report.test_page import section

NAMES = ("probe", "vgg16_transfer", "vgg16_scratch")


@pytest.fixture(scope="module")
def members(evident: Project) -> list[Result]:
    return evident.collect(*NAMES)


@pytest.fixture(scope="module")
def known(evident: Project) -> Context:
    return evident.context()


@pytest.fixture(scope="module")
def row(members: list[Result], known: Context) -> ensembles.Row:
    (found,) = ensembles.rows(members, known)
    return found


def with_val_auc(result: Result, auc: float | None) -> Result:
    return replace(result, metrics=dict(result.metrics) | {"val": {"auc": auc}})


def of_test(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == "test"]


def test_a_row_has_the_figures_of_metrics_json(row: ensembles.Row, known: Context) -> None:
    (ensemble,) = known.ensembles
    assert (row.name, list(row.members)) == ("views", ["probe", "vgg16_transfer"])
    for label, found in {
        "AUC": ensemble.metrics["test"]["auc"],
        "Accuracy": ensemble.metrics["test"]["accuracy"],
        "AUC, perturbed": ensemble.metrics["perturbed"]["auc"],
        "AUC under shift": 0.875,
    }.items():
        assert row.cells[label].text == f"{found:.3f}", label
    low, high = (ensemble.metrics["test"][f"auc_{end}"] for end in ("low", "high"))
    assert row.cells["AUC"].notes == [f"{low:.3f} to {high:.3f}"]


def test_the_difference_is_that_of_the_test_set_on_the_same_patients(
    row: ensembles.Row, members: list[Result], known: Context
) -> None:
    (ensemble,) = known.ensembles
    best = max(members[:2], key=lambda r: r.metrics["val"]["auc"])
    ours, theirs = of_test(ensemble.predictions), of_test(best.predictions)
    labels = ours["label"].to_numpy()
    assert ours["id"].tolist() == theirs["id"].tolist()
    one, other = ours["probability"].to_numpy(), theirs["probability"].to_numpy()
    cell = row.cells["AUC minus best member"]
    assert cell.order == pytest.approx(roc_auc_score(labels, one) - roc_auc_score(labels, other))
    patients = known.manifest.set_index("id").loc[ours["id"], "patient"].to_numpy()
    low, high = intervals.auc_difference_interval(labels, one, other, patients, known.seed) or ()
    assert cell.notes[0] == f"{wording.signed(low)} to {wording.signed(high)}"
    assert cell.notes[1].startswith(f"{best.name}, AUC ")


@pytest.mark.parametrize(
    ("aucs", "best"),
    [
        ((0.8, 0.9, 0.99), "vgg16_transfer"),  # the third is not a member
        ((0.9, 0.8, 0.7), "probe"),
        ((0.8, 0.8, 0.7), "probe"),
        ((None, 0.6, 0.7), "vgg16_transfer"),
        ((None, None, 0.7), None),
    ],
)
def test_the_best_member_is_the_one_with_the_highest_validation_auc(
    members: list[Result], known: Context, aucs: tuple[float | None, ...], best: str | None
) -> None:
    rated = [with_val_auc(result, auc) for result, auc in zip(members, aucs, strict=True)]
    (ensemble,) = known.ensembles
    found = ensembles.best(ensemble, rated)
    assert (found and found.name) == best


def test_without_a_member_to_compare_with_there_is_a_dash(
    members: list[Result], known: Context
) -> None:
    (row,) = ensembles.rows(members[2:], known)
    assert row.cells["AUC minus best member"].text == wording.DASH


def test_figures_that_are_undefined_are_dashes(members: list[Result], known: Context) -> None:
    (ensemble,) = known.ensembles
    nothing: dict[str, Any] = {"auc": None, "auc_low": None, "auc_high": None, "accuracy": 0.5}
    undefined = dict(ensemble.metrics) | {
        "test": nothing, "perturbed": nothing, "shift": {"curve": {"shifted_auc": None}}
    }  # fmt: skip
    (row,) = ensembles.rows(
        members, replace(known, ensembles=[replace(ensemble, metrics=undefined)])
    )
    assert row.cells["AUC"].text == row.cells["AUC under shift"].text == wording.DASH
    assert row.cells["AUC"].notes == []


def test_an_ensemble_of_other_images_is_refused(members: list[Result], known: Context) -> None:
    (ensemble,) = known.ensembles
    fewer = Ensemble("views", ensemble.metrics, ensemble.predictions.iloc[1:])
    with pytest.raises(InputError, match="views was tested on"):
        differences.tests([fewer], known)


def test_the_page_has_the_section_after_that_of_the_systems(everything: str) -> None:
    said = section(everything, "ensembles")
    assert "views" in said and "probe and vgg16_transfer" in said and "0.875" in said
    places = [everything.index(f'id="{name}"') for name in ("systems", "ensembles", "against")]
    assert places == sorted(places)
    assert '<a href="#ensembles">' in everything


def test_without_ensembles_there_is_no_section(members: list[Result], known: Context) -> None:
    page = render(members, replace(known, ensembles=()))
    assert 'id="ensembles"' not in page and '#ensembles"' not in page


def test_those_that_were_not_evaluated_are_left_out(shared: Context) -> None:
    assert shared.ensembles == []  # params.yaml has one
