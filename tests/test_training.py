"""Training: the same twice, the best epoch kept, the weights and steps that were asked for."""

import json
import math

import keras
import numpy as np
import pandas as pd
import pytest

from cxr import batches, hashing, models, params, seeding, training
from cxr.errors import InputError
from cxr.models import backbones
from tests.small import AUGMENTATION, SIZE, TINY, phase, system, vgg16, xrays

CPU = params.Training(precision="float32", require_gpu=False)
IMAGES, INDEX = xrays({"train": (6, 13), "val": (3, 5), "test": (2, 2)})
METRICS = ["loss", "accuracy", "precision", "recall", "auc"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Register the tiny backbone."""
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY)


def train(settings: params.System, seed: int = 0, on_epoch=lambda *_: None) -> training.Trained:
    return training.train(settings, IMAGES, INDEX, None, CPU, seed, on_epoch)


def losses_of(model: keras.Model, split: str) -> np.ndarray:
    """The loss of each of a split's images by the formula, not weighted."""
    chosen = (INDEX["split"] == split).to_numpy()
    last = model.get_layer("head_probability")
    inner = keras.Model(model.input, last.input)
    features = keras.ops.convert_to_numpy(inner(IMAGES[chosen][..., np.newaxis]))
    kernel, bias = last.get_weights()
    logits = (features.astype("float64") @ kernel + bias)[:, 0]
    # log(1 + exp(-logit)) for PNEUMONIA; the untrained network is so sure that exp would overflow.
    return np.logaddexp(0, np.where(INDEX.loc[chosen, "label"] == 1, -logits, logits))


def val_loss(model: keras.Model) -> float:
    return losses_of(model, "val").mean()


TWO_PHASES = system(
    phases={
        "head": phase("head", rate=1e-2, epochs=2),
        "finetune": phase(params.Blocks(blocks=(2,)), epochs=3, patience=5),
    }
)


@pytest.fixture(scope="module")
def two_phases():
    """TWO_PHASES trained once, what on_epoch heard, and what Shuffled was asked for."""
    heard, asked = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "tiny", TINY)
        real = batches.Shuffled.__getitem__

        def listen(self, step):
            asked.append((self.phase, self.epoch, step))
            return real(self, step)

        patch.setattr(batches.Shuffled, "__getitem__", listen)
        trained = train(TWO_PHASES, on_epoch=lambda n, metrics: heard.append((n, dict(metrics))))
    return trained, heard, asked


class TestTwoPhases:
    def test_history_has_a_row_an_epoch_numbered_through(self, two_phases):
        history = two_phases[0].history
        assert list(history.columns[:2]) == ["epoch", "phase"]
        assert set(history.columns[2:]) == {*METRICS, *[f"val_{metric}" for metric in METRICS]}
        assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
        assert history["phase"].tolist() == ["head"] * 2 + ["finetune"] * 3
        assert np.isfinite(history.drop(columns="phase").to_numpy()).all()

    def test_each_epoch_is_told_as_it_ends(self, two_phases):
        trained, heard, _ = two_phases
        assert [number for number, _ in heard] == [1, 2, 3, 4, 5]
        rows = trained.history.drop(columns=["epoch", "phase"]).to_dict("records")
        assert [metrics for _, metrics in heard] == rows

    def test_each_batch_is_drawn_once_for_its_phase_epoch_and_step(self, two_phases):
        # Before the first epoch Keras looks at two batches, for their shapes, and then says that
        # an epoch has ended: the draws of the first epoch trained are those of epoch 1, not 0.
        looks = 2
        assert two_phases[2] == [
            asked
            for name, epochs in (("head", 2), ("finetune", 3))
            for asked in [
                *[(name, 0, step) for step in range(looks)],
                *[(name, epoch, step) for epoch in range(1, epochs + 1) for step in range(4)],
            ]
        ]

    def test_the_record_says_what_was_trained(self, two_phases):
        record = two_phases[0].record
        kept = record["phases"]["finetune"].pop("kept_epoch")
        losses = two_phases[0].history["val_loss"]
        assert kept == 3 + int(losses[2:].to_numpy().argmin())
        head = 6 * 5 + 5 + 5 + 1
        blocks = (27 * 4 + 4), (9 * 4 * 6 + 6)
        assert record["phases"] == {
            "head": {
                "trainable_layers": ["head_dense_1", "head_probability"],
                "parameters": {"total": head + sum(blocks), "trainable": head, "frozen": 334},
                "steps_per_epoch": 4,
                "epochs": 2,
                "kept_epoch": 2,
            },
            "finetune": {
                "trainable_layers": ["block2_conv1", "head_dense_1", "head_probability"],
                "parameters": {
                    "total": head + sum(blocks),
                    "trainable": head + blocks[1],
                    "frozen": blocks[0],
                },
                "steps_per_epoch": 4,
                "epochs": 3,
            },
        }
        record["phases"]["finetune"]["kept_epoch"] = kept
        assert record["parameters"] == record["phases"]["finetune"]["parameters"]
        assert record["images"] == {
            "train": {"NORMAL": 6, "PNEUMONIA": 13},
            "val": {"NORMAL": 3, "PNEUMONIA": 5},
        }
        assert (record["seed"], record["epochs"]) == (0, 5)
        assert params.System.model_validate_json(json.dumps(record["system"])) == TWO_PHASES

    def test_the_timing_says_where_and_how_long(self, two_phases):
        timing = two_phases[0].timing
        assert len(timing["seconds_per_epoch"]) == 5
        assert 0 < sum(timing["seconds_per_epoch"]) <= timing["seconds"] + 0.1
        assert timing["policy"] == "float32"
        assert timing["device"]
        assert timing["versions"]["keras"] == keras.version()

    def test_what_no_phase_trains_stays_as_it_was(self, two_phases):
        keras.utils.set_random_seed(seeding.derive(0, "keras"))  # as train does it
        fresh, trained = models.build(TWO_PHASES), two_phases[0].model
        for layer, moved in [("block1_conv1", False), ("block2_conv1", True)]:
            kernel = fresh.get_layer(layer).get_weights()[0]
            assert np.any(kernel != trained.get_layer(layer).get_weights()[0]) == moved, layer

    def test_its_folder_is_written_whole(self, two_phases, tmp_path):
        trained = two_phases[0]
        training.save(trained, TWO_PHASES, tmp_path, freeze_blocks=4)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "architecture.json", "history.csv", "model.weights.h5", "timing.json", "train.json",
        ]  # fmt: skip
        record = json.loads((tmp_path / "train.json").read_text())
        assert record["freeze_blocks"] == 4
        assert record["weights_sha256"] == hashing.file_sha256(tmp_path / "model.weights.h5")
        assert record["class_weights"] == {"0": 19 / 12, "1": 19 / 26}
        assert json.loads((tmp_path / "timing.json").read_text()) == trained.timing
        table = pd.read_csv(tmp_path / "history.csv")
        pd.testing.assert_frame_equal(table, trained.history, check_exact=True)
        again = models.load(tmp_path)
        np.testing.assert_array_equal(
            again.predict(IMAGES[..., np.newaxis], verbose=0),
            trained.model.predict(IMAGES[..., np.newaxis], verbose=0),
        )


