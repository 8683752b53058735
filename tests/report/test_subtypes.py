"""Sensitivity by subtype, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from cxr.report import subtypes
from cxr.report.results import Context, Result


@pytest.fixture
def typed(shared: Context) -> Context:
    """Every second PNEUMONIA is viral."""
    manifest = shared.manifest
    kinds = np.where(np.arange(len(manifest)) % 2, "bacteria", "virus")
    return replace(
        shared, manifest=manifest.assign(subtype=np.where(manifest["label"] == 1, kinds, ""))
    )


def test_each_system_has_the_share_of_each_subtype_that_it_finds(
    results: list[Result], typed: Context
) -> None:
    table = subtypes.table(results, typed)
    assert list(table.columns) == list(subtypes.COLUMNS)
    assert list(table["system"]) == [r.name for r in results for _ in range(2)]
    for row in table.itertuples():
        result = next(r for r in results if r.name == row.system)
        rows = result.predictions.merge(typed.manifest[["id", "subtype"]], on="id")
        of_kind = rows[(rows["split"] == "test") & (rows["subtype"] == row.subtype)]
        assert row.images == len(of_kind)
        found = (of_kind["probability"] >= result.metrics["threshold"]).mean()
        assert row.sensitivity == pytest.approx(found)
        assert row.low <= row.sensitivity <= row.high


def test_names_that_do_not_tell_the_subtype_have_no_rows(
    results: list[Result], shared: Context
) -> None:
    unknown = replace(shared, manifest=shared.manifest.assign(subtype=""))
    assert subtypes.table(results, unknown).empty
