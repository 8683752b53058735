"""Training: reproducible, phase by phase, with the requested weights, steps and class weights."""

import json
import math

import keras
import numpy as np
import pandas as pd
import pytest

from cxr import files, params, seeding
from cxr.errors import InputError
from cxr.models import backbones, network, store
from cxr.training import batches, fit
from tests.small import (
    AUGMENTATION,
    PERTURBATION,
    SIZE,
    TINY,
    head,
    phase,
    system,
    xrays,
)
from tests.trained import IMAGES, METRICS, STILL, evaluated, plain, train, val_loss

TWO_PHASES = system(
    phases={
        "head": phase("head", rate=1e-2, epochs=2, steps_per_epoch=3),
        "finetune": phase(params.Blocks(blocks=(2,)), epochs=3, patience=5),
    }
)


@pytest.fixture(scope="module")
def two_phases():
    """TWO_PHASES trained once, the calls of on_epoch, and the batches taken from Shuffled."""
    reported, asked = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "tiny", TINY)
        real = batches.Shuffled.__getitem__

        def listen(self, step):
            asked.append((self.phase, self.epoch, step))
            return real(self, step)

        patch.setattr(batches.Shuffled, "__getitem__", listen)
        trained = train(TWO_PHASES, on_epoch=lambda n, metrics: reported.append((n, dict(metrics))))
    return trained, reported, asked


