"""Differences of AUCs: between the systems of a pair, and between the phases of a system."""

from dataclasses import replace

import pandas as pd
import pytest

from cxr.errors import InputError
from cxr.evaluation import intervals
from cxr.report.differences import Difference, pairs, phase_results
from cxr.report.results import Context, Result
from tests.report.fabricate import with_settings


class TestDifference:
    @pytest.mark.parametrize(
        ("interval", "outcome"),
        [
            ((0.01, 0.2), "better"),
            ((-0.2, -0.01), "worse"),
            ((-0.1, 0.1), "open"),
            ((0.0, 0.1), "open"),
            (None, "unknown"),
        ],
    )
    def test_the_outcome_follows_from_the_interval(
        self, interval: tuple[float, float] | None, outcome: str
    ) -> None:
        assert Difference(None if interval is None else 0.05, interval).outcome == outcome


class TestPairs:
    def test_the_value_is_the_difference_of_the_two_aucs(
        self, results: list[Result], shared: Context
    ) -> None:
        (pair,) = pairs(results, shared)
        expected = results[0].test["auc"] - results[1].test["auc"]
        assert pair.difference.value == pytest.approx(expected)

    def test_the_interval_is_paired_over_patients(
        self, results: list[Result], shared: Context
    ) -> None:
        (pair,) = pairs(results, shared)
        rows = [r.predictions[r.predictions["split"] == "test"] for r in results]
        patients = shared.manifest.set_index("id")["patient"][rows[0]["id"]]
        assert pair.difference.interval == intervals.auc_difference_interval(
            rows[0]["label"].to_numpy(), rows[0]["probability"].to_numpy(),
            rows[1]["probability"].to_numpy(), patients.to_numpy(), shared.seed,
        )  # fmt: skip

    def test_the_order_of_the_predictions_does_not_matter(
        self, results: list[Result], shared: Context
    ) -> None:
        shuffled = results[1].predictions.sample(frac=1, random_state=1)
        other = replace(results[1], predictions=shuffled)
        (one,), (two,) = pairs(results, shared), pairs([results[0], other], shared)
        assert one.difference == two.difference

    def test_controlled_pairs_come_first(self, results: list[Result], shared: Context) -> None:
        first = replace(with_settings(results[0], augmentation=None), name="first")
        found = pairs([first, *results], shared)
        assert [(p.transfer.name, p.control.name, p.controlled) for p in found] == [
            ("vgg16_transfer", "vgg16_scratch", True),
            ("first", "vgg16_scratch", False),
        ]


class TestPhases:
    def by_hand(self, phased: Result, shared: Context) -> Result:
        """Two phases with test AUCs of 0.5 and 1, and perturbed ones of 1 and 0."""
        test = shared.manifest[shared.manifest["split"] == "test"]
        label = test["label"]
        rows = [
            test.assign(phase="features", probability=0.5, perturbed_probability=label),
            test.assign(phase="finetune", probability=label, perturbed_probability=1 - label),
        ]
        shuffled = pd.concat(rows).sample(frac=1, random_state=0)
        columns = ["phase", "id", "label", "probability", "perturbed_probability"]
        return replace(phased, phase_predictions=shuffled[columns])

    def test_the_gain_is_the_auc_minus_that_of_the_phase_before(
        self, phased: Result, shared: Context
    ) -> None:
        found = phase_results([self.by_hand(phased, shared)], shared)
        features, finetune = found["vgg16_gap_phases"]
        assert features.gain is None
        assert features.perturbed_gain is None
        assert finetune.gain == Difference(0.5, (0.5, 0.5))
        assert finetune.perturbed_gain == Difference(-1.0, (-1.0, -1.0))

    def test_the_interval_of_a_gain_is_paired_over_patients(
        self, phased: Result, shared: Context
    ) -> None:
        ((_, after),) = phase_results([phased], shared).values()
        rows = phased.phase_predictions
        one, other = (rows[rows["phase"] == name] for name in ("finetune", "features"))
        patients = shared.manifest.set_index("id")["patient"][one["id"]]
        for column, gain in (
            ("probability", after.gain),
            ("perturbed_probability", after.perturbed_gain),
        ):
            assert gain is not None
            assert gain.interval == intervals.auc_difference_interval(
                one["label"].to_numpy(), one[column].to_numpy(), other[column].to_numpy(),
                patients.to_numpy(), shared.seed,
            )  # fmt: skip

    def test_one_class_has_no_gain(self, phased: Result, shared: Context) -> None:
        sick = replace(phased, phase_predictions=phased.phase_predictions.assign(label=1))
        ((_, after),) = phase_results([sick], shared).values()
        assert after.gain == Difference(None, None)

    def test_a_stale_phase_is_refused(self, phased: Result, shared: Context) -> None:
        rows = phased.phase_predictions
        stale = replace(phased, phase_predictions=rows[rows["phase"] != "features"])
        with pytest.raises(InputError, match=r"tested on 0 images.*80 test images.*dvc repro"):
            phase_results([stale], shared)
