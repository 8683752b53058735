"""Evaluation: the model's own probabilities, a table a split, and files that say the same."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from cxr import evaluation, metrics
from tests.small import SIZE, xrays

IMAGES, INDEX = xrays({"train": (40, 50), "val": (6, 9), "test": (8, 12)})  # two batches of 64
SUMMARY = ["auc", "accuracy", "precision", "recall", "specificity", "f1", "tp", "tn", "fp", "fn"]


class Spot(keras.layers.Layer):
    """Says PNEUMONIA the surer, the brighter one pixel of the spot of ``xrays``; errs at times."""

    def call(self, images):
        return keras.ops.sigmoid((keras.ops.cast(images, "float32")[:, 5, 5] - 130) / 30)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    image = keras.Input((SIZE, SIZE, 1), dtype="uint8")
    return keras.Model(image, Spot()(image))


@pytest.fixture(scope="module")
def evaluated(model) -> evaluation.Evaluation:
    return evaluation.evaluate(model, IMAGES, INDEX, 0.4, 0)


def test_predictions_are_the_models_row_by_row(evaluated, model):
    table = evaluated.predictions
    assert list(table.columns) == ["id", "split", "label", "probability"]
    pd.testing.assert_frame_equal(table[["id", "split", "label"]], INDEX[["id", "split", "label"]])
    expected = model.predict(IMAGES[..., np.newaxis], verbose=0)[:, 0]
    np.testing.assert_allclose(table["probability"], expected, atol=1e-6)
    assert expected.std() > 0.1


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_split_has_the_metrics_of_its_rows(evaluated, split):
    rows = evaluated.predictions[evaluated.predictions["split"] == split]
    expected = metrics.summarise(
        rows["label"].to_numpy(), rows["probability"].to_numpy(), threshold=0.4
    )
    found = evaluated.metrics[split]
    assert {name: found[name] for name in SUMMARY} == expected
    assert sum(found[name] for name in ("tp", "tn", "fp", "fn")) == len(rows)
    assert list(evaluated.metrics) == ["threshold", "train", "val", "test"]


def test_the_test_set_alone_has_an_interval_over_its_patients(evaluated):
    test = INDEX["split"] == "test"
    expected = metrics.auc_interval(*evaluated.of("test"), INDEX.loc[test, "patient"].to_numpy(), 0)
    found = evaluated.metrics["test"]
    assert (found["auc_low"], found["auc_high"]) == expected
    assert found["auc_low"] <= found["auc"] <= found["auc_high"]
    assert list(found) == [*SUMMARY, "auc_low", "auc_high"]
    assert "auc_low" not in evaluated.metrics["val"]
    assert 0.7 < found["auc_low"] < found["auc_high"]
    assert 0 < found["fp"] != found["fn"] > 0  # or these tests show little


def test_the_threshold_decides_the_counts_and_not_the_auc(evaluated, model):
    strict = evaluation.evaluate(model, IMAGES, INDEX, 0.95, 0).metrics
    assert strict["threshold"] == 0.95
    assert strict["train"]["tp"] < evaluated.metrics["train"]["tp"]
    assert strict["train"]["auc"] == evaluated.metrics["train"]["auc"]


class TestWritten:
    @pytest.fixture(scope="class")
    def folder(self, evaluated, tmp_path_factory):
        folder = tmp_path_factory.mktemp("evaluation")
        evaluation.write(evaluated, folder)
        return folder

    def test_the_files(self, folder):
        assert sorted(path.name for path in folder.iterdir()) == [
            "confusion.csv", "metrics.json", "precision_recall.csv", "predictions.csv", "roc.csv",
        ]  # fmt: skip

    def test_metrics_can_be_computed_again_from_the_predictions(self, folder):
        written = json.loads((folder / "metrics.json").read_text())
        table = pd.read_csv(folder / "predictions.csv")
        for split in ("train", "val", "test"):
            rows = table[table["split"] == split]
            again = metrics.summarise(rows["label"].to_numpy(), rows["probability"].to_numpy(), 0.4)
            assert {name: written[split][name] for name in SUMMARY} == again

    def test_the_confusion_counts_the_test_set(self, folder):
        written = json.loads((folder / "metrics.json").read_text())["test"]
        table = pd.read_csv(folder / "confusion.csv")
        counted = table.value_counts(["actual", "predicted"]).to_dict()
        for name, cell in {
            "tp": ("PNEUMONIA", "PNEUMONIA"),
            "tn": ("NORMAL", "NORMAL"),
            "fp": ("NORMAL", "PNEUMONIA"),
            "fn": ("PNEUMONIA", "NORMAL"),
        }.items():
            assert counted.get(cell, 0) == written[name]

    def test_the_curves_are_the_test_sets(self, folder):
        written = json.loads((folder / "metrics.json").read_text())["test"]
        roc = pd.read_csv(folder / "roc.csv")
        assert list(roc.columns) == ["threshold", "fpr", "tpr"]
        assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(written["auc"])
        curve = pd.read_csv(folder / "precision_recall.csv")
        assert list(curve.columns) == ["threshold", "recall", "precision"]
        assert curve["recall"].max() == 1

    def test_the_same_evaluation_gives_the_same_bytes(self, folder, model, tmp_path):
        evaluation.write(evaluation.evaluate(model, IMAGES, INDEX, 0.4, 0), tmp_path)
        for path in folder.iterdir():
            assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("label", [0, 1], ids=["NORMAL alone", "PNEUMONIA alone"])
def test_a_test_set_of_one_class_has_no_auc_and_no_roc(model, label, tmp_path, recwarn):
    chosen = ((INDEX["split"] != "test") | (INDEX["label"] == label)).to_numpy()
    index = INDEX[chosen].reset_index(drop=True)
    evaluated = evaluation.evaluate(model, IMAGES[chosen], index, 0.4, 0)
    evaluation.write(evaluated, tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())["test"]
    assert (written["auc"], written["auc_low"], written["auc_high"]) == (None, None, None)
    assert written["accuracy"] is not None
    assert (tmp_path / "roc.csv").read_text() == "threshold,fpr,tpr\n"
    curve = pd.read_csv(tmp_path / "precision_recall.csv")
    assert len(curve) == (12 if label else 0)  # defined wherever there is PNEUMONIA
    assert (curve["precision"] == 1).all()
    assert set(pd.read_csv(tmp_path / "confusion.csv")["actual"]) == {
        ["NORMAL", "PNEUMONIA"][label]
    }
    assert not [str(warning.message) for warning in recwarn if "sklearn" in warning.filename]


def test_a_test_set_of_one_image(model, tmp_path):
    chosen = [
        *np.flatnonzero(INDEX["split"] != "test"),
        np.flatnonzero(INDEX["split"] == "test")[0],
    ]
    evaluated = evaluation.evaluate(
        model, IMAGES[chosen], INDEX.loc[chosen].reset_index(drop=True), 0.4, 0
    )
    evaluation.write(evaluated, tmp_path)
    assert len(pd.read_csv(tmp_path / "confusion.csv")) == 1
