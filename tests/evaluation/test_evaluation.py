"""The evaluation: metrics of each split, of the perturbed test set and of each phase, and files."""

import numpy as np
import pandas as pd
import pytest

from cxr import files
from cxr.evaluation import evaluation, intervals, metrics
from tests.evaluation.spot import BRIGHTNESS, IMAGES, INDEX, MIDDLES, TEST, predict

THRESHOLD = 0.4
SUMMARY = ["auc", "accuracy", "precision", "recall", "specificity", "f1", "tp", "tn", "fp", "fn"]
COLUMNS = {"test": "probability", "perturbed": "perturbed_probability"}


@pytest.fixture(scope="module")
def found(predicted):
    return evaluation.evaluate(predicted, THRESHOLD, 0)


@pytest.fixture(scope="module")
def written(predicted, found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    evaluation.write(predicted, found, folder)
    return folder


class TestEvaluate:
    @pytest.mark.parametrize("split", ["train", "val", "test"])
    def test_each_split_has_the_metrics_of_its_rows(self, predicted, found, split):
        rows = predicted.images[predicted.images["split"] == split]
        expected = metrics.summarise(
            rows["label"].to_numpy(), rows["probability"].to_numpy(), THRESHOLD
        )
        assert {name: found[split][name] for name in SUMMARY} == expected
        assert sum(found[split][name] for name in ("tp", "tn", "fp", "fn")) == len(rows)

    def test_the_keys(self, found):
        assert list(found) == ["threshold", "train", "val", "test", "perturbed", "phases"]
        assert list(found["val"]) == SUMMARY
        assert list(found["test"]) == list(found["perturbed"]) == [*SUMMARY, "auc_low", "auc_high"]
        assert found["threshold"] == THRESHOLD

    @pytest.mark.parametrize("phase", MIDDLES)
    @pytest.mark.parametrize("name", COLUMNS)
    def test_each_phase_has_metrics_and_the_interval_over_patients(
        self, predicted, found, phase, name
    ):
        rows = predicted.phases[predicted.phases["phase"] == phase]
        labels, probabilities = rows["label"].to_numpy(), rows[COLUMNS[name]].to_numpy()
        low, high = intervals.auc_interval(
            labels, probabilities, INDEX["patient"][TEST].to_numpy(), 0
        )
        expected = metrics.summarise(labels, probabilities, THRESHOLD)
        assert found["phases"][phase][name] == expected | {"auc_low": low, "auc_high": high}

    def test_the_test_set_has_the_metrics_of_the_last_phase(self, found):
        for name in COLUMNS:
            assert found["phases"]["finetune"][name] == found[name]
            assert found["phases"]["features"][name]["recall"] > found[name]["recall"]

    def test_perturbation_lowers_the_auc_of_a_model_that_measures_brightness(self, folder):
        predicted = predict(folder, perturbation=BRIGHTNESS)
        found = evaluation.evaluate(predicted, THRESHOLD, 0)
        assert found["perturbed"]["auc"] < found["test"]["auc"] - 0.02

    def test_the_threshold_changes_the_counts_but_not_the_auc(self, predicted, found):
        strict = evaluation.evaluate(predicted, 0.95, 0)
        assert strict["train"]["tp"] < found["train"]["tp"]
        assert strict["train"]["auc"] == found["train"]["auc"]


class TestWrite:
    def test_the_files(self, written):
        assert sorted(path.name for path in written.iterdir()) == [
            "confusion.csv", "metrics.json", "phases.csv", "precision_recall.csv",
            "predictions.csv", "roc.csv",
        ]  # fmt: skip

    def test_the_columns(self, written):
        header = {name: (written / name).read_text().partition("\n")[0] for name in (
            "predictions.csv", "phases.csv"
        )}  # fmt: skip
        assert header == {
            "predictions.csv": "id,split,label,probability",
            "phases.csv": "phase,id,label,probability,perturbed_probability",
        }

    def test_metrics_follow_from_the_written_predictions(self, written):
        found = files.read_json(written / "metrics.json")
        table = files.read_csv(written / "predictions.csv")
        for split in ("train", "val", "test"):
            rows = table[table["split"] == split]
            again = metrics.summarise(
                rows["label"].to_numpy(), rows["probability"].to_numpy(), THRESHOLD
            )
            assert {name: found[split][name] for name in SUMMARY} == again

    def test_metrics_of_phases_follow_from_the_written_predictions(self, written):
        found = files.read_json(written / "metrics.json")["phases"]
        for phase, rows in files.read_csv(written / "phases.csv").groupby("phase"):
            for name, column in COLUMNS.items():
                again = metrics.summarise(
                    rows["label"].to_numpy(), rows[column].to_numpy(), THRESHOLD
                )
                assert {key: found[phase][name][key] for key in SUMMARY} == again

    def test_the_confusion_counts_the_test_set(self, written, found):
        table = pd.read_csv(written / "confusion.csv")
        counted = table.value_counts(["actual", "predicted"]).to_dict()
        for name, cell in {
            "tp": ("PNEUMONIA", "PNEUMONIA"),
            "tn": ("NORMAL", "NORMAL"),
            "fp": ("NORMAL", "PNEUMONIA"),
            "fn": ("PNEUMONIA", "NORMAL"),
        }.items():
            assert counted.get(cell, 0) == found["test"][name]

    def test_the_curves_are_those_of_the_test_set(self, written, found):
        roc = files.read_csv(written / "roc.csv")
        assert list(roc.columns) == ["threshold", "fpr", "tpr"]
        assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(found["test"]["auc"])
        curve = files.read_csv(written / "precision_recall.csv")
        assert list(curve.columns) == ["threshold", "recall", "precision"]
        assert curve["recall"].max() == 1

    def test_the_same_predictions_give_the_same_bytes(self, predicted, written, tmp_path):
        evaluation.write(predicted, evaluation.evaluate(predicted, THRESHOLD, 0), tmp_path)
        for path in written.iterdir():
            assert path.read_bytes() == (tmp_path / path.name).read_bytes()


@pytest.mark.parametrize("label", [0, 1], ids=["NORMAL alone", "PNEUMONIA alone"])
def test_a_test_set_of_one_class_has_no_auc_and_no_roc(folder, label, tmp_path, recwarn):
    chosen = ((INDEX["split"] != "test") | (INDEX["label"] == label)).to_numpy()
    predicted = predict(folder, IMAGES[chosen], INDEX[chosen].reset_index(drop=True))
    found = evaluation.evaluate(predicted, THRESHOLD, 0)
    evaluation.write(predicted, found, tmp_path)
    for metrics_of in (found["test"], found["perturbed"]):
        assert [metrics_of[name] for name in ("auc", "auc_low", "auc_high")] == [None] * 3
        assert metrics_of["accuracy"] is not None
    assert (tmp_path / "roc.csv").read_text() == "threshold,fpr,tpr\n"
    curve = files.read_csv(tmp_path / "precision_recall.csv")
    assert len(curve) == (12 if label else 0)  # defined wherever there is PNEUMONIA
    assert (curve["precision"] == 1).all()
    actual = pd.read_csv(tmp_path / "confusion.csv")["actual"]
    assert set(actual) == {["NORMAL", "PNEUMONIA"][label]}
    assert not [str(warning.message) for warning in recwarn if "sklearn" in warning.filename]
