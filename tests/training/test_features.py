"""Frozen features in training: computed once, within a limit of memory, and no result changes."""

import logging

import numpy as np
import pytest

from cxr import appearance, params
from cxr.errors import InputError
from cxr.models import network
from cxr.training import batches, feature_files, features, fit
from tests.small import APPEARANCE, AUGMENTATION, PERTURBATION, phase, system
from tests.trained import IMAGES, INDEX, plain, train

BLOCK_2 = params.Blocks(blocks=(2,))
VIEWS = AUGMENTATION.model_copy(update={"views": 3})
TRAIN = np.flatnonzero(INDEX["split"] == "train")
VAL = np.flatnonzero(INDEX["split"] == "val")


def data_of(settings: params.System, data: str = "clean") -> features.Data:
    drawn = None
    if data == "perturbed":
        drawn = batches.perturbations(PERTURBATION, IMAGES, INDEX, 0)
    return features.of_images(settings, IMAGES, INDEX, drawn, 0)


def assert_close(one: fit.Trained, other: fit.Trained) -> None:
    columns = one.history.columns.drop("phase")
    np.testing.assert_allclose(one.history[columns], other.history[columns], rtol=1e-4)
    for ours, theirs in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


class TestFrozenFeatures:
    """Frozen features of training images are computed once, and change no result."""

    # Block 1's pooling has 4 x 4 x 4 floats of 4 bytes, for 8 images and a batch of 64, and for 19
    # images to train on, once or in three views.
    IMAGE = 4 * 64
    VALIDATION = 8 + 64

    def trained(self, caplog, augmentation=None, **changes) -> fit.Trained:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="cxr"):
            settings = {"epochs": 2, "steps_per_epoch": 3} | changes
            block = phase(BLOCK_2, rate=0.01, restore="val_loss", **settings)
            tiny = plain("sigmoid", augmentation=augmentation, phases={"train": block})
            return train(tiny)

    @pytest.mark.parametrize("data", ["clean", "perturbed"])
    @pytest.mark.parametrize(
        ("augmentation", "views"), [(None, 1), (VIEWS, 3)], ids=["plain", "views"]
    )
    def test_are_computed_once_and_change_no_result(
        self, augmentation, views, data, caplog, monkeypatch
    ):
        once = self.trained(caplog, augmentation, data=data)
        count = views * 19 + 8
        assert f"frozen features of {count} images once: (4, 4, 4) each" in caplog.text
        monkeypatch.setattr(features, "LIMIT", self.IMAGE * (count + 64) - 1)
        each_time = self.trained(caplog, augmentation, data=data)
        assert "frozen features of 8 images once" in caplog.text
        used = [t.record["phases"]["train"].pop("frozen_features") for t in (once, each_time)]
        assert [use["views"] for use in used] == [views, 0]
        assert once.record == each_time.record
        assert_close(once, each_time)

    def test_may_use_memory_up_to_the_limit(self, caplog, monkeypatch):
        monkeypatch.setattr(features, "LIMIT", self.IMAGE * (19 + self.VALIDATION))
        self.trained(caplog, epochs=1)
        assert "features of 27 images once" in caplog.text

    def test_of_training_images_are_not_computed_with_new_random_maps(self, caplog):
        assert AUGMENTATION.views == 0
        trained = self.trained(caplog, AUGMENTATION)
        assert "features of 8 images once" in caplog.text
        used = trained.record["phases"]["train"]["frozen_features"]
        assert used == {"layer": "block1_pool", "views": 0, "policy": "float32"}

    @pytest.mark.parametrize("augmentation", [None, AUGMENTATION, VIEWS], ids=str)
    def test_pass_the_frozen_layers_once(self, augmentation, monkeypatch):
        """Validation images never pass them again; training images only with new random maps."""
        passed = {"train": [], "val": []}
        real = batches.Ordered.__getitem__

        def listen(self, step):
            if self.images.dtype == np.uint8:
                for split, rows in (("train", TRAIN), ("val", VAL)):
                    passed[split] += sorted(set(self.rows_of(step)) & set(rows))
            return real(self, step)

        monkeypatch.setattr(batches.Ordered, "__getitem__", listen)
        settings = plain(
            "sigmoid", augmentation=augmentation, batch_size=19,
            phases={"train": phase("head", epochs=4)},
        )  # fmt: skip
        train(settings)
        assert sorted(set(passed["val"])) == VAL.tolist()
        assert len(passed["val"]) == len(VAL)  # filled batches repeat the last row in itself
        # Keras takes a batch to learn its shape before the first epoch, and maybe one more.
        passes = len(passed["train"]) // len(TRAIN)
        assert passes in ((5, 6) if augmentation is AUGMENTATION else (1,))

    def test_of_other_images_are_refused(self):
        stored = feature_files.Features("head_pool", 1, "float32", np.zeros((26, 6)))
        settings = plain("sigmoid", phases={"train": phase("head")})
        with pytest.raises(InputError, match="26 features of layer head_pool are stored, but 27"):
            train(settings, held={"train": stored})

    def test_without_frozen_layers_there_are_none(self):
        trained = train(system(phases={"train": phase("all")}))
        assert trained.record["phases"]["train"]["frozen_features"] is None


