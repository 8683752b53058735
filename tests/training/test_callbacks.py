"""Callbacks: the best epoch is restored, training stops in time, and the loss stays finite."""

import math

import numpy as np
import pytest

from cxr import params
from cxr.errors import InputError
from cxr.training import callbacks, losses
from tests.small import head, phase, system
from tests.trained import STILL, contradicted, plain, train


def overfitting(phases: dict[str, params.Phase]) -> params.System:
    """A system that trains in whole batches, so that its losses change smoothly."""
    return plain("sigmoid", batch_size=19, head=head(pool="flatten"), phases=phases)


class Weights:
    """A model whose only weight is the number of the epoch, from 0."""

    epoch: int
    stop_training = False

    def get_weights(self) -> int:
        return self.epoch

    def set_weights(self, weights: int) -> None:
        self.epoch = weights


class TestRestore:
    @pytest.mark.parametrize(
        ("restore", "values", "best"),
        [
            pytest.param("val_loss", [0.3, 0.1, 0.2], 1, id="the lowest loss"),
            pytest.param("val_loss", [0.3, 0.1, 0.1, 0.2], 1, id="the first of equal losses"),
            pytest.param("val_loss", [0.3, 0.2, 0.1], 2, id="the last one if it is the best"),
            pytest.param("val_loss", [0.1, 0.2, 0.3], 0, id="the first one if it is the best"),
            pytest.param("shifted_loss", [0.3, 0.1, 0.2], 1, id="the lowest loss under shift"),
            pytest.param("val_accuracy", [0.3, 0.9, 0.5], 1, id="the highest accuracy"),
            pytest.param("val_accuracy", [0.9, 0.3, 0.9], 0, id="the first of equal accuracies"),
        ],
    )
    def test_sets_the_weights_of(self, restore, values, best):
        restoring, model = (
            callbacks.restoring(phase(restore=restore, epochs=len(values))),
            Weights(),
        )
        restoring.set_model(model)
        restoring.on_train_begin()
        for epoch, value in enumerate(values, start=10):  # after ten epochs of earlier phases
            model.epoch = epoch
            restoring.on_epoch_end(epoch, {restore: value})
        assert not model.stop_training
        restoring.on_train_end()
        assert restoring.best_epoch == model.epoch == 10 + best

    def test_null_restores_nothing(self):
        assert callbacks.restoring(phase(restore=None)) is None

    @pytest.mark.parametrize("restore", ["val_accuracy", None])
    def test_the_next_phase_starts_from_the_restored_weights(self, restore):
        phases = {
            "overfit": phase("all", epochs=5, restore=restore),
            "still": phase("head", rate=STILL),
        }
        trained = train(overfitting(phases), images=contradicted())
        losses = trained.history["val_loss"].to_numpy()
        assert (np.diff(losses[:5]) > 0.1).all()  # or this test shows nothing
        accuracies = trained.history["val_accuracy"].to_numpy()[:5]
        best = accuracies.argmax() + 1 if restore else 5  # the first of equals
        assert trained.record["phases"]["overfit"]["best_epoch"] == best
        assert losses[5] == pytest.approx(losses[best - 1], rel=1e-4)
        assert trained.record["phases"]["still"]["best_epoch"] == 6


class TestEarlyStopping:
    def test_stops_when_nothing_improves_and_restores_the_best_epoch(self):
        phases = {"train": phase("all", epochs=9, patience=3), "still": phase("head", rate=STILL)}
        trained = train(overfitting(phases), images=contradicted())
        losses = trained.history["val_loss"].to_numpy()
        assert (np.diff(losses[:4]) > 0.1).all()  # or this test shows nothing
        assert trained.record["phases"]["train"]["epochs"] == 4
        assert trained.record["phases"]["train"]["best_epoch"] == 1
        assert losses[4] == pytest.approx(losses[0], rel=1e-4)

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
        history = train(plain("sigmoid", head=flat, phases={"train": slow})).history
        assert len(history) == 3
        assert history["val_loss"].is_monotonic_decreasing
        assert history["val_loss"].is_unique
        assert history["val_accuracy"].nunique() == 1


def test_a_plateau_lowers_the_rate_down_to_the_least():
    plateau = params.Plateau(factor=0.1, patience=2, min_learning_rate=3e-14)
    stalled = phase("all", rate=STILL, epochs=8, plateau=plateau)
    rates = train(plain("sigmoid", phases={"train": stalled})).history["learning_rate"]
    # The first epoch is the best; then two without a better one, twice.
    expected = [1e-12, 1e-12, 1e-12, 1e-13, 1e-13, 3e-14, 3e-14, 3e-14]
    assert rates.tolist() == expected


class TestFiniteLoss:
    """NaN and infinity are set, not computed: an overflow gives either, depending on the CPU."""

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
    @pytest.mark.parametrize("name", ["loss", "val_loss"])
    def test_is_required(self, name, value):
        calls = []
        recorder = callbacks.Recorder(lambda *arguments: calls.append(arguments))
        recorder.phase = "burst"
        recorder.begin()
        with pytest.raises(InputError, match=rf"^{name} is {value} after epoch 1.*phases\.burst"):
            recorder.add({"loss": 0.5, "val_loss": 0.5} | {name: value}, rate=0.001)
        assert not calls and not recorder.rows

    def test_is_required_of_a_training(self, monkeypatch):
        calls = []
        monkeypatch.setattr(
            losses, "loss", lambda _: lambda labels, output: output[:, 0] * float("nan")
        )
        with pytest.raises(InputError, match=r"^loss is nan after epoch 1.*train\.learning_rate"):
            train(system(), on_epoch=lambda number, _: calls.append(number))
        assert not calls
