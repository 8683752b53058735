"""Conformal sets: by the textbook's formula, against MAPIE, and their coverage in simulation."""

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from sklearn.linear_model import LogisticRegression

from cxr.evaluation import conformal


def simulated(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities of a good but imperfect model."""
    draws = np.random.default_rng(seed)
    labels = (draws.random(count) < 0.7).astype(int)
    return labels, np.where(labels == 1, draws.beta(5, 1.5, count), draws.beta(1.5, 5, count))


class TestQuantiles:
    @pytest.mark.parametrize("count", [19, 20, 39, 100, 333])
    def test_they_are_those_of_the_textbook(self, count):
        """Angelopoulos and Bates 2023: the score 1 - p, and its ceil((n + 1)(1 - alpha))-th."""
        draws = np.random.default_rng(count)
        labels, probabilities = np.ones(count, int), draws.random(count)
        rank = int(np.ceil((count + 1) * 0.95 - 1e-9))
        expected = 1 - np.sort(1 - probabilities)[rank - 1]
        assert conformal.quantiles(labels, probabilities)[1] == pytest.approx(expected)

    def test_a_class_of_fewer_than_19_images_is_never_ruled_out(self):
        labels, probabilities = np.repeat([0, 1], [18, 40]), np.linspace(0.1, 0.9, 58)
        lowest = conformal.quantiles(labels, probabilities)
        assert lowest[0] == 0
        assert lowest[1] > 0
        assert conformal.sets(np.array([0.0, 0.5, 1.0]), lowest)[:, 0].all()

    def test_no_images_rule_nothing_out(self):
        assert conformal.quantiles(np.array([], int), np.array([])).tolist() == [0, 0]


def by_mapie(
    labels: np.ndarray, probabilities: np.ndarray, other: np.ndarray, label: int
) -> np.ndarray:
    """Return whether MAPIE's sets, calibrated on one class alone, hold this class."""
    odds, others = (np.log(p / (1 - p))[:, np.newaxis] for p in (probabilities, other))
    model = LogisticRegression().fit(odds, labels)
    model.coef_, model.intercept_ = np.array([[1.0]]), np.array([0.0])  # gives p back
    split = SplitConformalClassifier(model, confidence_level=1 - conformal.ALPHA, prefit=True)
    split.conformalize(odds[labels == label], labels[labels == label])
    return split.predict_set(others)[1][:, label, 0]


@pytest.mark.filterwarnings("ignore:.*your conformalization dataset has less labels")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("label", [0, 1])
def test_sets_equal_those_of_mapie_for_each_class(seed, label):
    val, (_, other) = simulated(300, seed), simulated(200, seed + 10)
    found = conformal.sets(other, conformal.quantiles(*val))[:, label]
    expected = by_mapie(*val, other, label)
    assert found.tolist() == expected.tolist()
    assert 0 < expected.sum() < 200


def test_a_set_has_the_classes_whose_probability_is_high_enough():
    found = conformal.sets(np.array([0.05, 0.3, 0.95]), np.array([0.6, 0.2]))
    assert found.tolist() == [[True, False], [True, True], [False, True]]


class TestEvaluate:
    def test_each_class_is_covered_as_promised(self):
        covered = []
        for seed in range(40):
            val, test = simulated(400, seed), simulated(400, 1000 + seed)
            lowest = conformal.quantiles(*val)
            members = conformal.sets(test[1], lowest)
            own = members[np.arange(400), test[0]]
            covered.append([own[test[0] == label].mean() for label in (0, 1)])
        assert np.mean(covered, axis=0) == pytest.approx([0.95, 0.95], abs=0.015)

    def test_the_figures_by_hand(self):
        val = (
            np.repeat([0, 1], [19, 19]),
            np.concatenate([np.linspace(0, 0.4, 19), np.linspace(0.3, 1, 19)]),
        )
        labels, probabilities = np.array([0, 0, 1, 1]), np.array([0.1, 0.35, 0.2, 0.9])
        found = conformal.evaluate(val, (labels, probabilities), np.array(list("abcd")), 0)
        # NORMAL up to 0.4, PNEUMONIA from 0.3: one image is both, and one is wrong.
        assert found["quantiles"] == pytest.approx({"NORMAL": 0.6, "PNEUMONIA": 0.3})
        assert found["coverage"] == 0.75
        assert found["coverage_NORMAL"] == 1
        assert found["coverage_PNEUMONIA"] == 0.5
        assert found["undecided"] == 0.25
        assert found["accuracy_of_decided"] == pytest.approx(2 / 3)
        assert found["coverage_low"] <= 0.75 <= found["coverage_high"]

    def test_a_class_that_is_missing_has_no_coverage(self):
        ones = np.ones(3, int), np.array([0.5, 0.6, 0.7])
        found = conformal.evaluate(simulated(100, 0), ones, np.array(list("abc")), 0)
        assert found["coverage_NORMAL"] is None
        assert found["coverage_NORMAL_low"] is None
        assert found["coverage_PNEUMONIA"] is not None
