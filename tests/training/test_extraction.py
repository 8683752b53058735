"""The features stage's work: one pass for all phases, what training makes of it, and sharing."""

import logging
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from cxr import files, params
from cxr.models import network
from cxr.training import extraction, feature_files, features
from tests.small import APPEARANCE, AUGMENTATION, PERTURBATION, head, phase, weights_of, xrays
from tests.trained import IMAGES, INDEX, plain, train, val_loss
from tests.training.test_device import CPU
from tests.training.test_device import settings as training

pytestmark = pytest.mark.usefixtures("tiny")

BLOCK_2 = params.Blocks(blocks=(2,))
VIEWS = AUGMENTATION.model_copy(update={"views": 3})
CHANGING = VIEWS.model_copy(
    update={
        "appearance": APPEARANCE,
        "magnification": params.Magnification(x=(0.85, 1.2), y=(0.85, 1.3)),
        "original": 0.25,
        "views": 2,
    }
)
INPUTS = {"images.npy": "a", "index.csv": "b", "weights": "c"}


def two_phases(**changes) -> params.System:
    phases = {"head": phase("head", rate=0.01, epochs=2), "block": phase(BLOCK_2, rate=0.01)}
    return plain("sigmoid", **{"phases": phases} | changes)


def initial(settings: params.System) -> dict[str, list[np.ndarray]]:
    """Random weights of the backbone."""
    keras.utils.set_random_seed(3)
    layers = weights_of(network.build(settings))
    return {name: arrays for name, arrays in layers.items() if not name.startswith("head_")}


def extract(
    root: Path,
    settings: params.System,
    name: str = "tiny",
    precision: str = "float32",
    inputs: dict[str, str] = INPUTS,
    images: np.ndarray = IMAGES,
    seed: int = 0,
    **changes,
) -> Path:
    """Extract the features of a system to a project's folder, in batches of 8."""
    weights = initial(settings)
    keras.backend.clear_session()  # a stage is a process of its own: layers have the same names
    chosen = extraction.Settings(training(precision), CPU, PERTURBATION, 8, seed)
    folder = root / "features" / name / feature_files.FOLDER
    extraction.extract(settings, images, INDEX, weights, chosen, inputs, folder, [root])
    return folder


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """The number of outputs of each pass over the network."""
    seen: list[int] = []
    real = features.compute

    def listen(extractor, *arguments):
        seen.append(len(extractor.outputs))
        return real(extractor, *arguments)

    monkeypatch.setattr(features, "compute", listen)
    return seen


