"""Evaluation: the model's own probabilities, a table a split, and files that say the same."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from cxr import augment, params
from cxr.augment import AS_FLOAT
from cxr.evaluation import intervals, metrics, predict
from cxr.training import batches
from tests.small import PERTURBATION, SIZE, xrays

IMAGES, INDEX = xrays({"train": (40, 50), "val": (6, 9), "test": (8, 12)})  # two batches of 64
TEST = np.flatnonzero(INDEX["split"] == "test")
SUMMARY = ["auc", "accuracy", "precision", "recall", "specificity", "f1", "tp", "tn", "fp", "fn"]
NOTHING = params.Perturbation(
    rotation=0, shear=0, zoom=0, horizontal_flip=False, channel_shift=0, brightness=(1, 1)
)
LIGHT = NOTHING.model_copy(update={"brightness": (0.5, 1.5)})


class Spot(keras.layers.Layer):
    """Says PNEUMONIA the surer, the brighter one pixel of the spot of ``xrays``; errs at times."""

    def build(self, shape):
        self.middle = self.add_weight(shape=(), initializer="zeros", name="middle")

    def call(self, images):
        return keras.ops.sigmoid((images[:, 5, 5] - self.middle) / 30)


def network(middle: int = 130) -> keras.Model:
    """A model like those of :mod:`cxr.models`: floats of raw pixels first, a probability last."""
    image = keras.Input((SIZE, SIZE, 1), dtype="uint8")
    grey = keras.layers.Rescaling(1.0, dtype="float32", name=AS_FLOAT)(image)
    model = keras.Model(image, Spot()(grey))
    model.set_weights([np.float32(middle)])
    return model


def judge(
    model: keras.Model,
    images: np.ndarray = IMAGES,
    index: pd.DataFrame = INDEX,
    perturbation: params.Perturbation = PERTURBATION,
    threshold: float = 0.4,
) -> predict.Evaluation:
    """Evaluate a model of one phase."""
    return predict.evaluate(
        model, ["train"], lambda phase: None, images, index, perturbation, threshold, 0
    )


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return network()


@pytest.fixture(scope="module")
def earlier() -> keras.Model:
    """What an earlier phase has kept: it calls more films PNEUMONIA."""
    return network(90)


@pytest.fixture(scope="module")
def evaluated(model, earlier) -> predict.Evaluation:
    kept = {"features": earlier.get_weights(), "finetune": model.get_weights()}
    judged = network(90)
    return predict.evaluate(
        judged, list(kept), lambda phase: judged.set_weights(kept[phase]),
        IMAGES, INDEX, PERTURBATION, 0.4, 0,
    )  # fmt: skip


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
    assert list(evaluated.metrics) == ["threshold", "train", "val", "test", "perturbed", "phases"]


def test_the_test_set_alone_has_an_interval_over_its_patients(evaluated):
    expected = intervals.auc_interval(*evaluated.of("test"), INDEX["patient"][TEST].to_numpy(), 0)
    found = evaluated.metrics["test"]
    assert (found["auc_low"], found["auc_high"]) == expected
    assert found["auc_low"] <= found["auc"] <= found["auc_high"]
    assert list(found) == [*SUMMARY, "auc_low", "auc_high"]
    assert "auc_low" not in evaluated.metrics["val"]
    assert 0.7 < found["auc_low"] < found["auc_high"]
    assert 0 < found["fp"] != found["fn"] > 0  # or these tests show little


def test_the_threshold_decides_the_counts_and_not_the_auc(evaluated, model):
    strict = judge(model, threshold=0.95).metrics
    assert strict["threshold"] == 0.95
    assert strict["train"]["tp"] < evaluated.metrics["train"]["tp"]
    assert strict["train"]["auc"] == evaluated.metrics["train"]["auc"]


class TestPhases:
    def test_the_table_has_each_test_film_once_a_phase(self, evaluated):
        table = evaluated.phases
        assert list(table.columns) == [
            "phase", "id", "label", "probability", "perturbed_probability",
        ]  # fmt: skip
        assert table["phase"].unique().tolist() == ["features", "finetune"]
        for _, rows in table.groupby("phase"):
            assert rows["id"].tolist() == INDEX["id"][TEST].tolist()
            assert rows["label"].tolist() == INDEX["label"][TEST].tolist()

    def test_the_last_one_is_the_model_of_the_predictions(self, evaluated):
        last = evaluated.phases[evaluated.phases["phase"] == "finetune"]
        predictions = evaluated.predictions.iloc[TEST]
        assert last["probability"].tolist() == predictions["probability"].tolist()
        for name in ("test", "perturbed"):
            assert evaluated.metrics["phases"]["finetune"][name] == evaluated.metrics[name]

    def test_an_earlier_one_is_judged_by_what_it_has_kept(self, evaluated, earlier):
        rows = evaluated.phases[evaluated.phases["phase"] == "features"]
        expected = earlier.predict(IMAGES[TEST][..., np.newaxis], verbose=0)[:, 0]
        np.testing.assert_allclose(rows["probability"], expected, atol=1e-6)
        of_phases = evaluated.metrics["phases"]
        for name in ("test", "perturbed"):
            assert of_phases["features"][name]["recall"] > of_phases["finetune"][name]["recall"]

    @pytest.mark.parametrize("phase", ["features", "finetune"])
    @pytest.mark.parametrize(
        ("name", "column"), [("test", "probability"), ("perturbed", "perturbed_probability")]
    )
    def test_each_has_the_metrics_of_its_rows(self, evaluated, phase, name, column):
        rows = evaluated.phases[evaluated.phases["phase"] == phase]
        labels, probabilities = rows["label"].to_numpy(), rows[column].to_numpy()
        low_high = intervals.auc_interval(
            labels, probabilities, INDEX["patient"][TEST].to_numpy(), 0
        )
        expected = metrics.summarise(labels, probabilities, 0.4)
        assert evaluated.metrics["phases"][phase][name] == expected | dict(
            zip(["auc_low", "auc_high"], low_high, strict=True)
        )


class TestPerturbed:
    def test_films_are_damaged_before_the_model_sees_them(self, model):
        """Of brightness alone the probability can be worked out by hand."""
        rows = judge(model, perturbation=LIGHT).phases
        _, tones = augment.perturbations(LIGHT, (SIZE, SIZE), rows["id"], 0)
        pixels = np.minimum(IMAGES[TEST, 5, 5] * tones[:, 1], 255)
        expected = 1 / (1 + np.exp((130 - pixels) / 30))
        np.testing.assert_allclose(rows["perturbed_probability"], expected, atol=1e-5)

    @pytest.mark.parametrize("perturbation", [LIGHT, PERTURBATION], ids=["light", "all"])
    def test_a_model_that_goes_by_brightness_does_worse(self, model, perturbation):
        found = judge(model, perturbation=perturbation).metrics
        assert found["perturbed"]["auc"] < found["test"]["auc"] - 0.02

    def test_without_damage_it_does_as_well(self, model):
        found = judge(model, perturbation=NOTHING)
        assert found.metrics["perturbed"] == found.metrics["test"]
        np.testing.assert_allclose(
            found.phases["perturbed_probability"], found.phases["probability"], atol=1e-6
        )


class TestSamples:
    def test_are_the_first_three_test_films_of_each_class(self):
        relabelled = INDEX.set_index(np.arange(len(INDEX))[::-1])  # rows count, not their names
        clean, damaged = predict.samples(IMAGES, relabelled, PERTURBATION, 0)
        labels = INDEX["label"].to_numpy()[TEST]
        rows = [*TEST[labels == 0][:3], *TEST[labels == 1][:3]]
        assert (clean.dtype, damaged.dtype) == (np.uint8, np.uint8)
        assert clean.shape == damaged.shape == (6, SIZE, SIZE)
        np.testing.assert_array_equal(clean, IMAGES[rows])

    def test_are_damaged_as_they_are_for_the_evaluation(self):
        clean, damaged = predict.samples(IMAGES, INDEX, PERTURBATION, 0)
        maps, tones = batches.damage(PERTURBATION, IMAGES, INDEX, 0)
        rows = [int(np.flatnonzero((film == IMAGES).all(axis=(1, 2)))[0]) for film in clean]
        given = augment.transforms(maps[rows], tones[rows])
        expected = np.asarray(augment.transform_images(clean[..., np.newaxis], given))[..., 0]
        np.testing.assert_allclose(damaged, expected, atol=0.51)  # rounded to whole values
        assert all((one != other).any() for one, other in zip(clean, damaged, strict=True))

    def test_are_as_they_were_without_damage(self):
        np.testing.assert_array_equal(*predict.samples(IMAGES, INDEX, NOTHING, 0))

    @pytest.mark.parametrize(("counts", "films"), [((1, 2), 3), ((0, 4), 3), ((5, 1), 4)])
    def test_are_fewer_where_there_are_fewer(self, counts, films):
        clean, damaged = predict.samples(*xrays({"test": counts}), PERTURBATION, 0)
        assert len(clean) == len(damaged) == films


class TestWritten:
    @pytest.fixture(scope="class")
    def folder(self, evaluated, tmp_path_factory):
        folder = tmp_path_factory.mktemp("evaluation")
        predict.write(evaluated, folder)
        return folder

    def test_the_files(self, folder):
        assert sorted(path.name for path in folder.iterdir()) == [
            "confusion.csv", "metrics.json", "phases.csv", "precision_recall.csv",
            "predictions.csv", "roc.csv",
        ]  # fmt: skip

    def test_metrics_can_be_computed_again_from_the_predictions(self, folder):
        written = json.loads((folder / "metrics.json").read_text())
        table = pd.read_csv(folder / "predictions.csv")
        for split in ("train", "val", "test"):
            rows = table[table["split"] == split]
            again = metrics.summarise(rows["label"].to_numpy(), rows["probability"].to_numpy(), 0.4)
            assert {name: written[split][name] for name in SUMMARY} == again

    def test_metrics_of_phases_can_be_computed_again_from_their_table(self, folder):
        written = json.loads((folder / "metrics.json").read_text())["phases"]
        for phase, rows in pd.read_csv(folder / "phases.csv").groupby("phase"):
            columns = {"test": "probability", "perturbed": "perturbed_probability"}
            for name, column in columns.items():
                again = metrics.summarise(rows["label"].to_numpy(), rows[column].to_numpy(), 0.4)
                assert {key: written[phase][name][key] for key in SUMMARY} == again

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

    def test_the_same_evaluation_gives_the_same_bytes(self, model, tmp_path):
        folders = [tmp_path / "first", tmp_path / "again"]
        for folder in folders:
            folder.mkdir()
            predict.write(judge(model), folder)
        first, again = ({f.name: f.read_bytes() for f in folder.iterdir()} for folder in folders)
        assert first == again


@pytest.mark.parametrize("label", [0, 1], ids=["NORMAL alone", "PNEUMONIA alone"])
def test_a_test_set_of_one_class_has_no_auc_and_no_roc(model, label, tmp_path, recwarn):
    chosen = ((INDEX["split"] != "test") | (INDEX["label"] == label)).to_numpy()
    index = INDEX[chosen].reset_index(drop=True)
    predict.write(judge(model, IMAGES[chosen], index), tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())
    for found in (written["test"], written["perturbed"]):
        assert (found["auc"], found["auc_low"], found["auc_high"]) == (None, None, None)
        assert found["accuracy"] is not None
    assert (tmp_path / "roc.csv").read_text() == "threshold,fpr,tpr\n"
    curve = pd.read_csv(tmp_path / "precision_recall.csv")
    assert len(curve) == (12 if label else 0)  # defined wherever there is PNEUMONIA
    assert (curve["precision"] == 1).all()
    assert set(pd.read_csv(tmp_path / "confusion.csv")["actual"]) == {
        ["NORMAL", "PNEUMONIA"][label]
    }
    assert not [str(warning.message) for warning in recwarn if "sklearn" in warning.filename]


def test_a_test_set_of_one_image(model, tmp_path):
    chosen = [*np.flatnonzero(INDEX["split"] != "test"), TEST[0]]
    evaluated = judge(model, IMAGES[chosen], INDEX.loc[chosen].reset_index(drop=True))
    predict.write(evaluated, tmp_path)
    assert len(pd.read_csv(tmp_path / "confusion.csv")) == 1
    assert len(pd.read_csv(tmp_path / "phases.csv")) == 1
