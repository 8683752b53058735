"""Intervals over resampled patients, against scikit-learn and the formula of the standard error."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cxr.evaluation import intervals, metrics
from tests import memory
from tests.evaluation.test_metrics import LABELS, PROBABILITIES, noisy


def test_one_class_has_no_interval():
    ones, probabilities, patients = np.ones(4, int), np.arange(4) / 4, np.array(list("abcd"))
    assert intervals.auc_interval(ones, probabilities, patients, 0) is None
    assert (
        intervals.auc_difference_interval(ones, probabilities, probabilities, patients, 0) is None
    )


def test_no_images_have_no_interval():
    nothing = np.array([])
    assert intervals.auc_interval(nothing, nothing, nothing, 0) is None


def test_one_patient_gives_an_interval_of_no_width():
    low, high = intervals.auc_interval(LABELS, PROBABILITIES, np.repeat("a", 10), 0)
    assert low == high == pytest.approx(17.5 / 24)


@pytest.mark.parametrize("count", [2, 7, 50, 333])
def test_the_weighted_auc_equals_that_of_scikit_learn(count):
    labels, probabilities = noisy(count, seed=6)
    probabilities = np.round(probabilities, 1)  # ties
    assert 0 < labels.sum() < count
    times = np.random.default_rng(0).integers(1, 4, (5, count))
    found = metrics.weighted(
        times * labels, times * (1 - labels), probabilities, 0.5, metrics.EVEN
    )["auc"]
    expected = [sklearn.roc_auc_score(labels, probabilities, sample_weight=row) for row in times]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_an_interval_includes_the_auc_and_is_as_wide_as_the_formula():
    labels, probabilities = noisy(400)
    low, high = intervals.auc_interval(labels, probabilities, np.arange(400), 0)
    area, positive = metrics.auc(labels, probabilities), labels.sum()
    assert 0 <= low < area < high <= 1
    # Hanley and McNeil 1982.
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    n, m = positive, 400 - positive
    variance = (area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)) / (n * m)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.15)


def test_it_is_wider_where_patients_have_many_images():
    labels, probabilities = noisy(60)
    labels, probabilities = (
        np.repeat(labels, 8),
        np.repeat(probabilities, 8),
    )  # eight equal images a patient
    low, high = intervals.auc_interval(labels, probabilities, np.repeat(np.arange(60), 8), 0)
    narrow_low, narrow_high = intervals.auc_interval(labels, probabilities, np.arange(480), 0)
    assert high - low > 2 * (narrow_high - narrow_low)  # about sqrt(8) = 2.8


def test_it_does_not_depend_on_the_order_of_the_images():
    labels, probabilities = noisy(40)
    patients = np.array([f"person{row % 13}" for row in range(40)], dtype=object)
    reverse = slice(None, None, -1)
    assert intervals.auc_interval(labels, probabilities, patients, 0) == pytest.approx(
        intervals.auc_interval(labels[reverse], probabilities[reverse], patients[reverse], 0)
    )


def test_the_difference_of_equal_probabilities_is_zero():
    labels, probabilities = noisy(50)
    patients = np.arange(50) // 2
    interval = intervals.auc_difference_interval(labels, probabilities, probabilities, patients, 0)
    assert interval == (0.0, 0.0)


def test_the_difference_is_positive_where_the_first_is_better():
    labels, probabilities = noisy(200)
    low, high = intervals.auc_difference_interval(
        labels, labels.astype(float), probabilities, np.arange(200), 0
    )
    assert 0 < low < 1 - metrics.auc(labels, probabilities) < high
    assert intervals.auc_difference_interval(
        labels, probabilities, labels.astype(float), np.arange(200), 0
    ) == pytest.approx((-high, -low))


def test_it_depends_on_the_seed_alone():
    labels, probabilities = noisy(80)
    first = intervals.auc_interval(labels, probabilities, np.arange(80), 0)
    assert intervals.auc_interval(labels, probabilities, np.arange(80), 0) == first
    assert intervals.auc_interval(labels, probabilities, np.arange(80), 1) != first


@pytest.mark.parametrize("count", [7, 333])
def test_resamples_are_the_same_in_one_block_and_in_many(monkeypatch, count):
    labels, probabilities = noisy(count)
    one = intervals.auc_interval(labels, probabilities, np.arange(count) // 2, 0)
    monkeypatch.setattr(intervals, "BLOCK", 3 * count)
    assert intervals.auc_interval(labels, probabilities, np.arange(count) // 2, 0) == one


def test_memory_does_not_grow_with_the_number_of_images(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 200)

    def taken(count: int) -> int:
        labels, probabilities = noisy(count)
        return memory.peak(
            lambda: intervals.auc_interval(labels, probabilities, np.arange(count), 0)
        )

    assert taken(20_000) < 2 * taken(5_000)
