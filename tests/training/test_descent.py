"""The learning rate of a phase, and averages of its weights."""

import keras
import numpy as np
import pytest

from cxr import params
from cxr.training import callbacks, descent
from tests.small import assert_same, phase
from tests.trained import plain, train, val_loss

pytestmark = pytest.mark.usefixtures("tiny")

COSINE = params.Cosine(warm_up=0.5, final=0.1)
STEPS, EPOCHS, RATE = 8, 3, 1e-2


class TestRate:
    def test_is_a_number_without_a_cosine(self):
        assert descent.rate(phase("all", rate=RATE), STEPS) == RATE

    def test_rises_then_falls_along_a_cosine(self):
        schedule = descent.rate(phase("all", rate=RATE, epochs=EPOCHS, cosine=COSINE), STEPS)
        found = [float(schedule(step)) for step in range(STEPS * EPOCHS + 1)]
        rising = [RATE * step / 4 for step in range(4)]
        share = np.arange(21) / 20  # of the steps after the warm-up
        falling = RATE * (0.1 + 0.9 * (1 + np.cos(np.pi * share)) / 2)
        np.testing.assert_allclose(found, [*rising, *falling], rtol=1e-5)

    def test_without_a_warm_up_begins_with_the_highest(self):
        cosine = params.Cosine(warm_up=0, final=0)
        schedule = descent.rate(phase("all", rate=RATE, epochs=EPOCHS, cosine=cosine), STEPS)
        assert float(schedule(0)) == pytest.approx(RATE)
        assert float(schedule(STEPS * EPOCHS)) == pytest.approx(0, abs=1e-9)

    def test_is_in_the_history(self):
        each = phase("all", rate=RATE, epochs=EPOCHS, cosine=COSINE)
        trained = train(plain("sigmoid", phases={"train": each}))
        rates = trained.history["learning_rate"]
        assert rates.is_monotonic_decreasing
        assert rates.iloc[-1] == pytest.approx(0.1 * RATE, rel=1e-4)


class TestAverages:
    @staticmethod
    def model(average: float | None) -> keras.Model:
        keras.utils.set_random_seed(0)
        made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="sigmoid")])
        descent.compile_model(made, 0.1, "sigmoid", average)
        made.optimizer.build(made.trainable_variables)
        return made

    def test_are_those_of_the_formula_and_the_weights_come_back_to_the_bit(self):
        model, first = self.model(0.9), callbacks.Averages()
        first.set_model(model)
        inputs = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
        expected = None
        for step in range(10):
            batch = inputs[4 * step : 4 * step + 4]
            model.train_on_batch(batch, batch[:, :1] > 0)
            weights = model.get_weights()
            if expected is None:  # the average begins with the weights after the first step
                expected = weights
            expected = [0.9 * a + 0.1 * w for a, w in zip(expected, weights, strict=True)]
        first.on_epoch_end(0)
        for found, wanted, trained in zip(model.get_weights(), expected, weights, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
            assert np.abs(found - trained).max() > 1e-3
        first.back.on_epoch_end(0)
        assert_same(model.get_weights(), weights)

    def test_take_no_memory_where_they_are_off(self):
        assert callbacks.averages(phase("all")) == []
        variables = [len(self.model(average).optimizer.variables) for average in (None, 0.9)]
        assert variables[1] == variables[0] + 2  # a kernel and a bias

    @pytest.mark.parametrize("restore", [None, "val_loss"])
    def test_are_validated_and_are_what_the_phase_ends_with(self, restore):
        each = phase("all", rate=RATE, epochs=4, average=0.8, restore=restore)
        trained = train(plain("sigmoid", phases={"train": each}))
        losses = trained.history["val_loss"]
        expected = losses.iloc[-1] if restore is None else losses.min()
        assert val_loss(trained.model) == pytest.approx(expected, rel=1e-3)

    def test_change_no_step(self):
        """The weights that the next step starts from are the trained ones, not their average."""
        each = phase("all", rate=RATE, epochs=3)
        histories = [
            train(
                plain("sigmoid", phases={"train": each.model_copy(update={"average": average})})
            ).history
            for average in (None, 0.9)
        ]
        np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-4)
        assert not np.allclose(histories[0]["val_loss"], histories[1]["val_loss"], rtol=1e-4)
