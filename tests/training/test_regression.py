"""Logistic regression with equal patients: weights, statistics, and scikit-learn's own fit."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cxr.training import regression


class TestPatientWeights:
    PATIENTS = np.array(["a", "b", "a", "c", "c", "c"])
    LABELS = np.array([0, 1, 0, 1, 1, 1])

    def test_of_a_patient_are_1_in_all(self):
        found = regression.patient_weights(self.PATIENTS, self.LABELS, balanced=False)
        np.testing.assert_allclose(found, [1 / 2, 1, 1 / 2, 1 / 3, 1 / 3, 1 / 3])

    def test_balanced_of_both_classes_are_half_of_all(self):
        found = regression.patient_weights(self.PATIENTS, self.LABELS, balanced=True)
        np.testing.assert_allclose(found, [3 / 4, 3 / 4, 3 / 4, 1 / 4, 1 / 4, 1 / 4])

    def test_balanced_of_one_class_are_all(self):
        found = regression.patient_weights(self.PATIENTS, np.ones(6, int), balanced=True)
        assert found.sum() == pytest.approx(3)


class TestStatistics:
    """The mean and deviation of each feature."""

    INPUTS = np.array([[1.0, 5.0, 0.1], [3.0, 5.0, 0.2], [8.0, 5.0, 0.9]])

    def test_are_those_of_scikit_learns_scaler(self):
        weights = np.array([1.0, 2.0, 0.5])
        mean, scale = regression.statistics(self.INPUTS, weights)
        scaler = StandardScaler().fit(self.INPUTS, sample_weight=weights)
        np.testing.assert_allclose(mean, scaler.mean_)
        np.testing.assert_allclose(scale[[0, 2]], scaler.scale_[[0, 2]])

    def test_a_constant_becomes_0(self):
        mean, scale = regression.statistics(self.INPUTS, np.ones(3))
        assert scale[1] == np.inf
        assert not ((self.INPUTS - mean) / scale)[:, 1].any()


def test_strength_is_the_inverse_of_scikit_learns_c():
    draws = np.random.default_rng(0)
    labels, weights = np.tile([0, 1], 30), draws.uniform(0.2, 1, 60)
    inputs = draws.normal(size=(60, 3)) + labels[:, np.newaxis]
    found = regression.fit(inputs, labels, weights, strength=4.0)
    expected = LogisticRegression(C=0.25, tol=1e-8).fit(inputs, labels, sample_weight=weights)
    np.testing.assert_allclose(found.coef_, expected.coef_, atol=1e-4)