class TestTwoPhases:
    def test_history_has_a_row_for_each_epoch_numbered_across_phases(self, two_phases):
        history = two_phases[0].history
        assert list(history.columns[:3]) == ["epoch", "phase", "learning_rate"]
        assert set(history.columns[3:]) == {*METRICS, *[f"val_{metric}" for metric in METRICS]}
        assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
        assert history["phase"].tolist() == ["head"] * 2 + ["finetune"] * 3
        assert history["learning_rate"].tolist() == [1e-2] * 2 + [1e-3] * 3
        assert np.isfinite(history.drop(columns="phase").to_numpy()).all()

    def test_each_epoch_is_reported_as_it_ends(self, two_phases):
        trained, reported, _ = two_phases
        assert [number for number, _ in reported] == [1, 2, 3, 4, 5]
        rows = trained.history.drop(columns=["epoch", "phase", "learning_rate"]).to_dict("records")
        assert [metrics for _, metrics in reported] == rows

    def test_each_batch_is_drawn_once_for_its_phase_epoch_and_step(self, two_phases):
        # Before the first epoch Keras takes two batches to learn their shapes: epoch 0.
        first = 2
        assert two_phases[2] == [
            asked
            for name, epochs, steps in (("head", 2, 3), ("finetune", 3, 4))
            for asked in [
                *[(name, 0, step) for step in range(first)],
                *[(name, epoch, step) for epoch in range(1, epochs + 1) for step in range(steps)],
            ]
        ]

    def test_the_record_says_what_was_trained(self, two_phases):
        record = two_phases[0].record
        best = record["phases"]["finetune"].pop("best_epoch")
        losses = two_phases[0].history["val_loss"]
        assert best == 3 + int(losses[2:].to_numpy().argmin())
        top = 6 * 5 + 5 + 5 + 1
        blocks = (27 * 4 + 4), (9 * 4 * 6 + 6)
        assert record["phases"] == {
            "head": {
                "trainable_layers": ["head_dense_1", "head_output"],
                "parameters": {"total": top + sum(blocks), "trainable": top, "frozen": 334},
                "frozen_features": {"layer": "head_pool", "views": 0, "policy": "float32"},
                "steps_per_epoch": 3,
                "epochs": 2,
                "best_epoch": 2,
            },
            "finetune": {
                "trainable_layers": ["block2_conv1", "head_dense_1", "head_output"],
                "parameters": {
                    "total": top + sum(blocks),
                    "trainable": top + blocks[1],
                    "frozen": blocks[0],
                },
                "frozen_features": {"layer": "block1_pool", "views": 0, "policy": "float32"},
                "steps_per_epoch": 4,
                "epochs": 3,
            },
        }
        record["phases"]["finetune"]["best_epoch"] = best
        assert record["parameters"] == record["phases"]["finetune"]["parameters"]
        assert record["images"] == {
            "train": {"NORMAL": 6, "PNEUMONIA": 13},
            "val": {"NORMAL": 3, "PNEUMONIA": 5},
        }
        assert (record["seed"], record["epochs"], record["perturbation"]) == (0, 5, None)
        assert params.System.model_validate_json(json.dumps(record["system"])) == TWO_PHASES

    def test_training_records_policy_and_seconds(self, two_phases):
        training = two_phases[0].training
        assert len(training["seconds_per_epoch"]) == 5
        assert 0 < sum(training["seconds_per_epoch"]) <= training["seconds"] + 0.1
        assert training["policy"] == "float32"

    def test_each_phase_changes_only_its_own_layers_and_continues_the_one_before(self, two_phases):
        keras.utils.set_random_seed(seeding.derive(0, "keras"))  # as train does it
        fresh, trained = network.build(TWO_PHASES), two_phases[0]
        assert list(trained.weights) == ["head", "finetune"]
        start, between, end = (
            fresh.get_weights(),
            trained.weights["head"],
            trained.model.get_weights(),
        )
        # block1_conv1, block2_conv1, head_dense_1, head_output: kernel and bias of each.
        assert [np.any(a != b) for a, b in zip(start, between, strict=True)] == [False] * 4 + [
            True
        ] * 4
        assert [np.any(a != b) for a, b in zip(between, end, strict=True)] == [False] * 2 + [
            True
        ] * 6

    def test_weights_of_an_earlier_phase_are_those_after_it(self, two_phases):
        trained = two_phases[0]
        model = network.build(TWO_PHASES)
        model.set_weights(trained.weights["head"])
        assert val_loss(model) == pytest.approx(trained.history["val_loss"][1], rel=1e-4)

    def test_save_writes_the_whole_folder(self, two_phases, tmp_path):
        trained = two_phases[0]
        fit.save(trained, tmp_path, freeze_blocks=4)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "architecture.json", "history.csv", "model.weights.h5", "phases", "train.json",
        ]  # fmt: skip
        assert sorted(path.name for path in (tmp_path / "phases").iterdir()) == [
            "head.weights.h5", "index.json",
        ]  # fmt: skip
        record = json.loads((tmp_path / "train.json").read_text())
        assert record["freeze_blocks"] == 4
        assert record["weights_sha256"] == files.file_sha256(tmp_path / "model.weights.h5")
        assert record["class_weights"] == {"0": 19 / 12, "1": 19 / 26}
        table = pd.read_csv(tmp_path / "history.csv")
        pd.testing.assert_frame_equal(table, trained.history, check_exact=True)
        again = store.load(tmp_path)
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
            settings = system(
                phases={"first": phase("head"), "then": phase("all", data="perturbed", patience=1)}
            )
            for seed in (0, 0, 1):
                folder = tmp_path_factory.mktemp("run")
                keras.backend.clear_session()  # a stage is a process of its own
                fit.save(train(settings, seed), folder, None)
                written.append({p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()})
                np.random.default_rng().random(3)
                keras.random.uniform((3,))
        return written

    @pytest.mark.parametrize(
        "name",
        ["architecture.json", "first.weights.h5", "model.weights.h5", "history.csv", "train.json"],
    )
    def test_a_run_gives_the_same_bytes(self, files, name):
        assert files[0][name] == files[1][name]

    @pytest.mark.parametrize("name", ["model.weights.h5", "history.csv"])
    def test_another_seed_gives_another_result(self, files, name):
        assert files[0][name] != files[2][name]


