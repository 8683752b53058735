"""The AUC with and without a large marker, by hand."""

from dataclasses import replace

import pandas as pd
import pytest

from cxr.evaluation import metrics
from cxr.report import markers
from cxr.report.results import Context, Result
from tests.report.fabricate import Project, render


def marked(shared: Context, count: int) -> Context:
    """So many test images of each class have a large marker."""
    test = shared.manifest[shared.manifest["split"] == "test"]
    return replace(shared, markers=test.groupby("label").head(count)[["id", "split", "label"]])


def test_each_system_has_its_auc_in_both_groups(results: list[Result], shared: Context) -> None:
    shared = marked(shared, 5)
    table = markers.table(results, shared)
    assert list(table.columns) == list(markers.COLUMNS)
    assert list(table["system"]) == [r.name for r in results for _ in range(2)]
    for row in table.itertuples():
        result = next(r for r in results if r.name == row.system)
        tested = result.predictions[result.predictions["split"] == "test"]
        inside = tested["id"].isin(shared.markers["id"])
        rows = tested[inside if row.large_marker == "yes" else ~inside]
        assert [row.normal, row.pneumonia] == [(rows["label"] == n).sum() for n in (0, 1)]
        assert row.auc == metrics.auc(rows["label"].to_numpy(), rows["probability"].to_numpy())
        assert row.auc_low <= row.auc <= row.auc_high
    assert set(table.loc[table["large_marker"] == "yes", "normal"]) == {5}


def test_a_group_of_one_class_has_no_auc(results: list[Result], shared: Context) -> None:
    shared = marked(shared, 5)
    shared = replace(shared, markers=shared.markers[shared.markers["label"] == 1])
    with_marker, without = markers.table(results[:1], shared).to_dict("records")
    assert (with_marker["normal"], with_marker["pneumonia"]) == (0, 5)
    assert pd.isna([with_marker[name] for name in ("auc", "auc_low", "auc_high")]).all()
    assert without["auc"] > 0.5


@pytest.mark.parametrize("count", [0, None])
def test_no_marker_in_the_test_set_or_no_audit_has_no_rows(
    results: list[Result], shared: Context, count: int | None
) -> None:
    shared = replace(shared, markers=None) if count is None else marked(shared, count)
    table = markers.table(results, shared)
    assert table.empty
    assert markers.by_group(table, {}) is None


def test_the_page_says_how_many_training_images_have_one(page: str, evident: Project) -> None:
    results, shared = evident.collect("probe", "vgg16_transfer"), evident.context()
    said = render(results, replace(shared, marked=markers.table(results, shared)))
    said = " ".join(said.split())
    assert "In training 2 of 28 NORMAL and 12 of 84 PNEUMONIA images have one" in said
    assert "with: 2 NORMAL, 3 PNEUMONIA" in said
    assert "Images with a large marker" not in page  # it has no audit
