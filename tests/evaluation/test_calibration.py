"""Calibration against simulated probabilities whose error is known, and against scikit-learn."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn import calibration as sklearn
from sklearn.metrics import log_loss

from cxr.evaluation import calibration


def simulated(count: int, seed: int, factor: float = 1.0, shift: float = 0.0):
    """Labels, and probabilities whose logits are ``factor`` times the true ones plus ``shift``."""
    draws = np.random.default_rng(seed)
    truth = draws.normal(0, 1.5, count)
    labels = (draws.random(count) < expit(truth)).astype(int)
    return labels, expit(factor * truth + shift)


class TestMeasure:
    def test_probabilities_that_are_right_have_slope_1_and_intercept_0(self):
        found = calibration.measure(*simulated(20_000, 0))
        assert found["slope"] == pytest.approx(1, abs=0.06)
        assert found["intercept"] == pytest.approx(0, abs=0.06)
        assert found["ece"] < 0.02

    def test_the_slope_of_logits_twice_too_large_is_a_half(self):
        found = calibration.measure(*simulated(20_000, 1, factor=2))
        assert found["slope"] == pytest.approx(0.5, abs=0.04)
        assert found["ece"] > 0.05

    def test_the_intercept_undoes_a_shift(self):
        found = calibration.measure(*simulated(20_000, 2, shift=0.7))
        assert found["intercept"] == pytest.approx(-0.7, abs=0.07)

    def test_the_expected_calibration_error_by_hand(self):
        labels, probabilities = np.array([0, 1, 1, 1]), np.array([0.12, 0.14, 0.92, 1.0])
        # Two images of mean 0.13 and frequency 0.5, two of mean 0.96 and frequency 1.
        found = calibration.measure(labels, probabilities)
        assert found["ece"] == pytest.approx((0.37 * 2 + 0.04 * 2) / 4)

    def test_log_loss_is_that_of_scikit_learn(self):
        labels, probabilities = simulated(200, 3)
        found = calibration.measure(labels, probabilities)
        assert found["log_loss"] == pytest.approx(log_loss(labels, probabilities))

    def test_perfect_separation_has_no_slope(self):
        found = calibration.measure(np.array([0, 0, 1, 1]), np.array([0.0, 0.4, 0.6, 1.0]))
        assert found["slope"] is None
        assert found["intercept"] is not None

    def test_one_class_has_neither(self):
        found = calibration.measure(np.ones(3, int), np.array([0.5, 0.7, 1.0]))
        assert (found["slope"], found["intercept"]) == (None, None)
        assert found["brier"] == pytest.approx((0.25 + 0.09) / 3)

    def test_equal_probabilities_are_right_where_they_are_the_frequency(self):
        found = calibration.measure(np.array([0, 1, 1, 1]), np.full(4, 0.75))
        assert found["ece"] == pytest.approx(0)
        assert found["intercept"] == pytest.approx(0, abs=1e-6)


class TestExpectedError:
    def test_by_hand(self):
        probabilities = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
        labels = np.array([0, 1, 1, 1, 1])
        # First bin: 0.05 against 1/2, two images; last bin: (2 x 0.95 + 1) / 3 against 1, three.
        expected = (2 * 0.45 + 3 * (1 - 2.9 / 3)) / 5
        assert calibration.expected_error(labels, probabilities) == pytest.approx(expected)

    def test_of_a_calibrated_model_is_small_and_never_above_one(self):
        probabilities, other = np.random.default_rng(0).random((2, 20_000))
        labels = (other < probabilities).astype(int)
        assert calibration.expected_error(labels, probabilities) < 0.02
        assert calibration.expected_error(np.array([1]), np.array([0.0])) == 1


class TestReliability:
    def test_bins_equal_those_of_scikit_learn(self):
        labels, probabilities = simulated(500, 4)
        table = calibration.reliability(labels, probabilities)
        frequency, mean = sklearn.calibration_curve(labels, probabilities, n_bins=10)
        filled = table[table["count"] > 0]
        assert filled["frequency"].to_numpy() == pytest.approx(frequency)
        assert filled["mean_probability"].to_numpy() == pytest.approx(mean)

    def test_the_last_bin_holds_a_probability_of_1_and_an_empty_one_has_no_frequency(self):
        table = calibration.reliability(np.array([1, 0]), np.array([1.0, 0.0]))
        assert list(table["count"]) == [1, *[0] * 8, 1]
        assert table["frequency"].isna().sum() == 8
        assert list(table["low"]) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


class TestFit:
    def test_temperature_undoes_overconfidence(self):
        methods = calibration.fit(*simulated(20_000, 5, factor=2))
        assert methods["temperature"].settings["temperature"] == pytest.approx(2, abs=0.15)

    def test_platt_undoes_overconfidence_and_shift(self):
        methods = calibration.fit(*simulated(20_000, 6, factor=2, shift=1))
        # logit = 2 t + 1, so t = logit / 2 - 1 / 2
        assert methods["platt"].settings["slope_fitted"] == pytest.approx(0.5, abs=0.04)
        assert methods["platt"].settings["intercept_fitted"] == pytest.approx(-0.5, abs=0.06)

    @pytest.mark.parametrize("method", ["temperature", "platt"])
    def test_it_improves_calibration_on_other_images_and_keeps_their_order(self, method):
        fitted = calibration.fit(*simulated(2000, 7, factor=3))[method]
        labels, probabilities = simulated(2000, 8, factor=3)
        mended = fitted.apply(probabilities)
        before, after = (calibration.measure(labels, p) for p in (probabilities, mended))
        assert after["ece"] < before["ece"] / 2
        assert after["log_loss"] < before["log_loss"]
        order = np.argsort(probabilities)
        assert (np.diff(mended[order]) >= 0).all()

    def test_perfect_separation_and_probabilities_of_0_and_1_stay_finite(self):
        methods = calibration.fit(np.array([0, 0, 1, 1]), np.array([0.0, 0.1, 0.9, 1.0]))
        for method in methods.values():
            mended = method.apply(np.array([0.0, 0.3, 1.0]))
            assert np.isfinite(mended).all()
            assert (np.diff(mended) >= 0).all()

    def test_one_class_cannot_be_calibrated(self):
        assert list(calibration.fit(np.ones(3, int), np.array([0.2, 0.4, 0.6]))) == ["none"]
