"""Metrics by hand, against scikit-learn, and where undefined."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cxr.evaluation import metrics

# Undefined where a class is missing.
OF_TWO = {"auc", "balanced_accuracy", "mcc", "ppv", "npv", "net_benefit"}
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
PROBABILITIES = np.array([0.1, 0.2, 0.5, 0.9, 0.3, 0.5, 0.6, 0.7, 0.8, 0.95])


def noisy(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that correlate with them and have many ties."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 2, count)
    return labels, np.clip((labels * 0.3 + draws.random(count)) / 1.3, 0, 1).round(2)


class TestByHand:
    def test_counts(self):
        assert metrics.confusion(LABELS, PROBABILITIES, 0.5) == {"tp": 5, "tn": 2, "fp": 2, "fn": 1}

    def test_an_image_at_the_threshold_counts_as_pneumonia(self):
        labels, probabilities = np.array([0, 1]), np.array([0.5, 0.5])
        assert metrics.confusion(labels, probabilities, 0.5) == {"tp": 1, "tn": 0, "fp": 1, "fn": 0}
        above = np.nextafter(0.5, 1)
        assert metrics.confusion(labels, probabilities, above) == {
            "tp": 0,
            "tn": 1,
            "fp": 0,
            "fn": 1,
        }

    def test_rates(self):
        assert metrics.rates(tp=5, tn=2, fp=2, fn=1) == pytest.approx(
            {
                "accuracy": 0.7,
                "precision": 5 / 7,
                "recall": 5 / 6,
                "specificity": 0.5,
                "balanced_accuracy": (5 / 6 + 0.5) / 2,
                "mcc": (5 * 2 - 2 * 1) / np.sqrt(7 * 6 * 4 * 3),
            }
        )

    def test_rates_of_the_article(self):
        # The article's confusion matrix of its test set.
        found = metrics.rates(tp=362, tn=146, fp=4, fn=38)
        assert {name: round(value, 4) for name, value in found.items()} == {
            "accuracy": 0.9236, "balanced_accuracy": 0.9392, "precision": 0.9891, "recall": 0.9050,
            "specificity": 0.9733, "mcc": 0.8291,
        }  # fmt: skip

    def test_auc_is_the_share_of_pairs_in_the_right_order(self):
        # Of 24 pairs, the four NORMAL are below 6, 6, 4.5 (a tie) and 1 PNEUMONIA.
        assert metrics.auc(LABELS, PROBABILITIES) == pytest.approx(17.5 / 24)

    def test_pneumonia_is_the_positive_class(self):
        assert metrics.auc(np.array([0, 1]), np.array([0.2, 0.8])) == 1.0
        assert metrics.auc(np.array([0, 1]), np.array([0.8, 0.2])) == 0.0

    def test_a_summary_has_all_metrics_as_plain_numbers(self):
        summary = metrics.summarise(LABELS, PROBABILITIES, 0.5)
        assert list(summary) == [*metrics.FIGURES, "tp", "tn", "fp", "fn"]
        assert {type(value) for value in summary.values()} == {float, int}
        assert summary["tp"] == 5
        assert summary["recall"] == 5 / 6


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.77])
@pytest.mark.parametrize("seed", range(3))
def test_every_metric_equals_that_of_scikit_learn(seed, threshold):
    labels, probabilities = noisy(200, seed)
    predicted = probabilities >= threshold
    tn, fp, fn, tp = sklearn.confusion_matrix(labels, predicted).ravel()
    expected = {
        "auc": sklearn.roc_auc_score(labels, probabilities),
        "accuracy": sklearn.accuracy_score(labels, predicted),
        "precision": sklearn.precision_score(labels, predicted),
        "recall": sklearn.recall_score(labels, predicted),
        "specificity": sklearn.recall_score(labels, predicted, pos_label=0),
        "average_precision": sklearn.average_precision_score(labels, probabilities),
        "balanced_accuracy": sklearn.balanced_accuracy_score(labels, predicted),
        "mcc": sklearn.matthews_corrcoef(labels, predicted),
        "brier": sklearn.brier_score_loss(labels, probabilities),
        "ppv": sklearn.precision_score(labels, predicted),
        "npv": sklearn.precision_score(labels, predicted, pos_label=0),
        "net_benefit": (tp - fp) / 200,
        "tp": tp,
        "tn": tn,
        "fp": fp,
        "fn": fn,
    }
    assert metrics.summarise(labels, probabilities, threshold) == pytest.approx(expected)


def test_weights_count_as_that_many_images():
    labels, probabilities = noisy(60, 3)
    times = np.random.default_rng(1).integers(0, 4, (5, 60))
    found = metrics.weighted(times * labels, times * (1 - labels), probabilities, 0.4, metrics.EVEN)
    for row, weights in enumerate(times):
        repeated = np.repeat(labels, weights), np.repeat(probabilities, weights)
        expected = metrics.summarise(*repeated, 0.4)
        for name, values in found.items():
            assert values[row] == pytest.approx(expected[name]), name


def test_predictive_values_and_net_benefit_follow_the_prevalence():
    """Bayes's rule with a sensitivity of 0.8 and a specificity of 0.5, where 1 in 10 is ill."""
    labels = np.repeat([1, 0], [5, 4])
    probabilities = np.array([0.9, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.1, 0.1])
    found = metrics.summarise(labels, probabilities, 0.5, metrics.Stakes(0.1, 3))
    assert found["ppv"] == pytest.approx(0.08 / (0.08 + 0.45))
    assert found["npv"] == pytest.approx(0.45 / (0.45 + 0.02))
    assert found["net_benefit"] == pytest.approx(0.08 - 0.45 / 3)
    assert found["precision"] == pytest.approx(4 / 6)  # that of the images


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.9, 1.0])
def test_the_sensitivity_at_a_specificity_is_that_of_the_roc_curve(specificity):
    labels, probabilities = noisy(300, 4)
    fpr, tpr, _ = sklearn.roc_curve(labels, probabilities, drop_intermediate=False)
    found = metrics.sensitivity_at(
        labels[np.newaxis], 1 - labels[np.newaxis], probabilities, specificity
    )
    assert found == pytest.approx(tpr[1 - fpr >= specificity - 1e-9].max())


