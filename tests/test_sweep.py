"""The table of a sweep over seeds, and which spread is the larger."""

import pandas as pd
import pytest

from cxr import params, sweep
from cxr.errors import InputError
from tests.paths import ROOT


@pytest.fixture(scope="module")
def settings() -> params.Params:
    return params.load(ROOT / "params.yaml")


def rows(*figures: tuple[str, int, float | None, float | None, float | None]) -> pd.DataFrame:
    known = pd.DataFrame(figures, columns=["system", "seed", "auc", "auc_low", "auc_high"])
    return known.reindex(columns=list(sweep.COLUMNS)).astype({"auc": float})


def digits(settings: params.Params, system: str = "cnn", archive: str = "ab") -> str:
    return sweep.settings_hash(settings, system, archive)


def changed(settings: params.Params, **values) -> params.Params:
    return settings.model_copy(update=values)


class TestSettingsHash:
    def test_ignores_the_seed_and_where_images_come_from_and_runs_go(self, settings):
        tracking = params.Tracking(experiment="other")
        other = changed(settings, seed=7, source="other.zip", tracking=tracking)
        assert digits(other) == digits(settings)

    def test_ignores_other_systems(self, settings):
        others = settings.systems | {"probe": settings.systems["cnn"]}
        other = changed(settings, systems=others)
        assert digits(other) == digits(settings)
        assert digits(other, "probe") != digits(settings, "probe")

    def test_changes_with_what_a_result_depends_on(self, settings):
        assert digits(settings, archive="cd") != digits(settings)
        other = changed(settings, freeze_blocks=3)
        assert digits(other) != digits(settings)


class TestSummary:
    def test_compares_the_range_over_seeds_with_the_mean_interval_over_patients(self):
        table = rows(
            ("a", 0, 0.90, 0.85, 0.95), ("a", 1, 0.92, 0.86, 0.96), ("a", 2, 0.94, 0.91, 0.97),
            ("b", 0, 0.70, 0.69, 0.71), ("b", 1, 0.80, 0.79, 0.82),
        )  # fmt: skip
        a, b = sweep.summary(table).to_dict("records")
        assert (a["seeds"], a["lowest"], a["highest"]) == (3, 0.90, 0.94)
        assert a["mean"] == pytest.approx(0.92)
        assert a["range"] == pytest.approx(0.04)
        assert a["interval"] == pytest.approx((0.10 + 0.10 + 0.06) / 3)
        assert a["larger"] == "patients"
        assert (b["larger"], b["seeds"]) == ("seeds", 2)

    def test_leaves_out_a_system_of_one_seed_or_without_an_auc(self):
        table = rows(("a", 0, 0.9, 0.8, 1.0), ("a", 0, 0.9, 0.8, 1.0), ("b", 0, None, None, None))
        assert sweep.summary(table).empty
        assert "two seeds" in sweep.text(sweep.summary(table))

    def test_of_an_interval_that_is_undefined_names_the_seeds_as_unknown(self):
        (row,) = sweep.summary(
            rows(("a", 0, 0.9, None, None), ("a", 1, 0.8, None, None))
        ).to_dict("records")  # fmt: skip
        assert row["larger"] == "unknown"


def test_current_rows_are_those_of_the_settings_of_params_yaml(settings):
    table = rows(("cnn", 0, 0.9, 0.8, 1.0), ("cnn", 1, 0.9, 0.8, 1.0), ("gone", 0, 0.9, 0.8, 1.0))
    table["settings"] = [digits(settings), "of another day", "of another day"]
    assert list(sweep.current(table, settings, "ab")["seed"]) == [0]
    assert sweep.current(table, settings, "cd").empty


def test_the_committed_table_can_be_read():
    assert list(sweep.read(ROOT / "sources" / sweep.FILE).columns) == list(sweep.COLUMNS)


def test_another_table_is_refused(tmp_path):
    (tmp_path / "seeds.csv").write_text("system,seed\n")
    with pytest.raises(InputError, match="lacks the columns auc, auc_low"):
        sweep.read(tmp_path / "seeds.csv")
