"""The evaluation: metrics of each split, of the perturbed test set and of each phase, and files."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cxr import files, params
from cxr.errors import InputError
from cxr.evaluation import evaluation, intervals, metrics, threshold
from cxr.evaluation.predictions import Predictions
from tests.evaluation.spot import BRIGHTNESS, IMAGES, INDEX, MIDDLES, TEST, predict

THRESHOLD = 0.4
SHIFTED = pd.DataFrame(
    {
        "set": "validation", "kind": ["none", "blur", "blur", "blur"], "strength": 1.0,
        "id": ["a", "a", "b", "c"], "split": "val", "label": [1, 1, 0, 1],
        "patient": ["a", "a", "b", "c"], "probability": [0.9, 0.4, 0.3, 0.6],
    }
)  # fmt: skip


def at(threshold, threshold_from: str = "validation", prevalence: float | None = None):
    return params.Evaluate(
        threshold=threshold,
        threshold_from=threshold_from,
        prevalence=prevalence,
        false_alarms_per_miss=1,
        external={},
    )


def evaluate(predicted, settings=None):
    return evaluation.evaluate(predicted, SHIFTED, settings or at(THRESHOLD), 0)


SUMMARY = [*metrics.FIGURES, "tp", "tn", "fp", "fn"]
SPREAD = [f"{name}{end}" for name in metrics.FIGURES for end in ("", "_low", "_high")]
COLUMNS = {"test": "probability", "perturbed": "perturbed_probability"}


@pytest.fixture(scope="module")
def found(predicted):
    return evaluate(predicted)


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
        assert list(found) == [
            "threshold", "threshold_rule", "threshold_from", "prevalence", "false_alarms_per_miss",
            "train", "val", "test", "perturbed", "test_at_half", "phases", "calibration",
            "conformal",
        ]  # fmt: skip
        assert list(found["val"]) == SUMMARY
        for part in ("test", "perturbed", "test_at_half"):
            assert list(found[part]) == [*SPREAD, "tp", "tn", "fp", "fn"]
        assert found["threshold"] == found["threshold_rule"] == THRESHOLD

    @pytest.mark.parametrize("phase", MIDDLES)
    @pytest.mark.parametrize("name", COLUMNS)
    def test_each_phase_has_metrics_and_the_interval_over_patients(
        self, predicted, found, phase, name
    ):
        rows = predicted.phases[predicted.phases["phase"] == phase]
        labels, probabilities = rows["label"].to_numpy(), rows[COLUMNS[name]].to_numpy()
        patients = INDEX["patient"][TEST].to_numpy()
        spread = intervals.of_metrics(labels, probabilities, patients, 0, THRESHOLD, metrics.EVEN)
        expected = intervals.beside(metrics.summarise(labels, probabilities, THRESHOLD), spread)
        known = {key: value for key, value in expected.items() if key in found["test"]}
        assert found["phases"][phase][name] == known

    def test_the_test_set_has_the_metrics_of_the_last_phase(self, found):
        for name in COLUMNS:
            assert found["phases"]["finetune"][name] == found[name]
            assert found["phases"]["features"][name]["recall"] > found[name]["recall"]

    def test_perturbation_lowers_the_auc_of_a_model_that_measures_brightness(self, folder):
        predicted = predict(folder, perturbation=BRIGHTNESS)
        found = evaluate(predicted)
        assert found["perturbed"]["auc"] < found["test"]["auc"] - 0.02

    def test_the_threshold_changes_the_counts_but_not_the_auc(self, predicted, found):
        settings = at(0.95)
        strict = evaluate(predicted, settings)
        assert strict["train"]["tp"] < found["train"]["tp"]
        assert strict["train"]["auc"] == found["train"]["auc"]

    @pytest.mark.parametrize("rule", ["youden", params.Sensitivity(sensitivity=0.9)], ids=str)
    def test_the_threshold_is_chosen_on_validation_alone(self, predicted, rule):
        settings = at(rule)
        found = evaluate(predicted, settings)
        val = predicted.images[predicted.images["split"] == "val"]
        expected = threshold.choose(val["label"].to_numpy(), val["probability"].to_numpy(), rule)
        assert found["threshold"] == expected
        assert found["threshold_rule"] == settings.model_dump(mode="json")["threshold"]
        hidden = predicted.images.assign(
            probability=predicted.images["probability"].where(
                predicted.images["split"] == "val", 0.5
            )
        )
        others = Predictions(hidden, predicted.phases)
        assert evaluate(others, settings)["threshold"] == expected

    def test_the_threshold_can_be_chosen_on_validation_under_shift(self, predicted):
        found = evaluate(predicted, at("youden", "shifted"))
        assert found["threshold"] == pytest.approx(0.35)  # between b, NORMAL, and a, PNEUMONIA
        assert found["threshold_from"] == "shifted"

    def test_the_prevalence_changes_predictive_values_and_net_benefit_alone(self, predicted, found):
        settings = at(THRESHOLD, prevalence=0.05)
        rare = evaluate(predicted, settings)["test"]
        changed = {name for name in SUMMARY if rare[name] != found["test"][name]}
        assert changed == {"ppv", "npv", "net_benefit"}

    @pytest.mark.parametrize("table", ["images", "phases"])
    def test_a_probability_that_is_not_a_number_names_its_image(self, predicted, table):
        wrong = getattr(predicted, table).copy()
        wrong.loc[wrong.index[-1], "probability"] = np.nan
        broken = dataclasses.replace(predicted, **{table: wrong})
        with pytest.raises(
            InputError, match=f"NaN for {wrong['id'].iloc[-1]}: its training diverged"
        ):
            evaluate(broken)

    def test_one_patient_gives_intervals_of_no_width(self, predicted):
        alone = Predictions(
            predicted.images.assign(patient="one"), predicted.phases.assign(patient="one")
        )
        test = evaluate(alone)["test"]
        for name in metrics.FIGURES:
            assert test[f"{name}_low"] == pytest.approx(test[name])
            assert test[f"{name}_high"] == pytest.approx(test[name])

    def test_equal_probabilities_are_at_chance_level(self, predicted):
        flat = Predictions(
            predicted.images.assign(probability=0.5), predicted.phases.assign(probability=0.5)
        )
        settings = at("youden")
        found = evaluate(flat, settings)
        assert found["test"]["auc"] == 0.5
        assert found["test"]["specificity"] == 0  # of two useless answers the sensitive one
        assert found["conformal"]["undecided"] == 1


class TestWrite:
    def test_the_files(self, written):
        assert sorted(path.name for path in written.iterdir()) == [
            "confusion.csv", "decision.csv", "metrics.json", "phases.csv", "precision_recall.csv",
            "predictions.csv", "reliability.csv", "roc.csv",
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
        evaluation.write(predicted, evaluate(predicted), tmp_path)
        for path in written.iterdir():
            assert path.read_bytes() == (tmp_path / path.name).read_bytes()


@pytest.mark.parametrize("label", [0, 1], ids=["NORMAL alone", "PNEUMONIA alone"])
def test_a_test_set_of_one_class_has_no_auc_and_no_roc(folder, label, tmp_path, recwarn):
    chosen = ((INDEX["split"] != "test") | (INDEX["label"] == label)).to_numpy()
    predicted = predict(folder, IMAGES[chosen], INDEX[chosen].reset_index(drop=True))
    found = evaluate(predicted)
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
