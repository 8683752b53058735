"""Label suspects: wrong labels are found by models that never saw their patient."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr.audit import suspects
from cxr.training.feature_files import Features
from tests.audit.made import manifest, many

TABLE = many(train=200, rest=40)
KNOWN = TABLE[TABLE["split"] != "test"]
WRONG = [3, 40, 150]


def stored(table: pd.DataFrame = TABLE, views: int = 1) -> Features:
    """Features that tell the class, in float16, of ``views`` views of train and one of val."""
    draws = np.random.default_rng(0)
    parts = [table[table["split"] == "train"]] * views + [table[table["split"] == "val"]]
    labels = np.concatenate([part["label"] for part in parts])
    array = draws.normal(size=(len(labels), 50)) + 5 * labels[:, np.newaxis]
    return Features("pool", views, "float32", array.astype("float16"))


def mislabelled() -> pd.DataFrame:
    """The table with some labels exchanged after the features were made."""
    label = TABLE["label"].to_numpy().copy()
    label[WRONG] = 1 - label[WRONG]
    return TABLE.assign(label=label)


class TestFind:
    def test_wrong_labels_are_suspects_the_firmest_first(self):
        about, found = suspects.find(stored(), mislabelled(), seed=0)
        assert set(found["id"]) == {TABLE["id"][row] for row in WRONG}
        assert list(found.columns) == ["id", "split", "label", "patient", "probability"]
        contradiction = (found["probability"] - found["label"]).abs()
        assert contradiction.is_monotonic_decreasing and contradiction.min() >= 0.9
        assert about == {
            "assessable": True, "reason": None, "images": 240, "auc": pytest.approx(0.97, abs=0.03),
            "suspects": 3, "confident": 0.9,
        }  # fmt: skip

    def test_only_the_first_view_of_train_is_used(self):
        features = stored(views=3)
        features.array[200:600] = np.nan
        about, _ = suspects.find(features, TABLE, seed=0)
        assert about["assessable"] and about["images"] == 240

    def test_rows_follow_train_then_val_in_any_index(self):
        mixed = TABLE.sample(frac=1, random_state=1).reset_index(drop=True)
        about, found = suspects.find(stored(mixed), mixed, seed=0)
        assert about["auc"] > 0.99 and found.empty

    @pytest.mark.parametrize(
        ("features", "said"),
        [
            (None, "no frozen features"),
            (Features("pool", 0, "float32", np.zeros((40, 4))), "no frozen features"),
            (Features("conv", 1, "float32", np.zeros((240, 2, 2, 4))), "no frozen features"),
            (Features("pool", 1, "float32", np.zeros((9, 4))), "not those of these images"),
        ],
        ids=["none", "of validation alone", "maps", "other images"],
    )
    def test_other_features_are_not_assessable(self, features, said):
        about, found = suspects.find(features, TABLE, seed=0)
        assert not about["assessable"] and said in about["reason"]
        assert found.empty and list(found.columns) == list(suspects.COLUMNS)

    @pytest.mark.parametrize(
        "rows",
        [
            [("train", 1, "a")],
            [("train", 1, n) for n in "abcdefgh"],
            [("train", 1, n) for n in "abcdefgh"] + [("train", 0, "i"), ("val", 0, "i")],
        ],
        ids=["one image", "one class", "one patient of a class"],
    )
    def test_too_few_patients_are_not_assessable(self, rows):
        table = manifest(rows)
        about, _ = suspects.find(stored(table), table, seed=0)
        assert not about["assessable"] and "too few patients" in about["reason"]


class TestOutOfFold:
    FEATURES = stored().array
    LABELS, PATIENTS = (KNOWN[name].to_numpy() for name in ("label", "patient"))

    def test_no_model_sees_the_patient(self):
        """A feature that only names the patient tells nothing of the others."""
        draws = np.random.default_rng(2)
        patients = np.repeat(np.arange(60), 4)
        labels = draws.permutation(np.repeat([0, 1], 30))[patients]
        named = np.eye(60)[patients]
        found = suspects.out_of_fold(named, labels, patients, seed=0)
        assert np.abs(found - labels).min() > 0.1
        assert 0.2 < roc_auc_score(labels, found) < 0.8

    def test_fewer_patients_than_folds_give_fewer_folds(self):
        labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        patients = np.array(list("aabbccdd"))  # two of each class
        features = labels[:, np.newaxis] + np.linspace(0, 0.1, 8)[:, np.newaxis]
        found = suspects.out_of_fold(features, labels, patients, seed=0)
        assert found is not None and np.isfinite(found).all()

    def test_patients_of_both_classes_give_finite_probabilities_or_none(self):
        labels, patients = np.array([0, 1, 0, 1]), np.array(list("aabb"))
        found = suspects.out_of_fold(np.arange(4.0)[:, np.newaxis], labels, patients, seed=0)
        assert found is None or np.isfinite(found).all()

    def test_constant_features_give_the_share_of_patients(self):
        found = suspects.out_of_fold(np.ones((240, 2)), self.LABELS, self.PATIENTS, seed=0)
        np.testing.assert_allclose(found, 0.5, atol=0.1)

    def test_is_the_same_each_time_and_differs_by_seed(self):
        first, again, other = (
            suspects.out_of_fold(self.FEATURES, self.LABELS, self.PATIENTS, seed)
            for seed in (0, 0, 1)
        )
        assert np.array_equal(first, again) and not np.array_equal(first, other)
