"""Metrics by hand, against scikit-learn, and where they are undefined."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from cxr.evaluation import intervals, metrics

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.2, 0.5, 0.9, 0.3, 0.5, 0.6, 0.7, 0.8, 0.95])


def noisy(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores that know something of them, with many ties."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, 2, count)
    return labels, np.clip((labels * 0.3 + draws.random(count)) / 1.3, 0, 1).round(2)


class TestByHand:
    def test_counts(self):
        assert metrics.confusion(LABELS, SCORES, 0.5) == {"tp": 5, "tn": 2, "fp": 2, "fn": 1}

    def test_an_image_at_the_threshold_counts_as_pneumonia(self):
        labels, scores = np.array([0, 1]), np.array([0.5, 0.5])
        assert metrics.confusion(labels, scores, 0.5) == {"tp": 1, "tn": 0, "fp": 1, "fn": 0}
        above = np.nextafter(0.5, 1)
        assert metrics.confusion(labels, scores, above) == {"tp": 0, "tn": 1, "fp": 0, "fn": 1}

    def test_rates(self):
        assert metrics.rates(tp=5, tn=2, fp=2, fn=1) == pytest.approx(
            {
                "accuracy": 0.7,
                "precision": 5 / 7,
                "recall": 5 / 6,
                "specificity": 0.5,
                "f1": 10 / 13,
            }
        )

    def test_the_articles_table(self):
        # RECIPES 1: 362 / 146 / 4 / 38 on the test set.
        found = metrics.rates(tp=362, tn=146, fp=4, fn=38)
        assert {name: round(value, 4) for name, value in found.items()} == {
            "accuracy": 0.9236, "precision": 0.9891, "recall": 0.9050, "specificity": 0.9733,
            "f1": 0.9452,
        }  # fmt: skip

    def test_auc_counts_pairs_in_the_right_order(self):
        # Of 24 pairs, the four NORMAL stand below 6, 6, 4.5 (a tie) and 1 PNEUMONIA.
        assert metrics.auc(LABELS, SCORES) == pytest.approx(17.5 / 24)

    def test_pneumonia_is_the_positive_class(self):
        assert metrics.auc(np.array([0, 1]), np.array([0.2, 0.8])) == 1.0
        assert metrics.auc(np.array([0, 1]), np.array([0.8, 0.2])) == 0.0

    def test_a_summary_holds_all_of_it_as_plain_numbers(self):
        summary = metrics.summarise(LABELS, SCORES, 0.5)
        assert list(summary) == [
            "auc", "accuracy", "precision", "recall", "specificity", "f1", "tp", "tn", "fp", "fn",
        ]  # fmt: skip
        assert {type(value) for value in summary.values()} == {float, int}
        assert summary["tp"] == 5
        assert summary["recall"] == 5 / 6


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.77])
@pytest.mark.parametrize("seed", range(3))
def test_every_metric_is_scikit_learns(seed, threshold):
    labels, scores = noisy(200, seed)
    predicted = scores >= threshold
    tn, fp, fn, tp = sklearn.confusion_matrix(labels, predicted).ravel()
    expected = {
        "auc": sklearn.roc_auc_score(labels, scores),
        "accuracy": sklearn.accuracy_score(labels, predicted),
        "precision": sklearn.precision_score(labels, predicted),
        "recall": sklearn.recall_score(labels, predicted),
        "specificity": sklearn.recall_score(labels, predicted, pos_label=0),
        "f1": sklearn.f1_score(labels, predicted),
        "tp": tp,
        "tn": tn,
        "fp": fp,
        "fn": fn,
    }
    assert metrics.summarise(labels, scores, threshold) == pytest.approx(expected)


class TestUndefined:
    @pytest.mark.parametrize(
        ("labels", "scores", "undefined"),
        [
            pytest.param([1, 1], [0.9, 0.1], {"auc", "specificity"}, id="no NORMAL"),
            pytest.param([0, 0], [0.9, 0.1], {"auc", "recall"}, id="no PNEUMONIA"),
            pytest.param([0, 1], [0.2, 0.1], {"precision"}, id="nothing called PNEUMONIA"),
            pytest.param([0, 0], [0.2, 0.1], {"auc", "precision", "recall", "f1"}, id="no sick"),
            pytest.param(
                [],
                [],
                {"auc", "accuracy", "precision", "recall", "specificity", "f1"},
                id="no image",
            ),
        ],
    )
    def test_metrics_are_none(self, labels, scores, undefined):
        summary = metrics.summarise(np.array(labels), np.array(scores), 0.5)
        assert {name for name, value in summary.items() if value is None} == undefined

    def test_intervals_are_none_with_one_class(self):
        ones, scores, patients = np.ones(4, int), np.arange(4) / 4, np.array(list("abcd"))
        assert intervals.auc_interval(ones, scores, patients, 0) is None
        assert intervals.auc_difference_interval(ones, scores, scores, patients, 0) is None

    def test_intervals_are_none_without_images(self):
        nothing = np.array([])
        assert intervals.auc_interval(nothing, nothing, nothing, 0) is None

    def test_one_patient_gives_a_point(self):
        low, high = intervals.auc_interval(LABELS, SCORES, np.repeat("a", 10), 0)
        assert low == high == pytest.approx(17.5 / 24)


class TestCurves:
    def test_the_roc_curve_runs_from_corner_to_corner_and_holds_the_auc(self):
        labels, scores = noisy(100)
        points = metrics.roc_points(labels, scores)
        assert list(points.columns) == ["threshold", "fpr", "tpr"]
        assert points[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist() == [[0, 0], [1, 1]]
        assert points["threshold"].max() <= 1  # no infinity in a CSV
        area = np.trapezoid(points["tpr"], points["fpr"])
        assert area == pytest.approx(metrics.auc(labels, scores))

    @pytest.mark.parametrize("curve", [metrics.roc_points, metrics.precision_recall_points])
    def test_each_point_is_what_its_threshold_gives(self, curve):
        labels, scores = noisy(100)
        points = curve(labels, scores)
        inner = points[(points["threshold"] > 0) & (points["threshold"] < 1)]
        assert len(inner) > 10
        for _, point in inner.iterrows():
            found = metrics.rates(**metrics.confusion(labels, scores, point["threshold"]))
            if "tpr" in point:
                assert point["tpr"] == pytest.approx(found["recall"])
                assert point["fpr"] == pytest.approx(1 - found["specificity"])
            else:
                assert point["recall"] == pytest.approx(found["recall"])
                assert point["precision"] == pytest.approx(found["precision"])


class TestIntervals:
    @pytest.mark.parametrize("count", [2, 7, 50, 333])
    def test_the_fast_auc_is_scikit_learns(self, count):
        labels, scores = noisy(count, seed=6)
        scores = np.round(scores, 1)  # ties
        assert 0 < labels.sum() < count
        times = np.random.default_rng(0).integers(1, 4, (5, count))
        found = intervals._weighted_aucs(times * labels, times * (1 - labels), scores)
        expected = [sklearn.roc_auc_score(labels, scores, sample_weight=row) for row in times]
        np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_an_interval_holds_the_auc_and_is_as_wide_as_theory_says(self):
        labels, scores = noisy(400)
        low, high = intervals.auc_interval(labels, scores, np.arange(400), 0)
        area, positive = metrics.auc(labels, scores), labels.sum()
        assert 0 <= low < area < high <= 1
        # Hanley and McNeil 1982.
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
        n, m = positive, 400 - positive
        variance = (area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)) / (
            n * m
        )
        assert high - low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.15)

    def test_it_is_wider_where_patients_hold_many_images(self):
        labels, scores = noisy(60)
        labels, scores = np.repeat(labels, 8), np.repeat(scores, 8)  # eight equal films a patient
        low, high = intervals.auc_interval(labels, scores, np.repeat(np.arange(60), 8), 0)
        narrow_low, narrow_high = intervals.auc_interval(labels, scores, np.arange(480), 0)
        assert high - low > 2 * (narrow_high - narrow_low)  # sqrt(8) = 2.8, but for chance

    def test_it_does_not_depend_on_the_order_of_a_patients_name(self):
        labels, scores = noisy(40)
        patients = np.array([f"person{row % 13}" for row in range(40)], dtype=object)
        reverse = slice(None, None, -1)
        assert intervals.auc_interval(labels, scores, patients, 0) == pytest.approx(
            intervals.auc_interval(labels[reverse], scores[reverse], patients[reverse], 0)
        )

    def test_the_difference_of_equal_scores_is_nothing(self):
        labels, scores = noisy(50)
        patients = np.arange(50) // 2
        interval = intervals.auc_difference_interval(labels, scores, scores, patients, 0)
        assert interval == (0.0, 0.0)

    def test_the_difference_has_the_sign_of_the_better_first(self):
        labels, scores = noisy(200)
        low, high = intervals.auc_difference_interval(
            labels, labels.astype(float), scores, np.arange(200), 0
        )
        assert 0 < low < 1 - metrics.auc(labels, scores) < high
        assert intervals.auc_difference_interval(
            labels, scores, labels.astype(float), np.arange(200), 0
        ) == pytest.approx((-high, -low))

    def test_the_seed_decides(self):
        labels, scores = noisy(80)
        first = intervals.auc_interval(labels, scores, np.arange(80), 0)
        assert intervals.auc_interval(labels, scores, np.arange(80), 0) == first
        assert intervals.auc_interval(labels, scores, np.arange(80), 1) != first