class TestExtract:
    def test_computes_all_phases_in_one_pass(self, tmp_path, passes):
        settings = two_phases()
        folder = extract(tmp_path, settings)
        assert passes == [2]
        held = feature_files.opened(folder)
        assert {name: (of.layer, of.views) for name, of in held.items()} == {
            "head": ("head_pool", 1),
            "block": ("block1_pool", 1),
        }
        model = network.build(settings, initial(settings))
        rows = [
            *np.flatnonzero(INDEX["split"] == "train"),
            *np.flatnonzero(INDEX["split"] == "val"),
        ]
        for of in held.values():
            whole = keras.Model(model.input, model.get_layer(of.layer).output)
            expected = whole.predict(IMAGES[rows][..., np.newaxis], verbose=0)
            np.testing.assert_allclose(of.array, expected, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize(
        "augmentation",
        [None, AUGMENTATION, VIEWS, CHANGING, CHANGING.model_copy(update={"views": 0})],
        ids=["none", "maps", "views", "views of other appearance", "maps and appearance"],
    )
    @pytest.mark.parametrize("data", ["clean", "perturbed"])
    def test_training_gives_the_same_with_its_files(self, augmentation, data, tmp_path, caplog):
        """To float tolerance: the features are float16."""
        phases = {
            "head": phase("head", rate=0.01, epochs=2, data=data),
            "block": phase(BLOCK_2, rate=0.01, data=data),
        }
        settings = two_phases(augmentation=augmentation, phases=phases)
        held = feature_files.opened(extract(tmp_path, settings))
        weights = initial(settings)
        caplog.set_level(logging.INFO)
        with_files = train(settings, initial=weights, held=held)
        assert not any("frozen features" in message for message in caplog.messages)
        without = train(settings, initial=weights)
        assert with_files.record == without.record
        for ours, theirs in zip(
            with_files.model.get_weights(), without.model.get_weights(), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=2e-3)
        loss = with_files.history["val_loss"]
        np.testing.assert_allclose(loss, without.history["val_loss"], rtol=5e-3)

    def test_finds_the_layers_of_a_backbone_that_kerashub_has_called_before(self, tmp_path):
        images, _ = xrays({"train": (6, 13), "val": (3, 5), "test": (2, 2)}, size=32)
        settings = two_phases(
            backbone="resnet18", image_size=32,
            phases={"head": phase("head"), "block": phase(params.Blocks(blocks=(5,)))},
        )  # fmt: skip
        held = feature_files.opened(extract(tmp_path, settings, images=images))
        assert {name: (of.layer, of.array.shape) for name, of in held.items()} == {
            "head": ("head_pool", (27, 512)),
            "block": ("stack2_block1_out", (27, 2, 2, 256)),
        }

    def test_phases_on_other_data_have_other_files(self, tmp_path, passes):
        phases = {"a": phase("head"), "b": phase("head", data="perturbed")}
        held = feature_files.opened(extract(tmp_path, two_phases(phases=phases)))
        assert passes == [1, 1]
        assert np.abs(held["a"].array - held["b"].array).max() > 1

    def test_a_phase_after_its_frozen_layers_were_trained_has_none(self, tmp_path):
        phases = {"a": phase("head"), "b": phase("all"), "c": phase("head")}
        settings = two_phases(phases=phases)
        held = feature_files.opened(extract(tmp_path, settings))
        assert list(held) == ["a"]
        # Training computes them when the phase begins, from the layers as they are then.
        trained = train(settings, initial=initial(settings), held=held)
        model = network.build(settings)
        model.set_weights(trained.weights["c"])
        assert trained.history["val_loss"].iloc[-1] == pytest.approx(val_loss(model), rel=1e-3)

    def test_are_not_used_where_another_head_makes_an_earlier_phase_train_their_layers(
        self, tmp_path, caplog
    ):
        """``last`` counts the head's hidden layers, on which the features stage does not depend."""
        dense = params.Dense(units=4, batch_norm=False, dropout=0)
        phases = {"last": phase(params.Last(last=3), rate=0.1), "head": phase("head")}
        held = feature_files.opened(
            extract(tmp_path, two_phases(phases=phases, head=head(dense, dense, dense)))
        )
        assert list(held) == ["head"]
        settings = two_phases(phases=phases)
        caplog.set_level(logging.INFO)
        trained = train(settings, initial=initial(settings), held=held)
        assert any("layer head_pool do not fit" in message for message in caplog.messages)
        without = train(settings, initial=initial(settings))
        pd.testing.assert_frame_equal(trained.history, without.history, rtol=1e-3)

    def test_where_they_take_too_much_room_only_those_of_validation_are_kept(
        self, tmp_path, monkeypatch, caplog
    ):
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(extraction, "LIMIT", 27 * 64 * 2 - 1)  # block1_pool has 64 numbers
        held = feature_files.opened(extract(tmp_path, two_phases()))
        assert {name: (of.views, len(of.array)) for name, of in held.items()} == {
            "head": (1, 27),
            "block": (0, 8),
        }
        assert any("features of layer block1_pool would take" in m for m in caplog.messages)

    def test_gives_the_same_bytes_each_time(self, tmp_path):
        hashes = [
            {
                p.name: files.file_sha256(p)
                for p in extract(tmp_path / place, two_phases()).iterdir()
            }
            for place in "ab"
        ]
        assert hashes[0] == hashes[1]
        assert len(hashes[0]) == 3

    def test_an_interruption_leaves_no_features(self, tmp_path, monkeypatch):
        real = feature_files.Writer.__setitem__

        def stop(self, places, values):
            real(self, places, values)
            if places.start >= 8:
                raise KeyboardInterrupt

        monkeypatch.setattr(feature_files.Writer, "__setitem__", stop)
        with pytest.raises(KeyboardInterrupt):
            extract(tmp_path, two_phases())
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    def test_records_the_precision_that_was_chosen(self, tmp_path):
        held = feature_files.opened(extract(tmp_path, two_phases(), precision="bfloat16"))
        assert {of.policy for of in held.values()} == {"mixed_bfloat16"}


class TestShared:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"name": "other", "phases": {"p": phase("head", rate=1.0, epochs=9)}},
            {"batch_size": 2, "class_weights": "balanced"},
        ],
        ids=["equal", "one of the layers", "other settings"],
    )
    def test_features_are_copied_and_the_network_does_not_run(self, changes, tmp_path, passes):
        name = changes.pop("name", "other")
        first = extract(tmp_path, two_phases())
        second = extract(tmp_path, two_phases(**changes), name)
        assert passes == [2]
        held = feature_files.opened(second)
        for of, by in ((held[n], feature_files.opened(first)) for n in held):
            (equal,) = [each for each in by.values() if each.layer == of.layer]
            np.testing.assert_array_equal(of.array, equal.array)

    def test_only_what_is_missing_is_computed(self, tmp_path, passes):
        extract(tmp_path, two_phases(phases={"p": phase("head")}))
        extract(tmp_path, two_phases(), "other")
        assert passes == [1, 1]

    @pytest.mark.parametrize(
        "changes",
        [
            {"inputs": INPUTS | {"images.npy": "x"}},
            {"inputs": INPUTS | {"weights": "x"}},
            {"precision": "bfloat16"},
            {"settings": two_phases(augmentation=VIEWS)},
        ],
        ids=["other images", "other weights", "other precision", "views"],
    )
    def test_others_are_not(self, changes, tmp_path, passes):
        extract(tmp_path, two_phases())
        extract(tmp_path, **{"settings": two_phases(), "name": "other"} | changes)
        assert passes == [2, 2]

    def test_views_of_another_seed_are_not(self, tmp_path, passes):
        extract(tmp_path, two_phases(augmentation=VIEWS))
        extract(tmp_path, two_phases(augmentation=VIEWS), "same")
        assert passes == [2]
        extract(tmp_path, two_phases(augmentation=VIEWS), "other", seed=1)
        assert passes == [2, 2]

    @pytest.mark.parametrize(
        "changes",
        [
            {"appearance": None},
            {"appearance": APPEARANCE.model_copy(update={"gamma": 0.3})},
            {"magnification": None},
            {"original": 0.5},
        ],
        ids=["without appearance", "another gamma", "without magnification", "another share"],
    )
    def test_views_with_other_settings_are_not(self, changes, tmp_path, passes):
        extract(tmp_path, two_phases(augmentation=CHANGING))
        other = CHANGING.model_copy(update=changes)
        extract(tmp_path, two_phases(augmentation=other), "other")
        assert passes == [2, 2]

    def test_another_pooling_is_another_layer(self, tmp_path, passes):
        extract(tmp_path, two_phases())
        pool = two_phases().head.model_copy(update={"pool": "max"})
        extract(tmp_path, two_phases(head=pool), "other")
        assert passes == [2, 1]
