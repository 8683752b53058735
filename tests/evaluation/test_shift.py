"""The metrics under shift, by hand and against scikit-learn, and where undefined."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn

from cxr import files
from cxr.errors import InputError
from cxr.evaluation import intervals, metrics, shift
from cxr.shifts import sets

DRAWS = np.random.default_rng(3)


def rows(name: str, kind: str, strength: float, skill: float, split: str = "test", count=40):
    """Predictions of ``count`` images, a quarter NORMAL; two images a patient."""
    labels = (np.arange(count) % 4 > 0).astype(int)
    logits = skill * (labels - 0.5) + DRAWS.normal(size=count)
    return pd.DataFrame(
        {
            "set": name, "kind": kind, "strength": strength,
            "id": [f"x{n:03d}" for n in range(count)], "split": split, "label": labels,
            "patient": [f"p{n // 2}" for n in range(count)],
            "probability": (1 / (1 + np.exp(-logits))).round(7),
        }
    )  # fmt: skip


PREDICTIONS = pd.concat(
    [
        rows("validation", "none", 0, 6, "val"),
        rows("validation", "gamma", 0.6, 2, "val"),
        rows("validation", "gamma", 1.6, 1, "val"),
        rows("validation", "blur", 1, 3, "val"),
        rows("curve", "none", 0, 6),
        rows("curve", "noise", 10, 2),
        rows("curve", "noise", 40, 0),
        rows("masked", "centre", 0.8, 0),
        rows("masked", "outside", 0.8, 6),
        rows("external", "clinic", 0, 1.5, "external"),
    ],
    ignore_index=True,
)


def of(name: str, kind: str, strength: float | None = None) -> pd.DataFrame:
    found = PREDICTIONS[(PREDICTIONS["set"] == name) & (PREDICTIONS["kind"] == kind)]
    return found if strength is None else found[found["strength"] == strength]


@pytest.fixture(scope="module", autouse=True)
def fewer_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", 200)
        yield


@pytest.fixture(scope="module")
def found():
    return shift.evaluate(PREDICTIONS, 0.4, 0)


def test_the_table_has_a_row_for_each_set_kind_and_strength_in_their_order(found):
    table, _ = found
    assert list(table.columns) == list(shift.COLUMNS)
    assert len(table) == 10 and set(table["n"]) == {40}
    assert table["set"].tolist() == ["validation"] * 4 + ["curve"] * 3 + ["masked"] * 2 + [
        "external"
    ]


def test_each_row_has_the_metrics_of_scikit_learn(found):
    for row in found[0].itertuples():
        images = of(row.set, row.kind, row.strength)
        labels, probabilities = images["label"].to_numpy(), images["probability"].to_numpy()
        assert row.auc == pytest.approx(sklearn.roc_auc_score(labels, probabilities))
        assert row.brier == pytest.approx(sklearn.brier_score_loss(labels, probabilities))
        assert row.accuracy == pytest.approx(sklearn.accuracy_score(labels, probabilities >= 0.4))
        interval = intervals.auc_interval(labels, probabilities, images["patient"].to_numpy(), 0)
        assert (row.auc_low, row.auc_high) == interval


def test_the_shifted_auc_is_the_mean_over_kinds_of_the_mean_over_strengths(found):
    table, summary = found
    auc = table.set_index(["set", "kind", "strength"])["auc"]
    validation = summary["validation"]
    gamma = (auc["validation", "gamma", 0.6] + auc["validation", "gamma", 1.6]) / 2
    assert validation["auc"] == auc["validation", "none", 0]
    assert validation["by_kind"] == pytest.approx(
        {"gamma": gamma, "blur": auc["validation", "blur", 1]}
    )
    assert validation["shifted_auc"] == pytest.approx((gamma + auc["validation", "blur", 1]) / 2)
    assert list(summary) == ["validation", "curve", "masked", "external"]
    assert summary["curve"]["shifted_auc"] == summary["curve"]["by_kind"]["noise"]


def test_the_masks_have_intervals(found):
    table, summary = found
    assert list(summary["masked"]) == ["centre", "outside"]
    row = table[table["kind"] == "centre"].iloc[0]
    assert summary["masked"]["centre"] == {k: row[k] for k in ("auc", "auc_low", "auc_high")}
    assert summary["masked"]["outside"]["auc"] > summary["masked"]["centre"]["auc"]


class TestExternal:
    def test_has_the_metrics_at_the_threshold(self, found):
        clinic = found[1]["external"]["clinic"]
        images = of("external", "clinic")
        expected = metrics.summarise(
            images["label"].to_numpy(), images["probability"].to_numpy(), 0.4
        )
        assert clinic.items() > expected.items()
        assert clinic["auc_low"] < clinic["auc"] < clinic["auc_high"]
        assert (clinic["n"], clinic["known"]) == (40, 0)

    def test_images_of_train_and_val_are_not_counted(self):
        images = of("external", "clinic").assign(
            split=["train"] * 8 + ["val"] * 4 + ["test"] * 4 + ["external"] * 24
        )
        table, summary = shift.evaluate(images, 0.5, 0)
        clinic = summary["external"]["clinic"]
        assert (clinic["n"], clinic["known"], table["n"].tolist()) == (28, 12, [28])
        assert clinic["auc"] == metrics.auc(
            images["label"].to_numpy()[12:], images["probability"].to_numpy()[12:]
        )

    def test_whose_images_are_all_known_has_no_metrics(self):
        images = of("external", "clinic").assign(split="train")
        table, summary = shift.evaluate(images, 0.5, 0)
        clinic = summary["external"]["clinic"]
        assert (clinic["n"], clinic["known"], clinic["accuracy"]) == (0, 40, None)
        assert table.empty

    def test_of_one_class_has_no_auc(self):
        images = of("external", "clinic")
        _, summary = shift.evaluate(images[images["label"] == 1], 0.5, 0)
        clinic = summary["external"]["clinic"]
        assert [clinic[k] for k in ("auc", "auc_low", "auc_high")] == [None] * 3
        assert clinic["accuracy"] == clinic["recall"] and clinic["brier"] is not None


@pytest.mark.parametrize("label", [0, 1])
def test_of_one_class_the_aucs_are_undefined(label):
    table, summary = shift.evaluate(PREDICTIONS[PREDICTIONS["label"] == label], 0.5, 0)
    assert table["auc"].isna().all() and table["accuracy"].notna().all()
    assert summary["validation"] == {
        "auc": None, "shifted_auc": None, "by_kind": {"gamma": None, "blur": None}
    }  # fmt: skip
    assert summary["masked"]["centre"] == dict.fromkeys(("auc", "auc_low", "auc_high"))
    json.dumps(summary, allow_nan=False)


def test_of_one_image_and_without_validation():
    table, summary = shift.evaluate(of("curve", "none").iloc[:1], 0.5, 0)
    assert table["n"].tolist() == [1]
    assert summary["validation"] == {"auc": None, "shifted_auc": None, "by_kind": {}}
    assert summary["masked"] == summary["external"] == {}


def test_of_no_predictions_at_all():
    table, summary = shift.evaluate(PREDICTIONS.iloc[:0], 0.5, 0)
    assert table.empty and list(table.columns) == list(shift.COLUMNS)
    assert summary["curve"]["auc"] is None


def test_of_equal_probabilities_is_chance_level():
    table, _ = shift.evaluate(PREDICTIONS.assign(probability=0.75), 0.5, 0)
    assert set(table["auc"]) == {0.5} and set(table["ece"]) == {0.0}  # three quarters PNEUMONIA


@pytest.mark.parametrize("call", [lambda p: shift.evaluate(p, 0.5, 0), shift.shifted_validation])
def test_a_probability_that_is_nan_names_its_images(call):
    broken = PREDICTIONS.assign(probability=PREDICTIONS["probability"].mask(PREDICTIONS.index < 9))
    with pytest.raises(InputError, match=r"NaN for x000, x001, x002 and 6 more: .* diverged"):
        call(broken)


def test_shifted_validation_has_every_shift_of_the_validation_images():
    labels, probabilities = shift.shifted_validation(PREDICTIONS)
    expected = pd.concat([of("validation", "gamma"), of("validation", "blur")])
    assert labels.tolist() == expected["label"].tolist()
    assert probabilities.tolist() == expected["probability"].tolist()


class TestEce:
    def test_by_hand(self):
        probabilities = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
        labels = np.array([0, 1, 1, 1, 1])
        # First bin: 0.05 against 1/2, two images; last bin: (2 x 0.95 + 1) / 3 against 1, three.
        expected = (2 * 0.45 + 3 * (1 - 2.9 / 3)) / 5
        assert shift.ece(labels, probabilities) == pytest.approx(expected)

    def test_of_a_calibrated_model_is_small_and_never_above_one(self):
        probabilities, other = np.random.default_rng(0).random((2, 20_000))
        labels = (other < probabilities).astype(int)
        assert shift.ece(labels, probabilities) < 0.02
        assert shift.ece(np.array([1]), np.array([0.0])) == 1


def test_the_sets_are_those_that_the_stage_predicts():
    index = PREDICTIONS[PREDICTIONS["kind"] == "none"].drop_duplicates(["id", "split"])
    table = sets.tasks(index, 200, 0).assign(probability=0.5)
    _, summary = shift.evaluate(table, 0.5, 0)
    assert set(summary["validation"]["by_kind"]) == {s.kind for s in sets.VALIDATION}
    assert set(summary["curve"]["by_kind"]) == {s.kind for s in sets.CURVE}
    assert set(summary["masked"]) == {"centre", "outside"}


def test_a_written_table_gives_the_same_result(tmp_path, found):
    files.write_csv(tmp_path / "predictions.csv", PREDICTIONS)
    again, summary = shift.evaluate(files.read_csv(tmp_path / "predictions.csv"), 0.4, 0)
    pd.testing.assert_frame_equal(again, found[0], check_dtype=False)
    assert summary == found[1]
