"""The shortcut alarm: what it hears, and where it cannot hear anything."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from cxr.audit import properties, shortcuts
from cxr.evaluation import intervals
from tests.audit.made import manifest, many
from tests.audit.test_properties import COLUMNS

TABLE = many(train=80, rest=40)
LABELS = TABLE["label"].to_numpy()
NOISE = np.random.default_rng(0).normal(size=(len(TABLE), 2))


@pytest.fixture(autouse=True)
def _one_thread():
    """Where other tests run beside, more threads of so small a fit only wait for each other."""
    with threadpool_limits(limits=1, user_api="openmp"):
        yield


def table(**columns) -> pd.DataFrame:
    """Properties that are constant but for those given."""
    return pd.DataFrame(1.0, index=range(len(TABLE)), columns=COLUMNS).assign(**columns)


class TestAssess:
    def test_a_shortcut_raises_the_alarm_in_its_group_and_sets(self):
        given = table(width=NOISE[:, 0], scale_ratio=LABELS + 0.3 * NOISE[:, 1])
        found, importances = shortcuts.assess(given, TABLE, seed=0)
        assert found["alarm"] is True
        assert found["groups"]["geometry"]["test"]["auc"] > 0.9
        assert found["sets"]["all"]["test"]["auc"] > 0.9
        assert found["sets"]["file"]["test"]["auc"] < 0.7
        assert importances["feature"].iloc[0] == "geometry"
        first = importances.iloc[0]
        assert first["importance_low"] <= first["importance"] <= first["importance_high"]
        assert first["auc_test"] == found["groups"]["geometry"]["test"]["auc"]
        assert first["importance"] > 0.3 and first["properties"] == "scale_ratio"

    def test_noise_raises_none(self):
        found, importances = shortcuts.assess(table(width=NOISE[:, 0]), TABLE, seed=0)
        assert found["alarm"] is False
        assert abs(importances["importance"].iloc[0]) < 0.3

    @pytest.mark.parametrize(
        ("auc", "low", "alarm"),
        [(0.9, 0.6, True), (0.9, 0.5, False), (0.74, 0.6, False), (None, None, None)],
    )
    def test_the_alarm_needs_a_high_auc_and_an_interval_above_chance(
        self, monkeypatch, auc, low, alarm
    ):
        rated = {"auc": auc, "auc_low": low, "auc_high": auc}
        monkeypatch.setattr(shortcuts, "_rated", lambda *_: rated)
        found, _ = shortcuts.assess(table(width=NOISE[:, 0]), TABLE, seed=0)
        assert found["alarm"] is alarm

    def test_auc_and_interval_are_those_of_the_fitted_baseline(self):
        given = table(width=NOISE[:, 0], height=LABELS + NOISE[:, 1])
        columns, test = ["width", "height"], (TABLE["split"] == "test").to_numpy()
        model = shortcuts.fit(given[columns], TABLE, seed=3)
        predicted = model.predict_proba(given[columns].to_numpy()[test])[:, 1]
        found, _ = shortcuts.assess(given, TABLE, seed=3)
        rated = found["groups"]["size"]["test"]
        assert rated["auc"] == pytest.approx(roc_auc_score(LABELS[test], predicted))
        patients = TABLE["patient"].to_numpy()[test]
        low, high = intervals.auc_interval(LABELS[test], predicted, patients, 3)
        assert (rated["auc_low"], rated["auc_high"]) == (low, high)

    def test_constants_are_not_assessable_rather_than_chance(self):
        found, importances = shortcuts.assess(table(), TABLE, seed=0)
        assert found["alarm"] is None
        for results in (found["groups"], found["sets"]):
            for result in results.values():
                assert result["assessable"] is False and result["reason"]
                assert result["val"] is result["test"] is None
        assert set(importances["feature"]) == set(properties.GROUPS)
        assert importances[["importance", "auc_val", "auc_test"]].isna().all(axis=None)

    def test_one_group_can_be_assessed_without_the_others(self):
        found, importances = shortcuts.assess(table(rim_mean=NOISE[:, 0]), TABLE, seed=0)
        can = [name for name, result in found["groups"].items() if result["assessable"]]
        assert can == ["border"]
        assert not found["sets"]["file"]["assessable"] and found["sets"]["picture"]["assessable"]
        assert importances["importance"].notna().sum() == 1

    def test_training_images_of_one_class_are_not_assessable(self):
        one = TABLE.assign(label=np.where(TABLE["split"] == "train", 1, LABELS))
        found, _ = shortcuts.assess(table(width=NOISE[:, 0]), one, seed=0)
        assert found["alarm"] is None
        assert found["groups"]["size"]["reason"] == shortcuts.ONE_CLASS

    @pytest.mark.parametrize("empty", [False, True], ids=["one class", "no image"])
    def test_a_split_without_both_classes_has_no_auc(self, empty):
        chosen = (TABLE["split"] != "val") | ((LABELS == 1) & (not empty))
        given = table(width=LABELS + NOISE[:, 0])[chosen].reset_index(drop=True)
        found, importances = shortcuts.assess(given, TABLE[chosen].reset_index(drop=True), seed=0)
        none = {"auc": None, "auc_low": None, "auc_high": None}
        assert found["groups"]["size"]["val"] == none
        assert found["groups"]["size"]["test"]["auc"] > 0.5
        assert importances["importance"].isna().all()

    def test_one_image_is_not_assessable(self):
        found, _ = shortcuts.assess(table().iloc[:1], manifest([("train", 0, "a")]), seed=0)
        assert found["alarm"] is None

    def test_what_no_training_image_has_is_not_used(self):
        """Scikit-learn fails on a column without values."""
        marked = np.where(TABLE["split"] == "train", np.nan, NOISE[:, 0])
        found, _ = shortcuts.assess(table(marker_x=marked, width=NOISE[:, 1]), TABLE, seed=0)
        assert not found["groups"]["marker"]["assessable"]
        assert found["groups"]["size"]["assessable"]

    def test_missing_values_are_values(self):
        """An archive in which one class alone is JPEG."""
        quality = np.where(LABELS == 1, 75.0, np.nan)
        found, _ = shortcuts.assess(table(jpeg_quality=quality), TABLE, seed=0)
        assert found["groups"]["jpeg"]["test"]["auc"] == 1

    def test_is_the_same_each_time_and_json(self):
        given = table(width=LABELS + NOISE[:, 0], rim_mean=NOISE[:, 1])
        first, second = (shortcuts.assess(given, TABLE, seed=1) for _ in range(2))
        assert json.dumps(first[0], allow_nan=False) == json.dumps(second[0])
        pd.testing.assert_frame_equal(first[1], second[1])


def test_a_patient_with_many_images_counts_once():
    """Copies of a training image of one patient change the baseline no more than weights do."""
    draws = np.random.default_rng(4)
    rows = [("train", n % 2, f"p{n}") for n in range(60)]
    once = manifest(rows)
    twice = manifest([row for row in rows for _ in range(2)])
    values = pd.DataFrame({"width": draws.normal(size=60) + once["label"]})
    doubled = values.loc[np.repeat(range(60), 2)].reset_index(drop=True)
    one, other = shortcuts.fit(values, once, 0), shortcuts.fit(doubled, twice, 0)
    weights = [shortcuts.regression.patient_weights(t["patient"].to_numpy(), t["label"].to_numpy(),
               False).sum() for t in (once, twice)]  # fmt: skip
    assert weights[0] == weights[1] == 60
    grid = np.linspace(-2, 3, 20)[:, np.newaxis]
    gap = one.predict_proba(grid)[:, 1] - other.predict_proba(grid)[:, 1]
    assert np.abs(gap).mean() < 0.2
