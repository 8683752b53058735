"""The linear probe: scikit-learn's logistic regression as the output layer of a Keras model."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cxr import params
from cxr.errors import InputError
from cxr.models import backbones
from cxr.models import head as heads
from cxr.training import feature_files, features, probe
from cxr.training.fit import Trained
from tests.small import AUGMENTATION, TINY, head, phase, regression, system
from tests.trained import IMAGES, INDEX, evaluated, train

TRAIN, VAL = (np.flatnonzero(INDEX["split"] == split) for split in ("train", "val"))
TAPS = head(layers=("block1_pool", "block2_conv1"))


def rest(width: int) -> keras.Model:
    """The part of a network after the frozen features: the output layer alone."""
    given = keras.Input((width,))
    return keras.Model(given, layers.Dense(1, activation="sigmoid", name=heads.OUTPUT)(given))


def random_data(width: int = 3, patients: int = 40) -> tuple[features.Data, dict[str, np.ndarray]]:
    """Features that tell the label a little; one to three images a patient, 12 images in val."""
    draws = np.random.default_rng(1)
    patient = np.repeat(np.arange(patients), draws.integers(1, 4, patients))
    labels = patient % 3 % 2
    scales = 10.0 ** draws.integers(-2, 3, width)
    inputs = (draws.normal(size=(len(labels), width)) + 0.7 * labels[:, np.newaxis] + 5) * scales
    rows = np.arange(len(labels))
    data = features.Data(inputs.astype("float32"), labels, rows[:-12], rows[-12:], None)
    return data, {"train": patient[:-12], "val": patient[-12:]}


def fit(data, patients, *strengths: float, balanced: bool = False):
    """Fit a new output layer; return what was fitted, and the layer's kernel and bias."""
    model = rest(data.inputs.shape[1])
    fitted = probe.fit(
        model, data, patients, params.Penalty(strengths=strengths or (1.0,)), balanced, 64
    )
    return fitted, model