class TestRepeated:
    @pytest.fixture(scope="class")
    def files(self, tmp_path_factory):
        """The files of runs with seeds 0, 0 and 1; other things happen between the runs."""
        written = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(backbones.BACKBONES, "tiny", TINY)
            settings = system(phases={"train": phase("all", epochs=2, patience=1)})
            for seed in (0, 0, 1):
                folder = tmp_path_factory.mktemp("run")
                training.save(train(settings, seed), settings, folder, None)
                written.append({p.name: p.read_bytes() for p in folder.iterdir()})
                np.random.default_rng().random(3)
                keras.random.uniform((3,))
        return written

    @pytest.mark.parametrize(
        "name", ["architecture.json", "model.weights.h5", "history.csv", "train.json"]
    )
    def test_a_run_gives_the_same_bytes(self, files, name):
        assert files[0][name] == files[1][name]

    @pytest.mark.parametrize("name", ["model.weights.h5", "history.csv"])
    def test_another_seed_gives_another_result(self, files, name):
        assert files[0][name] != files[2][name]


class TestEarlyStopping:
    def test_stops_when_nothing_gets_better_and_keeps_the_best_epoch(self):
        # So large a step that validation loss goes up and down.
        trained = train(system(phases={"train": phase("all", rate=0.3, epochs=40, patience=3)}))
        losses = trained.history["val_loss"].to_numpy()
        kept = trained.record["phases"]["train"]["kept_epoch"]
        assert len(losses) < 40
        assert kept == losses.argmin() + 1 == len(losses) - 3
        row = trained.history.iloc[kept - 1]
        assert val_loss(trained.model) == pytest.approx(row["val_loss"], rel=1e-4)
        assert losses[-1] != pytest.approx(losses[kept - 1], rel=1e-4)  # or this test shows nothing

    def test_keeps_the_last_epoch_where_there_is_none(self):
        trained = train(system(phases={"train": phase("all", rate=0.3, epochs=4)}))
        assert trained.record["phases"]["train"]["kept_epoch"] == len(trained.history) == 4
        row = trained.history.iloc[-1]
        assert val_loss(trained.model) == pytest.approx(row["val_loss"], rel=1e-4)

    def test_the_next_phase_goes_on_from_the_weights_kept(self):
        phases = {
            "wild": phase("all", rate=0.3, epochs=40, patience=2),
            "still": phase("head", rate=1e-12),
        }
        trained = train(system(phases=phases))
        history = trained.history
        kept = trained.record["phases"]["wild"]["kept_epoch"]
        assert kept < len(history) - 1
        assert history["val_loss"].iloc[-1] == pytest.approx(
            history["val_loss"][kept - 1], rel=1e-4
        )
        assert trained.record["phases"]["still"]["kept_epoch"] == len(history)