def test_the_sensitivity_at_a_specificity_needs_both_classes():
    ones, zeros = np.ones((1, 3)), np.zeros((1, 3))
    assert np.isnan(metrics.sensitivity_at(ones, zeros, np.array([0.1, 0.2, 0.3]), 0.9)).all()
    assert np.isnan(metrics.sensitivity_at(zeros, ones, np.array([0.1, 0.2, 0.3]), 0.9)).all()


class TestUndefined:
    @pytest.mark.parametrize(
        ("labels", "probabilities", "undefined"),
        [
            pytest.param([1, 1], [0.9, 0.1], OF_TWO | {"specificity"}, id="no NORMAL"),
            pytest.param(
                [0, 0], [0.9, 0.1], OF_TWO | {"average_precision", "recall"}, id="no PNEUMONIA"
            ),
            pytest.param(
                [0, 1],
                [0.2, 0.1],
                {"precision", "ppv", "mcc"},
                id="nothing predicted as PNEUMONIA",
            ),
            pytest.param(
                [0, 0],
                [0.2, 0.1],
                OF_TWO | {"average_precision", "precision", "recall"},
                id="no PNEUMONIA in truth or prediction",
            ),
            pytest.param([], [], set(metrics.FIGURES), id="no image"),
        ],
    )
    def test_undefined_metrics_are_none(self, labels, probabilities, undefined):
        summary = metrics.summarise(np.array(labels), np.array(probabilities), 0.5)
        assert {name for name, value in summary.items() if value is None} == undefined


class TestCurves:
    def test_the_roc_curve_goes_from_corner_to_corner_and_its_area_is_the_auc(self):
        labels, probabilities = noisy(100)
        points = metrics.roc_points(labels, probabilities)
        assert list(points.columns) == ["threshold", "fpr", "tpr"]
        assert points[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
        assert points["threshold"].max() <= 1  # no infinity in a CSV
        area = np.trapezoid(points["tpr"], points["fpr"])
        assert area == pytest.approx(metrics.auc(labels, probabilities))

    @pytest.mark.parametrize("curve", [metrics.roc_points, metrics.precision_recall_points])
    def test_each_point_has_the_rates_at_its_threshold(self, curve):
        labels, probabilities = noisy(100)
        points = curve(labels, probabilities)
        inner = points[(points["threshold"] > 0) & (points["threshold"] < 1)]
        assert len(inner) > 10
        for _, point in inner.iterrows():
            found = metrics.rates(**metrics.confusion(labels, probabilities, point["threshold"]))
            if "tpr" in point:
                assert point["tpr"] == pytest.approx(found["recall"])
                assert point["fpr"] == pytest.approx(1 - found["specificity"])
            else:
                assert point["recall"] == pytest.approx(found["recall"])
                assert point["precision"] == pytest.approx(found["precision"])
