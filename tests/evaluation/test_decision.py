"""The decision curve, by hand and against figures of another implementation."""

import numpy as np
import pytest

from cxr.evaluation import decision

LABELS = np.repeat([0, 1], [20, 20])
PROBABILITIES = np.linspace(0, 1, 40)


def test_it_equals_dcurves():
    """``dcurves`` 1.1.7's ``dca`` gave these for the same 40 probabilities.

    It is not a test dependency, because it needs pandas < 3.
    """
    table = decision.curve(LABELS, PROBABILITIES, None).set_index("threshold")
    for threshold, expected in {
        0.01: 0.495202,
        0.02: 0.490306,
        0.03: 0.486082,
        0.04: 0.48125,
    }.items():
        assert table.loc[threshold, "net_benefit"] == pytest.approx(expected, abs=1e-6)


def test_by_hand():
    table = decision.curve(LABELS, PROBABILITIES, None).set_index("threshold")
    # At 0.25, 30 of 40 are called ill: all 20 who are, and 10 who are not.
    assert table.loc[0.25, "net_benefit"] == pytest.approx(20 / 40 - 10 / 40 / 3)
    assert table.loc[0.25, "treat_all"] == pytest.approx(20 / 40 - 20 / 40 / 3)
    assert (table["treat_none"] == 0).all()


def test_where_one_in_ten_is_ill():
    table = decision.curve(LABELS, PROBABILITIES, 0.1).set_index("threshold")
    assert table.loc[0.25, "net_benefit"] == pytest.approx(0.1 - 0.5 * 0.9 / 3)
    assert table.loc[0.1, "treat_all"] == pytest.approx(0)  # the threshold equals the prevalence


def test_a_perfect_model_has_the_prevalence_as_its_benefit():
    table = decision.curve(LABELS, LABELS.astype(float), None)
    assert table["net_benefit"].to_numpy() == pytest.approx(0.5)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_curve(label):
    table = decision.curve(np.full(4, label), PROBABILITIES[:4], None)
    assert table.empty
    assert list(table.columns) == ["threshold", "net_benefit", "treat_all", "treat_none"]