class TestClassWeights:
    @pytest.mark.parametrize(
        ("labels", "weights"),
        [
            pytest.param([0, 1, 1, 1], {0: 2.0, 1: 2 / 3}, id="one to three"),
            pytest.param([1, 0], {0: 1.0, 1: 1.0}, id="even"),
            # RECIPES 1: 1,283 and 3,473.
            pytest.param(
                [0] * 1283 + [1] * 3473, {0: 4756 / 2566, 1: 4756 / 6946}, id="the article's"
            ),
        ],
    )
    def test_are_total_over_twice_the_count(self, labels, weights):
        assert training._class_weights(np.array(labels)) == weights

    @pytest.mark.parametrize("label", [0, 1])
    def test_need_both_classes(self, label):
        with pytest.raises(InputError, match=f"no {params.CLASSES[1 - label]} image to train on"):
            training._class_weights(np.full(3, label))

    @pytest.mark.parametrize("rule", ["balanced", None])
    def test_weigh_the_loss(self, rule):
        # One whole batch, no dropout, no augmentation, and a rate that moves nothing.
        settings = system(
            augmentation=None,
            batch_size=19,
            class_weights=rule,
            head=params.Head(pool="max", dense=()),
            phases={"train": phase("head", rate=1e-12)},
        )
        trained = train(settings)
        chosen = (INDEX["split"] == "train").to_numpy()
        labels = INDEX.loc[chosen, "label"].to_numpy()
        weights = np.where(labels == 1, 19 / 26, 19 / 12) if rule else np.ones(19)
        expected = np.mean(weights * losses_of(trained.model, "train"))
        assert trained.history["loss"][0] == pytest.approx(expected, rel=1e-4)
        assert trained.history["val_loss"][0] == pytest.approx(  # validation is not weighted
            val_loss(trained.model), rel=1e-4
        )
        assert (trained.record["class_weights"] is None) == (rule is None)


class TestOneEpoch:
    def test_validation_sees_whole_images_though_training_augments(self):
        trained = train(system(augmentation=AUGMENTATION))
        row = trained.history.iloc[0]
        assert row["val_loss"] == pytest.approx(val_loss(trained.model), rel=1e-4)

    def test_it_learns(self):
        settings = system(
            augmentation=None,
            head=params.Head(pool="flatten", dense=()),
            phases={"train": phase("all", rate=0.02, epochs=12)},
        )
        history = train(settings).history
        assert history["loss"].iloc[-1] < 0.5 * history["loss"][0]
        assert history["auc"].iloc[-1] > 0.95

    def test_vgg16_with_block_5_alone(self):
        images, index = xrays({"train": (2, 3), "val": (1, 1)}, 32)
        settings = vgg16(phases={"train": phase(params.Blocks(blocks=(5,)))})
        keras.utils.set_random_seed(9)
        source = models.build(settings)
        initial = {n.name: n.get_weights() for n in source.layers if n.name.startswith("block")}
        initial = {name: arrays for name, arrays in initial.items() if arrays}
        trained = training.train(settings, images, index, initial, CPU, 0, lambda *_: None)
        assert trained.record["phases"]["train"]["steps_per_epoch"] == 2
        for name, arrays in initial.items():
            same = np.array_equal(trained.model.get_layer(name).get_weights()[0], arrays[0])
            assert same == (not name.startswith("block5")), name

    def test_bfloat16_keeps_float32_weights(self):
        half = params.Training(precision="bfloat16", require_gpu=False)
        trained = training.train(system(), IMAGES, INDEX, None, half, 0, lambda *_: None)
        assert trained.timing["policy"] == "mixed_bfloat16"
        assert {weight.dtype for weight in trained.model.weights} == {"float32"}
        assert keras.config.dtype_policy().name == "float32"
        assert math.isfinite(trained.history["loss"][0])


class TestRefused:
    def test_images_of_another_size(self):
        images, index = xrays({"train": (4, 4), "val": (1, 1)}, SIZE + 1)
        with pytest.raises(
            InputError, match=r"image_size is 16, but the cached X-rays are 17 x 17"
        ):
            training.train(system(), images, index, None, CPU, 0, lambda *_: None)

    def test_a_cpu_where_a_gpu_is_a_must(self, monkeypatch):
        monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: [])
        must = params.Training(precision="auto", require_gpu=True)
        with pytest.raises(InputError, match="sees no GPU"):
            training.train(system(), IMAGES, INDEX, None, must, 0, lambda *_: None)

    def test_a_batch_larger_than_the_training_set(self):
        with pytest.raises(InputError, match="batch_size is 20, but there are only 19"):
            train(system(batch_size=20))

    def test_a_loss_that_is_no_number(self):
        heard = []
        settings = system(phases={"burst": phase("all", rate=1e30, epochs=3)})
        with pytest.raises(InputError, match=r"^loss is nan after epoch \d.*burst\.learning_rate"):
            train(settings, on_epoch=lambda number, _: heard.append(number))
        assert len(heard) < 3

    def test_a_validation_loss_that_is_no_number(self):
        # One step: the loss is of the weights before it, val_loss of those after.
        settings = system(batch_size=19, phases={"burst": phase("all", rate=1e38)})
        with pytest.raises(InputError, match=r"val_loss is nan after epoch 1"):
            train(settings)