class TestClassWeights:
    @pytest.mark.parametrize("rule", ["balanced", None])
    def test_weight_the_loss(self, rule):
        # One whole batch, no dropout, no augmentation, and a rate that changes nothing.
        settings = plain(
            "sigmoid",
            batch_size=19,
            class_weights=rule,
            phases={"train": phase("head", rate=STILL)},
        )
        trained = train(settings)
        table = evaluated(trained.model, "train")
        weights = np.where(table["label"] == 1, 19 / 26, 19 / 12) if rule else np.ones(19)
        expected = np.mean(weights * table["loss"])
        assert trained.history["loss"][0] == pytest.approx(expected, rel=1e-4)
        assert trained.history["val_loss"][0] == pytest.approx(  # validation is not weighted
            val_loss(trained.model), rel=1e-4
        )
        assert (trained.record["class_weights"] is None) == (rule is None)


class TestOneEpoch:
    @pytest.mark.parametrize("data", ["clean", "perturbed"])
    def test_validation_images_are_not_augmented(self, data):
        phases = {"train": phase(data=data)}
        trained = train(system(augmentation=AUGMENTATION, phases=phases))
        expected = evaluated(trained.model, "val", data)["loss"].mean()
        assert trained.history["val_loss"][0] == pytest.approx(expected, rel=1e-4)

    def test_it_learns(self):
        settings = plain(
            "sigmoid",
            head=head(pool="flatten"),
            phases={"train": phase("all", rate=0.02, epochs=12)},
        )
        history = train(settings).history
        assert history["loss"].iloc[-1] < 0.5 * history["loss"][0]
        assert history["auc"].iloc[-1] > 0.95

    def test_bfloat16_keeps_float32_weights(self):
        trained = train(system(), policy="mixed_bfloat16")
        assert trained.training["policy"] == "mixed_bfloat16"
        assert {weight.dtype for weight in trained.model.weights} == {"float32"}
        assert keras.config.dtype_policy().name == "float32"
        assert math.isfinite(trained.history["loss"][0])


class TestRefused:
    @pytest.mark.parametrize(("counts", "missing"), [((0, 8), "NORMAL"), ((8, 0), "PNEUMONIA")])
    def test_a_training_set_of_one_class(self, counts, missing):
        images, index = xrays({"train": counts, "val": (1, 1)})
        with pytest.raises(InputError, match=f"no {missing} image to train on"):
            fit.train(
                system(),
                images,
                index,
                None,
                "float32",
                PERTURBATION,
                64,
                0,
                lambda *_: None,
                None,
                {},
            )

    def test_images_of_another_size(self):
        images, _ = xrays({"train": (1, 1)}, SIZE + 1)
        with pytest.raises(
            InputError, match=r"image_size is 16, but the cached X-rays are 17 x 17"
        ):
            train(system(), images=images)

    def test_a_batch_larger_than_the_training_set(self):
        with pytest.raises(InputError, match="batch_size is 20, but there are only 19"):
            train(system(batch_size=20))

    def test_more_steps_than_there_are_batches(self):
        settings = system(phases={"train": phase(steps_per_epoch=5)})
        with pytest.raises(InputError, match=r"train\.steps_per_epoch is 5, but 19 images"):
            train(settings)


@pytest.mark.parametrize(
    ("weights", "recorded"),
    [("/home/me/vgg.weights.h5", "vgg.weights.h5"), ("imagenet", "imagenet"), (None, None)],
)
def test_the_record_names_the_weights_without_a_path(weights, recorded):
    assert train(system(weights=weights)).record["system"]["weights"] == recorded


@pytest.mark.parametrize(
    ("data", "expected"),
    [(["clean"], False), (["perturbed"], True), (["clean", "perturbed", "clean"], True)],
    ids=str,
)
def test_a_system_perturbs_if_one_of_its_phases_does(data, expected):
    phases = {f"phase_{place}": phase(data=kind) for place, kind in enumerate(data)}
    assert fit.perturbs(system(phases=phases)) is expected
