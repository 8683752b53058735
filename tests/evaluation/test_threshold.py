"""The threshold that a rule chooses on validation."""

import numpy as np
import pytest

from cxr import params
from cxr.errors import InputError
from cxr.evaluation import metrics, threshold
from tests.evaluation.test_metrics import noisy

LABELS = np.array([0, 0, 0, 1, 1, 1, 1])
PROBABILITIES = np.array([0.1, 0.2, 0.6, 0.3, 0.7, 0.8, 0.9])


def reaching(sensitivity: float) -> params.Sensitivity:
    return params.Sensitivity(sensitivity=sensitivity)


class TestChoose:
    def test_a_number_is_the_threshold(self):
        assert threshold.choose(LABELS, PROBABILITIES, 0.3) == 0.3

    def test_youden_lies_midway_between_the_neighbours_of_the_best_cut(self):
        # Between 0.6 and 0.7 it is 3/4 + 1; between 0.2 and 0.3 it is 1 + 2/3.
        assert threshold.choose(LABELS, PROBABILITIES, "youden") == pytest.approx(0.65)

    def test_of_cuts_that_tie_youden_takes_the_most_sensitive(self):
        labels, probabilities = np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4])
        assert threshold.choose(labels, probabilities, "youden") == pytest.approx(0.15)

    def test_classes_that_are_separated_are_cut_midway(self):
        labels, probabilities = np.array([0, 0, 1, 1]), np.array([0.0, 0.2, 0.8, 1.0])
        assert threshold.choose(labels, probabilities, "youden") == pytest.approx(0.5)
        assert threshold.choose(labels, probabilities, reaching(0.9)) == pytest.approx(0.5)

    @pytest.mark.parametrize(
        ("wanted", "expected"), [(1.0, 0.25), (0.9, 0.25), (0.75, 0.65), (0.5, 0.75), (0.2, 0.85)]
    )
    def test_a_sensitivity_gives_the_highest_threshold_that_reaches_it(self, wanted, expected):
        found = threshold.choose(LABELS, PROBABILITIES, reaching(wanted))
        assert found == pytest.approx(expected)

    def test_a_sensitivity_that_no_threshold_reaches_gives_the_lowest(self):
        labels, probabilities = np.array([1, 1, 0]), np.array([0.0, 0.8, 0.4])
        assert threshold.choose(labels, probabilities, reaching(1.0)) == pytest.approx(0.2)

    @pytest.mark.parametrize("seed", range(4))
    def test_no_other_threshold_has_a_higher_youden_index(self, seed):
        labels, probabilities = noisy(150, seed)
        chosen = threshold.choose(labels, probabilities, "youden")

        def index(cut: float) -> float:
            found = metrics.rates(**metrics.confusion(labels, probabilities, cut))
            return found["recall"] + found["specificity"]

        tried = [index(cut) for cut in np.linspace(0.001, 0.999, 999)]
        assert index(chosen) == pytest.approx(max(tried))


class TestDegenerate:
    def test_equal_probabilities_call_every_image_ill(self):
        found = threshold.choose(LABELS, np.full(7, 0.4), "youden")
        assert 0 < found < 0.4

    @pytest.mark.parametrize("label", [0, 1])
    def test_one_class_cannot_give_a_threshold(self, label):
        with pytest.raises(InputError, match="no image of one class: give a number"):
            threshold.choose(np.full(3, label), np.array([0.1, 0.2, 0.3]), "youden")

    def test_a_sensitivity_needs_pneumonia_alone(self):
        probabilities = np.array([0.1, 0.5, 0.9])
        assert threshold.choose(np.ones(3), probabilities, reaching(0.6)) == pytest.approx(0.3)
        with pytest.raises(InputError, match="give a number"):
            threshold.choose(np.zeros(3), probabilities, reaching(0.6))
