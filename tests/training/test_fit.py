"""Training: the same twice, the best epoch kept, the weights and steps that were asked for."""

import json
import logging
import math

import keras
import numpy as np
import pandas as pd
import pytest

from cxr import augment, files, params, seeding
from cxr.errors import InputError
from cxr.models import backbones, network, store
from cxr.training import batches, callbacks, fit, losses
from tests.small import (
    AUGMENTATION,
    PERTURBATION,
    SIZE,
    TINY,
    head,
    phase,
    system,
    tiny_model,
    xrays,
)

CPU = params.Training(precision="float32", require_gpu=False)
IMAGES, INDEX = xrays({"train": (6, 13), "val": (3, 5), "test": (2, 2)})
METRICS = ["loss", "accuracy", "precision", "recall", "auc"]
STILL = 1e-12  # a rate that moves nothing


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Register the tiny backbone."""
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY)


def train(
    settings: params.System,
    seed: int = 0,
    on_epoch=lambda *_: None,
    initial=None,
    precision: params.Training = CPU,
    images: np.ndarray = IMAGES,
) -> fit.Trained:
    return fit.train(settings, images, INDEX, initial, precision, PERTURBATION, seed, on_epoch)


def of(output: str, **changes) -> params.System:
    """A system with that output and no layer between it and the backbone, without augmentation."""
    loss = "negative_log_likelihood" if output == "log_softmax" else "binary_crossentropy"
    return system(**{"augmentation": None, "head": head(output=output), "loss": loss} | changes)


def looked_at(split: str, data: str) -> tuple[np.ndarray, np.ndarray]:
    """A split's films as a phase with that data sees them, float32, and their labels."""
    chosen = np.flatnonzero(INDEX["split"] == split)
    films = IMAGES[chosen][..., np.newaxis].astype("float32")
    if data == "perturbed":
        ids = INDEX["id"].iloc[chosen]
        damage = augment.perturbations(PERTURBATION, (SIZE, SIZE), ids, seed=0)
        films = keras.ops.convert_to_numpy(
            augment.transform_images(films, augment.transforms(*damage))
        )
    return films, INDEX["label"].to_numpy()[chosen]


def judged(
    model: keras.Model, split: str, data: str = "clean", output: str = "sigmoid"
) -> pd.DataFrame:
    """Probability and loss, not weighted, of each of a split's films by the formulas, in float64.

    The untrained network is so sure that exp would overflow: hence logaddexp.
    """
    films, labels = looked_at(split, data)
    last = model.get_layer("head_output")
    inner = keras.Model(model.get_layer("as_float").output, last.input)
    kernel, bias = last.get_weights()
    logits = keras.ops.convert_to_numpy(inner(films)).astype("float64") @ kernel + bias
    positive = -np.logaddexp(0, -logits)  # log sigmoid
    negative = -np.logaddexp(0, logits)  # log (1 - sigmoid)
    rows = np.arange(len(labels))
    match output:
        case "sigmoid":
            loss = -np.where(labels == 1, positive[:, 0], negative[:, 0])
            probability = np.exp(positive[:, 0])
        case "sigmoid_pair":  # NORMAL's entropy against 1 - label, PNEUMONIA's against the label
            own = positive[rows, labels]
            loss = -(own + negative[rows, 1 - labels]) / 2
            probability = np.exp(positive[:, 1]) / np.exp(positive).sum(axis=1)
        case "log_softmax":
            logs = logits - np.logaddexp(logits[:, :1], logits[:, 1:])
            loss = -logs[rows, labels]
            probability = np.exp(logs[:, 1])
    return pd.DataFrame({"label": labels, "probability": probability, "loss": loss})


def val_loss(model: keras.Model) -> float:
    return judged(model, "val")["loss"].mean()