class TestOnce:
    def test_gives_each_view_of_the_training_images_then_validation(self):
        data = data_of(system(augmentation=VIEWS))
        passing = features.once(data, VIEWS, np.inf)
        assert passing.views == 3
        assert passing.rows.tolist() == [*TRAIN, *TRAIN, *TRAIN, *VAL]
        for view in range(3):
            own = passing.maps[view * 19 : (view + 1) * 19]
            np.testing.assert_array_equal(own, data.maps[view][TRAIN])
        np.testing.assert_array_equal(passing.maps[3 * 19 :], np.tile(np.eye(3), (8, 1, 1)))

    def test_gives_the_appearance_of_each_view_and_none_of_validation(self):
        ranges = VIEWS.model_copy(update={"appearance": APPEARANCE, "original": 0.25})
        data = data_of(system(augmentation=ranges))
        passing = features.once(data, ranges, np.inf)
        assert (passing.views, passing.appearance) == (4, APPEARANCE)  # the image itself too
        assert passing.rows.tolist() == [*TRAIN] * 4 + [*VAL]
        neutral = [list(appearance.NEUTRAL)]
        assert passing.appearances[:19].tolist() == neutral * 19
        np.testing.assert_array_equal(passing.appearances[19:38], data.appearances[1][TRAIN])
        assert passing.appearances[4 * 19 :].tolist() == neutral * 8
        assert features.once(data, ranges, 0).appearance is None

    @pytest.mark.parametrize(("limit", "views"), [(65, 3), (64, 0)])
    def test_gives_validation_alone_where_there_is_no_room(self, limit, views):
        data = data_of(system(augmentation=VIEWS))
        passing = features.once(data, VIEWS, limit)
        assert (passing.views, len(passing.rows)) == (views, 19 * views + 8)


class TestCut:
    """The last frozen layer of each phase whose frozen layers have their initial weights."""

    @pytest.mark.parametrize(
        ("rules", "expected"),
        [
            pytest.param({"a": "head", "b": BLOCK_2}, {"a": "head_pool", "b": "block1_pool"},
                         id="head, then block 2"),
            pytest.param({"a": "all", "b": "head"}, {}, id="after all layers"),
            pytest.param({"a": BLOCK_2, "b": "head"}, {"a": "block1_pool"}, id="after block 2"),
            pytest.param({"a": "head", "b": "all", "c": "head"}, {"a": "head_pool"},
                         id="before and after all layers"),
            pytest.param({"a": params.Last(last=1)}, {}, id="random layers of the head"),
        ],
    )  # fmt: skip
    @pytest.mark.usefixtures("tiny")
    def test_is(self, rules, expected):
        settings = system(phases={name: phase(rule) for name, rule in rules.items()})
        assert features.cut(network.build(settings), settings) == expected

    def test_counts_batch_norms_as_trained_by_all(self):
        """Their moving statistics change, also where they have no trained weights."""
        from tests.small import cnn

        settings = cnn(phases={"a": phase("all"), "b": phase("head")})
        model = network.build(settings)
        for layer in model.layers:
            if not layer.name.endswith("norm"):
                layer.trainable = False
        assert features.cut(model, settings) == {}