def predicted(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    return model.predict_on_batch(inputs)[:, 0]


class TestFit:
    @pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
    def test_gives_the_probabilities_of_scikit_learn(self, strength):
        data, patients = random_data()
        train = data.inputs[data.train].astype("float64")
        weights = 1 / pd.Series(patients["train"]).map(pd.Series(patients["train"]).value_counts())
        scaler = StandardScaler().fit(train, sample_weight=weights)
        expected = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000).fit(
            scaler.transform(train), data.labels[data.train], sample_weight=weights
        )
        _, model = fit(data, patients, strength)
        scaled = scaler.transform(data.inputs.astype("float64"))
        np.testing.assert_allclose(
            predicted(model, data.inputs), expected.predict_proba(scaled)[:, 1], atol=1e-4
        )

    def test_copies_of_a_patients_image_change_nothing(self):
        data, patients = random_data()
        copies = np.tile(data.train[patients["train"] == patients["train"][0]], 20)
        more = features.Data(
            data.inputs, data.labels, np.concatenate([data.train, copies]), data.val, None
        )
        of_more = patients | {"train": np.append(patients["train"], patients["train"][copies])}
        once, twenty = (fit(*given)[1] for given in ((data, patients), (more, of_more)))
        np.testing.assert_allclose(
            predicted(once, data.inputs), predicted(twenty, data.inputs), atol=1e-4
        )
        apart = of_more | {"train": np.arange(len(more.train))}
        differing = fit(more, apart)[1]
        assert np.abs(predicted(once, data.inputs) - predicted(differing, data.inputs)).max() > 0.01

    def test_uses_all_views_of_a_patient_as_one(self):
        data, patients = random_data()
        train, rows = data.inputs[data.train], np.arange(len(data.train))
        inputs = np.concatenate([train, train + 1, data.inputs[data.val]])
        labels = np.concatenate([data.labels[data.train]] * 2 + [data.labels[data.val]])
        val = np.arange(2 * len(rows), len(inputs))
        views = features.Data(inputs, labels, rows, val, None, views=2)
        alone = features.Data(inputs, labels, np.arange(2 * len(rows)), val, None)
        one = fit(views, patients)[1]
        other = fit(alone, patients | {"train": np.tile(patients["train"], 2)})[1]
        np.testing.assert_array_equal(predicted(one, inputs), predicted(other, inputs))

    def test_ignores_a_constant_feature(self):
        data, patients = random_data()
        constant = np.full((len(data.inputs), 1), 0.1, "float32")
        wider = features.Data(
            np.hstack([data.inputs, constant]), data.labels, data.train, data.val, None
        )
        one, other = fit(data, patients)[1], fit(wider, patients)[1]
        assert other.get_layer(heads.OUTPUT).kernel[-1, 0] == 0
        np.testing.assert_allclose(
            predicted(one, data.inputs), predicted(other, wider.inputs), atol=1e-4
        )

    @pytest.mark.parametrize(
        ("strengths", "said"),
        [
            ((1.0, 100.0), "strength 1 has the lowest loss and is the smallest"),
            ((0.01, 1.0), "strength 1 has the lowest loss and is the largest"),
            ((0.01, 1.0, 100.0), ""),
            ((1.0,), ""),
        ],
    )
    def test_says_when_the_list_ends_with_the_best_strength(self, strengths, said, caplog):
        with caplog.at_level("WARNING"):
            assert fit(*random_data(), *strengths)[0].strength == 1
        assert said in caplog.text
        assert bool(caplog.text) == bool(said)

    def test_chooses_the_strength_with_the_lowest_loss_on_validation(self):
        """One feature, right for 3 of 4 in training and for half of validation.

        The weaker the penalty, the surer the model, so the strongest one is best on validation.
        """
        inputs = np.float32([1, 1, 1, -1, -1, -1, -1, 1, 1, 1, -1, -1])[:, np.newaxis]
        labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0])
        data = features.Data(inputs, labels, np.arange(8), np.arange(8, 12), None)
        patients = {"train": np.arange(8), "val": np.arange(4)}
        fitted, model = fit(data, patients, 0.1, 1000.0, 10.0)
        assert fitted.strength == 1000
        assert list(fitted.val_losses) == [1000, 10, 0.1]
        assert sorted(fitted.val_losses.values()) == list(fitted.val_losses.values())
        _, alone = fit(data, patients, 1000.0)
        np.testing.assert_array_equal(predicted(model, inputs), predicted(alone, inputs))
        # On images like those of training the weakest is best.
        like = features.Data(inputs, labels, data.train, data.train, None)
        likewise = {"train": np.arange(8), "val": np.arange(8)}
        assert fit(like, likewise, 0.1, 1000.0, 10.0)[0].strength == 0.1

    def test_chooses_with_patients_weighted_equally(self):
        """Validation has one patient for whom the feature is wrong, with many images."""
        inputs = np.float32([1, 1, 1, -1, -1, -1, -1, 1] + [1, 1, -1, -1] + [1] * 9)[:, np.newaxis]
        labels = np.array([1, 1, 1, 1, 0, 0, 0, 0] + [1, 1, 0, 0] + [0] * 9)
        data = features.Data(inputs, labels, np.arange(8), np.arange(8, 21), None)
        patients = {"train": np.arange(8), "val": np.array([0, 1, 2, 3] + [4] * 9)}
        assert fit(data, patients, 0.1, 1000.0)[0].strength == 0.1
        apart = patients | {"val": np.arange(13)}
        assert fit(data, apart, 0.1, 1000.0)[0].strength == 1000

    def test_takes_the_strongest_of_those_that_tie(self):
        data, patients = random_data()
        same = features.Data(
            np.zeros_like(data.inputs), data.labels, data.train, data.val, None
        )  # no feature tells anything, so all strengths give the same model
        assert fit(same, patients, 1.0, 100.0, 10.0)[0].strength == 100

    def test_needs_both_classes(self):
        data, patients = random_data()
        alone = features.Data(data.inputs, np.ones_like(data.labels), data.train, data.val, None)
        with pytest.raises(InputError, match="all images to train on are PNEUMONIA"):
            fit(alone, patients)


