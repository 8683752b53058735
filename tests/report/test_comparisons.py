"""Who beats whom: p values, their correction, and the table."""

from dataclasses import replace

import numpy as np
import pytest

from cxr.evaluation import intervals
from cxr.report import comparisons


class TestPValue:
    def test_counts_the_resamples_on_the_other_side_of_0_twice(self):
        assert comparisons.p_value(np.array([1.0] * 97 + [-1.0, -1.0])) == pytest.approx(
            2 * 3 / 100
        )

    def test_is_never_0_and_at_most_1(self):
        assert comparisons.p_value(np.ones(1999)) == pytest.approx(0.001)
        assert comparisons.p_value(np.zeros(10)) == 1

    def test_of_undefined_differences_is_undefined(self):
        assert np.isnan(comparisons.p_value(np.full(3, np.nan)))


class TestHolm:
    def test_by_hand(self):
        """Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 (not below the one before), 0.4."""
        found = comparisons.holm([0.03, 0.01, 0.4, 0.02])
        assert found == pytest.approx([0.06, 0.04, 0.4, 0.06])

    def test_at_most_1(self):
        assert comparisons.holm([0.6, 0.7]) == [1.0, 1.0]

    def test_an_undefined_one_does_not_count(self):
        found = comparisons.holm([0.02, float("nan"), 0.03])
        assert found[0] == pytest.approx(0.04)
        assert np.isnan(found[1])


class TestTable:
    @pytest.fixture(scope="class")
    def table(self, probed, shared):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(intervals, "RESAMPLES", 2000)  # with few no p value is small
            return comparisons.table(probed, shared)

    def test_every_pair_is_compared_by_every_metric(self, table, probed):
        pairs = len(probed) * (len(probed) - 1) // 2
        assert table.groupby("metric", sort=False).size().to_dict() == dict.fromkeys(
            comparisons.METRICS, pairs
        )
        assert list(table.columns) == list(comparisons.COLUMNS)

    def test_a_difference_of_aucs_is_that_of_the_metrics(self, table, probed):
        aucs = {result.name: result.test["auc"] for result in probed}
        for row in table[table["metric"] == "auc"].itertuples():
            assert row.difference == pytest.approx(aucs[row.one] - aucs[row.other])
            assert row.low <= row.difference <= row.high
            assert row.p <= row.p_holm <= 1

    def test_the_outcome_is_that_of_the_corrected_p_value(self, table):
        rows = table[table["metric"] == "auc"].set_index(["one", "other"])
        assert rows.loc[("vgg16_transfer", "vgg16_scratch"), "outcome"] == "better"
        for row in table.itertuples():
            assert (row.outcome == "open") == (row.p_holm >= 0.05)

    def test_a_system_and_its_double_are_open(self, results, shared):
        double = replace(results[0], name="double")
        table = comparisons.table([results[0], double], shared)
        assert (table["difference"] == 0).all()
        assert set(table["outcome"]) == {"open"}
        assert (table["p_holm"] == 1).all()

    def test_one_system_has_nothing_to_be_compared_with(self, results, shared):
        table = comparisons.table(results[:1], shared)
        assert table.empty
        assert list(table.columns) == list(comparisons.COLUMNS)

    def test_one_class_is_unknown(self, results, shared):
        sick = [replace(r, predictions=r.predictions.assign(label=1)) for r in results]
        table = comparisons.table(sick, shared)
        assert set(table["outcome"]) == {"unknown"}