TWO_PHASES = system(
    phases={
        "head": phase("head", rate=1e-2, epochs=2, steps_per_epoch=3),
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
        assert list(history.columns[:3]) == ["epoch", "phase", "learning_rate"]
        assert set(history.columns[3:]) == {*METRICS, *[f"val_{metric}" for metric in METRICS]}
        assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
        assert history["phase"].tolist() == ["head"] * 2 + ["finetune"] * 3
        assert history["learning_rate"].tolist() == [1e-2] * 2 + [1e-3] * 3
        assert np.isfinite(history.drop(columns="phase").to_numpy()).all()

    def test_each_epoch_is_told_as_it_ends(self, two_phases):
        trained, heard, _ = two_phases
        assert [number for number, _ in heard] == [1, 2, 3, 4, 5]
        rows = trained.history.drop(columns=["epoch", "phase", "learning_rate"]).to_dict("records")
        assert [metrics for _, metrics in heard] == rows

    def test_each_batch_is_drawn_once_for_its_phase_epoch_and_step(self, two_phases):
        # Before the first epoch Keras looks at two batches, for their shapes, and then says that
        # an epoch has ended: the draws of the first epoch trained are those of epoch 1, not 0.
        looks = 2
        assert two_phases[2] == [
            asked
            for name, epochs, steps in (("head", 2, 3), ("finetune", 3, 4))
            for asked in [
                *[(name, 0, step) for step in range(looks)],
                *[(name, epoch, step) for epoch in range(1, epochs + 1) for step in range(steps)],
            ]
        ]

    def test_the_record_says_what_was_trained(self, two_phases):
        record = two_phases[0].record
        kept = record["phases"]["finetune"].pop("kept_epoch")
        losses = two_phases[0].history["val_loss"]
        assert kept == 3 + int(losses[2:].to_numpy().argmin())
        top = 6 * 5 + 5 + 5 + 1
        blocks = (27 * 4 + 4), (9 * 4 * 6 + 6)
        assert record["phases"] == {
            "head": {
                "trainable_layers": ["head_dense_1", "head_output"],
                "parameters": {"total": top + sum(blocks), "trainable": top, "frozen": 334},
                "steps_per_epoch": 3,
                "epochs": 2,
                "kept_epoch": 2,
            },
            "finetune": {
                "trainable_layers": ["block2_conv1", "head_dense_1", "head_output"],
                "parameters": {
                    "total": top + sum(blocks),
                    "trainable": top + blocks[1],
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
        assert (record["seed"], record["epochs"], record["perturbation"]) == (0, 5, None)
        assert params.System.model_validate_json(json.dumps(record["system"])) == TWO_PHASES

    def test_precision_and_durations_are_told(self, two_phases):
        timing = two_phases[0].training
        assert len(timing["seconds_per_epoch"]) == 5
        assert 0 < sum(timing["seconds_per_epoch"]) <= timing["seconds"] + 0.1
        assert timing["policy"] == "float32"

    def test_each_phase_moves_only_what_it_trains_and_starts_from_the_one_before(self, two_phases):
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

    def test_before_is_what_the_earlier_phase_kept(self, two_phases):
        trained = two_phases[0]
        model = network.build(TWO_PHASES)
        model.set_weights(trained.weights["head"])
        assert val_loss(model) == pytest.approx(trained.history["val_loss"][1], rel=1e-4)

    def test_its_folder_is_written_whole(self, two_phases, tmp_path):
        trained = two_phases[0]
        fit.save(trained, tmp_path, freeze_blocks=4)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "architecture.json", "history.csv", "model.weights.h5", "phases",
            "train.json",
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


class Weights:
    """Stands for a model whose only weight is the number of the epoch."""

    def get_weights(self) -> int:
        return self.epoch

    def set_weights(self, weights: int) -> None:
        self.epoch = weights


class TestKeep:
    @pytest.mark.parametrize(
        ("keep", "values", "kept"),
        [
            pytest.param("val_loss", [0.3, 0.1, 0.2], 2, id="the least loss"),
            pytest.param("val_loss", [0.3, 0.1, 0.1, 0.2], 2, id="the first of equal losses"),
            pytest.param("val_loss", [0.3, 0.2, 0.1], 3, id="the last where it is the best"),
            pytest.param("val_accuracy", [0.3, 0.9, 0.5], 2, id="the greatest accuracy"),
            pytest.param("val_accuracy", [0.9, 0.3, 0.9], 1, id="the first of equal accuracies"),
            pytest.param("last", [0.1, 0.9, 0.5], 3, id="the last"),
        ],
    )
    def test_puts_back_the_weights_of(self, keep, values, kept):
        keeper, model = callbacks.Keeper(keep), Weights()
        keeper.set_model(model)
        for epoch, value in enumerate(values, start=10):  # ten epochs of the phase before
            model.epoch = epoch + 1
            keeper.on_epoch_end(epoch, {"val_loss": value, "val_accuracy": value})
        keeper.on_train_end()
        assert keeper.epoch == model.epoch == 10 + kept

    @pytest.mark.parametrize("keep", ["val_accuracy", "last"])
    def test_each_phase_keeps_its_own_and_the_next_goes_on_from_it(self, keep):
        # So large a step that validation goes up and down.
        phases = {
            "wild": phase("all", rate=0.3, epochs=8, keep=keep),
            "still": phase("head", rate=STILL),
        }
        trained = train(system(phases=phases))
        history = trained.history
        losses = history["val_loss"].to_numpy()
        kept = trained.record["phases"]["wild"]["kept_epoch"]
        best = history["val_accuracy"][:8].argmax() + 1  # the first of equals
        assert kept == (best if keep == "val_accuracy" else 8)
        assert losses[8] == pytest.approx(losses[kept - 1], rel=1e-4)
        assert val_loss(trained.model) == pytest.approx(losses[8], rel=1e-4)
        assert trained.record["phases"]["still"]["kept_epoch"] == 9
        others = np.delete(losses, [kept - 1, 8])  # or this test shows nothing
        assert np.abs(others / losses[8] - 1).min() > 1e-3


class TestEarlyStopping:
    def test_stops_when_nothing_gets_better_and_keeps_the_best_epoch(self):
        trained = train(system(phases={"train": phase("all", rate=0.3, epochs=40, patience=3)}))
        losses = trained.history["val_loss"].to_numpy()
        kept = trained.record["phases"]["train"]["kept_epoch"]
        assert len(losses) < 40
        assert kept == losses.argmin() + 1 == len(losses) - 3
        assert val_loss(trained.model) == pytest.approx(losses[kept - 1], rel=1e-4)
        assert losses[-1] != pytest.approx(losses[kept - 1], rel=1e-4)  # or this test shows nothing

    @pytest.mark.parametrize(
        ("monitor", "min_delta"),
        [
            pytest.param("val_accuracy", 0.0, id="accuracy that stays, whatever the loss does"),
            pytest.param("val_loss", 10.0, id="a loss that falls by less than min_delta"),
        ],
    )
    def test_stops_at(self, monitor, min_delta):
        stopping = params.EarlyStopping(monitor=monitor, patience=2, min_delta=min_delta)
        flat = head(pool="flatten")
        slow = phase("all", rate=1e-5, epochs=9, early_stopping=stopping)
        history = train(of("sigmoid", head=flat, phases={"train": slow})).history
        assert len(history) == 3
        assert history["val_loss"].is_monotonic_decreasing
        assert history["val_loss"].is_unique
        assert history["val_accuracy"].nunique() == 1


def test_a_plateau_lowers_the_rate_down_to_the_least():
    plateau = params.Plateau(factor=0.1, patience=2, min_learning_rate=3e-14)
    stalled = phase("all", rate=STILL, epochs=8, plateau=plateau)
    rates = train(of("sigmoid", phases={"train": stalled})).history["learning_rate"]
    # The first epoch is the best; then two without a better one, twice.
    expected = [1e-12, 1e-12, 1e-12, 1e-13, 1e-13, 3e-14, 3e-14, 3e-14]
    assert rates.tolist() == expected


class TestLoss:
    LABELS = np.float32([[0], [1], [1]])

    @pytest.mark.parametrize(
        ("output", "scores", "expected"),
        [
            pytest.param(
                "sigmoid", [[0.2], [0.2], [0.9]], -np.log([0.8, 0.2, 0.9]), id="one sigmoid"
            ),
            pytest.param(
                "sigmoid_pair",
                [[0.7, 0.2], [0.4, 0.5], [0.1, 0.9]],
                -np.log([[0.7, 0.8], [0.6, 0.5], [0.9, 0.9]]).mean(axis=1),
                id="the mean of a pair's",
            ),
            pytest.param(
                "log_softmax",
                np.log([[0.7, 0.3], [0.6, 0.4], [0.1, 0.9]]),
                -np.log([0.7, 0.4, 0.9]),
                id="minus the log of the true class's probability",
            ),
        ],
    )
    def test_is(self, output, scores, expected):
        scores = keras.ops.convert_to_tensor(np.float32(scores))
        labels = keras.ops.convert_to_tensor(self.LABELS)
        found = keras.ops.convert_to_numpy(losses.loss(output)(labels, scores))
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    @pytest.mark.parametrize(
        ("output", "data"),
        [("sigmoid", "perturbed"), ("sigmoid_pair", "clean"), ("log_softmax", "perturbed")],
    )
    def test_and_metrics_are_of_the_films_and_the_probability(self, output, data):
        # One whole batch, no dropout, and a rate that moves nothing: the loss of the training is
        # that of the weights at the end.
        settings = of(
            output,
            batch_size=19,
            class_weights=None,
            head=head(output=output, pool="flatten"),
            phases={"train": phase("head", rate=STILL, data=data)},
        )
        # Weights so small that it calls some NORMAL and is never too sure.
        keras.utils.set_random_seed(0)
        initial = {n.name: n.get_weights() for n in tiny_model().layers if n.weights}
        initial = {name: [0.2 * kernel, bias] for name, (kernel, bias) in initial.items()}
        trained = train(settings, initial=initial)
        for name, (kernel, _) in initial.items():
            np.testing.assert_array_equal(trained.model.get_layer(name).get_weights()[0], kernel)
        perturbation = PERTURBATION.model_dump(mode="json") if data == "perturbed" else None
        assert trained.record["perturbation"] == perturbation
        row = trained.history.iloc[0]
        for split, prefix in (("train", ""), ("val", "val_")):
            table = judged(trained.model, split, data, output)
            called, sick = table["probability"] > 0.5, table["label"] == 1
            assert 0 < called.mean() < 1, split  # or this test shows little
            auc = keras.metrics.AUC()
            auc.update_state(table["label"], table["probability"])
            by_hand = {
                "loss": table["loss"].mean(),
                "accuracy": (called == sick).mean(),
                "precision": sick[called].mean(),
                "recall": called[sick].mean(),
                "auc": float(auc.result()),
            }
            found = {metric: row[f"{prefix}{metric}"] for metric in METRICS}
            assert found == pytest.approx(by_hand, rel=1e-4), split


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
        assert fit._class_weights(np.array(labels)) == weights

    @pytest.mark.parametrize("label", [0, 1])
    def test_need_both_classes(self, label):
        with pytest.raises(InputError, match=f"no {params.CLASSES[1 - label]} image to train on"):
            fit._class_weights(np.full(3, label))

    @pytest.mark.parametrize("rule", ["balanced", None])
    def test_weigh_the_loss(self, rule):
        # One whole batch, no dropout, no augmentation, and a rate that moves nothing.
        settings = of(
            "sigmoid",
            batch_size=19,
            class_weights=rule,
            phases={"train": phase("head", rate=STILL)},
        )
        trained = train(settings)
        table = judged(trained.model, "train")
        weights = np.where(table["label"] == 1, 19 / 26, 19 / 12) if rule else np.ones(19)
        expected = np.mean(weights * table["loss"])
        assert trained.history["loss"][0] == pytest.approx(expected, rel=1e-4)
        assert trained.history["val_loss"][0] == pytest.approx(  # validation is not weighted
            val_loss(trained.model), rel=1e-4
        )
        assert (trained.record["class_weights"] is None) == (rule is None)


class TestOneEpoch:
    @pytest.mark.parametrize("data", ["clean", "perturbed"])
    def test_validation_sees_whole_images_though_training_augments(self, data):
        phases = {"train": phase(data=data)}
        trained = train(system(augmentation=AUGMENTATION, phases=phases))
        expected = judged(trained.model, "val", data)["loss"].mean()
        assert trained.history["val_loss"][0] == pytest.approx(expected, rel=1e-4)

    def test_it_learns(self):
        settings = of(
            "sigmoid",
            head=head(pool="flatten"),
            phases={"train": phase("all", rate=0.02, epochs=12)},
        )
        history = train(settings).history
        assert history["loss"].iloc[-1] < 0.5 * history["loss"][0]
        assert history["auc"].iloc[-1] > 0.95

    def test_bfloat16_keeps_float32_weights(self):
        half = params.Training(precision="bfloat16", require_gpu=False)
        trained = train(system(), precision=half)
        assert trained.training["policy"] == "mixed_bfloat16"
        assert {weight.dtype for weight in trained.model.weights} == {"float32"}
        assert keras.config.dtype_policy().name == "float32"
        assert math.isfinite(trained.history["loss"][0])


class TestWhatStaysTheSame:
    """Without augmentation the frozen part's output is computed once; nobody else may notice."""

    def trained(self, caplog, **changes) -> fit.Trained:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="cxr"):
            settings = {"epochs": 2, "steps_per_epoch": 3} | changes
            block = phase(params.Blocks(blocks=(2,)), rate=0.01, keep="val_loss", **settings)
            return train(of("sigmoid", phases={"train": block}))

    @pytest.mark.parametrize("data", ["clean", "perturbed"])
    def test_is_computed_once_to_the_same_end(self, data, caplog, monkeypatch):
        once = self.trained(caplog, data=data)
        assert "computing what stays the same once: (4, 4, 4), 27 films" in caplog.text
        # Block 1's pooling gives 4 x 4 x 4 floats of 4 bytes for each of 19 + 8 films.
        monkeypatch.setattr(fit, "CACHE", 27 * 4 * 64 - 1)
        each_time = self.trained(caplog, data=data)
        assert "computing" not in caplog.text
        assert once.record == each_time.record
        columns = once.history.columns.drop("phase")
        np.testing.assert_allclose(once.history[columns], each_time.history[columns], rtol=1e-4)
        for one, other in zip(once.model.get_weights(), each_time.model.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)

    def test_takes_as_much_memory_as_it_may(self, caplog, monkeypatch):
        monkeypatch.setattr(fit, "CACHE", 27 * 4 * 64)
        self.trained(caplog, epochs=1)
        assert "computing" in caplog.text


class TestRefused:
    def test_images_of_another_size(self):
        images, _ = xrays({"train": (1, 1)}, SIZE + 1)
        with pytest.raises(
            InputError, match=r"image_size is 16, but the cached X-rays are 17 x 17"
        ):
            train(system(), images=images)

    def test_a_cpu_where_a_gpu_is_a_must(self, monkeypatch):
        monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: [])
        must = params.Training(precision="auto", require_gpu=True)
        with pytest.raises(InputError, match="sees no GPU"):
            train(system(), precision=must)

    def test_a_batch_larger_than_the_training_set(self):
        with pytest.raises(InputError, match="batch_size is 20, but there are only 19"):
            train(system(batch_size=20))

    def test_more_steps_than_there_are_batches(self):
        settings = system(phases={"train": phase(steps_per_epoch=5)})
        with pytest.raises(InputError, match=r"train\.steps_per_epoch is 5, but 19 images"):
            train(settings)

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