class TestPhase:
    """A logistic regression as a phase of a system."""

    SYSTEM = system(
        augmentation=None, class_weights=None, head=TAPS, phases={"probe": regression(0.1, 10.0)}
    )

    @pytest.fixture(scope="class")
    def fitted(self) -> tuple[Trained, list]:
        """SYSTEM trained once, and the calls of on_epoch."""
        reported = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(backbones.BACKBONES, "tiny", TINY)
            trained = train(self.SYSTEM, on_epoch=lambda *row: reported.append(row))
        return trained, reported

    def test_fits_the_output_to_the_pooled_layers(self, fitted):
        trained, _ = fitted
        taps = keras.Model(
            trained.model.input,
            [trained.model.get_layer(name).output for name in ("block1_pool", "block2_conv1")],
        )
        pooled = np.hstack(
            [
                np.asarray(maps).mean(axis=(1, 2))
                for maps in taps.predict_on_batch(IMAGES[..., np.newaxis])
            ]
        )
        assert pooled.shape[1] == 4 + 6
        patients = INDEX["patient"].to_numpy()
        labels = INDEX["label"].to_numpy()
        data = features.Data(pooled, labels, TRAIN, VAL, None)
        _, expected = fit(
            data, {"train": patients[TRAIN], "val": patients[VAL]},
            trained.record["phases"]["probe"]["strength"],
        )  # fmt: skip
        np.testing.assert_allclose(
            trained.model.predict_on_batch(IMAGES[..., np.newaxis])[:, 0],
            predicted(expected, pooled), atol=1e-4,
        )  # fmt: skip

    def test_has_a_row_of_history_without_a_learning_rate(self, fitted):
        trained, reported = fitted
        (row,) = trained.history.to_dict("records")
        assert (row["epoch"], row["phase"]) == (1, "probe")
        assert np.isnan(row["learning_rate"])
        for split, prefix in (("train", ""), ("val", "val_")):
            found = evaluated(trained.model, split)
            right = (found["probability"] > 0.5) == (found["label"] == 1)
            assert row[f"{prefix}loss"] == pytest.approx(found["loss"].mean(), rel=1e-4)
            assert row[f"{prefix}accuracy"] == pytest.approx(right.mean())
        assert [number for number, _ in reported] == [1]
        assert len(trained.training["seconds_per_epoch"]) == 1

    def test_records_the_strength_and_the_losses(self, fitted):
        record = fitted[0].record["phases"]["probe"]
        assert record["trainable_layers"] == ["head_output"]
        assert record["parameters"]["trainable"] == 4 + 6 + 1
        assert (record["epochs"], record["best_epoch"]) == (1, 1)
        losses = dict(record["val_losses"])
        assert list(losses) == [10, 0.1]
        assert record["strength"] == min(losses, key=losses.get)

    def test_is_where_a_next_phase_starts(self):
        still = phase("head", rate=1e-12)
        phases = {"probe": regression(0.1), "finetune": still}
        trained = train(self.SYSTEM.model_copy(update={"phases": phases}))
        assert trained.history["epoch"].tolist() == [1, 2]
        assert trained.history["learning_rate"].tolist()[1] == 1e-12
        for one, other in zip(*trained.weights.values(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)

    def test_may_have_a_dropout(self, fitted):
        settings = TAPS.model_copy(update={"dropout": 0.5})
        one, other = train(self.SYSTEM.model_copy(update={"head": settings})), fitted[0]
        pixels = IMAGES[..., np.newaxis]
        np.testing.assert_array_equal(
            one.model.predict_on_batch(pixels), other.model.predict_on_batch(pixels)
        )

    def test_uses_images_without_augmentation(self, fitted):
        one = train(system(class_weights=None, head=TAPS, phases=self.SYSTEM.phases))
        assert one.history.equals(fitted[0].history)

    def test_fits_all_views(self, fitted):
        views = AUGMENTATION.model_copy(update={"views": 2})
        settings = self.SYSTEM.model_copy(update={"augmentation": views})
        trained = train(settings)
        assert trained.record["phases"]["probe"]["frozen_features"]["views"] == 2
        assert not trained.history.equals(fitted[0].history)

    @pytest.mark.parametrize("views", [0, 1])
    def test_takes_its_features_from_the_stage_if_they_are_of_training_images(self, views):
        """What is stored here is zeros, from which nothing can be learnt."""
        rows = len(VAL) + views * len(TRAIN)
        stored = feature_files.Features("head_pools", views, "float32", np.zeros((rows, 10)))
        augmentation = None if views else AUGMENTATION
        settings = self.SYSTEM.model_copy(update={"augmentation": augmentation})
        trained = train(settings, held={"probe": stored})
        learnt = trained.model.get_layer("head_output").get_weights()[0].any()
        assert learnt == (views == 0)

    def test_says_what_to_do_if_the_features_need_too_much_memory(self, monkeypatch):
        monkeypatch.setattr(features, "LIMIT", 0)
        with pytest.raises(InputError, match="phase probe: the frozen features take too much mem"):
            train(self.SYSTEM)

    def test_fits_perturbed_images(self):
        phases = {"probe": regression(0.1, data="perturbed")}
        trained = train(self.SYSTEM.model_copy(update={"phases": phases}))
        found = evaluated(trained.model, "val", "perturbed")
        assert trained.history["val_loss"][0] == pytest.approx(found["loss"].mean(), rel=1e-4)

    def test_weights_classes_equally_if_the_system_does(self):
        settings = {"augmentation": None, "head": TAPS, "phases": {"probe": regression(1e6)}}
        balanced = train(system(class_weights="balanced", **settings))
        mean = evaluated(balanced.model, "train")["probability"].mean()
        assert mean == pytest.approx(0.5, abs=0.01)  # such a penalty leaves the bias alone
