"""The answer: the headline in each case, the pairs it comes from, and the warnings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cxr import files
from cxr.errors import InputError
from cxr.report.answer import verdict
from cxr.report.results import Context, Result
from tests.report.fabricate import (
    Project,
    edit,
    with_auc,
    with_leak,
    with_phase,
    with_settings,
    with_unknown_patients,
    write_project,
)


class TestHeadline:
    def test_pretrained_better(self, results: list[Result], shared: Context) -> None:
        found = verdict(results, shared)
        assert found.outcome == "better"
        assert found.headline == "Yes: pretrained weights give the higher test AUC."
        assert found.obstacle == ""
        assert found.warnings == ()

    def test_pretrained_worse(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 90, vgg16_transfer=0.8, vgg16_scratch=4.0)
        found = project.verdict("vgg16_transfer", "vgg16_scratch")
        assert found.outcome == "worse"
        assert found.headline.startswith("No: pretrained weights give the lower test AUC")

    def test_no_difference(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, vgg16_transfer=2.5, vgg16_scratch=2.5)
        found = project.verdict("vgg16_transfer", "vgg16_scratch")
        assert found.outcome == "open"
        assert found.headline.startswith(
            "Undecided: the 95 % interval of the AUC difference includes 0"
        )

    def test_the_headline_says_that_a_control_is_at_chance_level(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 90, vgg16_transfer=4.0, vgg16_scratch=0.0)
        found = project.verdict("vgg16_transfer", "vgg16_scratch")
        assert found.outcome == "better"
        assert found.headline == (
            "Yes: pretrained weights give the higher test AUC, but the control learned nothing."
        )
        (warning,) = found.warnings
        assert warning.startswith("vgg16_scratch is at chance level: the 95 % interval of its AUC")
        assert warning.endswith("includes 0.5.")

    def test_pairs_that_agree(self, results: list[Result], shared: Context) -> None:
        twin = replace(results[1], name="twin")
        found = verdict([*results, twin], shared)
        assert found.headline.endswith("higher test AUC in all 2 controlled comparisons.")

    def test_pairs_that_disagree(self, tmp_path: Path) -> None:
        project = write_project(
            tmp_path, 90, vgg16_transfer=4.0, vgg16_scratch=0.8, vgg16_scratch_b=4.0
        )
        found = project.verdict("vgg16_transfer", "vgg16_scratch", "vgg16_scratch_b")
        assert found.outcome == "mixed"
        assert found.headline == (
            "It depends: of 2 controlled comparisons, pretrained better in 1, undecided in 1."
        )

    def test_one_class_is_undefined(self, results: list[Result], shared: Context) -> None:
        sick = [replace(r, predictions=r.predictions.assign(label=1)) for r in results]
        found = verdict(sick, shared)
        assert found.outcome == "unknown"
        assert found.headline.startswith("Undefined: the test set has only one class")


class TestNoControlledPair:
    def test_one_confounder_is_enough(self, results: list[Result], shared: Context) -> None:
        transfer, control = results
        found = verdict([transfer, with_settings(control, class_weights=None)], shared)
        assert found.outcome == "none"
        assert found.headline == (
            "This run cannot answer: no two systems differ in the initial weights alone."
        )
        assert found.obstacle == (
            "vgg16_transfer and vgg16_scratch come closest, but also differ in class weights "
            "(balanced against none)."
        )
        assert [pair.controlled for pair in found.pairs] == [False]

    def test_the_obstacle_is_that_of_the_most_similar_pair(
        self, results: list[Result], shared: Context
    ) -> None:
        transfer, control = results
        far = with_settings(control, class_weights=None, augmentation=None, image_size=64)
        near = with_phase(replace(control, name="near"), "train", learning_rate=0.01, epochs=5)
        assert verdict([transfer, far, near], shared).obstacle == (
            "vgg16_transfer and near come closest, but also differ in learning rate "
            "(0.0001 against 0.01) and epochs (10000 against 5)."
        )

    def test_an_uncontrolled_pair_does_not_change_the_headline(
        self, results: list[Result], shared: Context
    ) -> None:
        """The uncontrolled pair is better, the controlled one worse."""
        low, high = (with_auc(r, 0.9, 0.8, 0.95) for r in results)
        swapped = [
            replace(low, predictions=results[1].predictions),
            replace(high, predictions=results[0].predictions),
        ]
        other = replace(
            with_settings(results[1], augmentation=None), name="another", metrics=low.metrics
        )
        alone, both = verdict(swapped, shared), verdict([*swapped, other], shared)
        assert alone.outcome == both.outcome == "worse"
        assert alone.headline == both.headline
        assert [pair.controlled for pair in both.pairs] == [True, False]

    def test_an_uncontrolled_control_at_chance_is_not_in_the_headline(
        self, results: list[Result], shared: Context
    ) -> None:
        other = with_auc(with_settings(results[1], augmentation=None), 0.5, 0.4, 0.6)
        found = verdict([*results, replace(other, name="another")], shared)
        assert found.headline == "Yes: pretrained weights give the higher test AUC."
        assert found.warnings[0].startswith("another is at chance level")

    def test_nothing_pretrained(self, results: list[Result], shared: Context) -> None:
        found = verdict(results[1:], shared)
        assert found.headline == (
            "This run cannot answer: no system starts from pretrained weights."
        )
        assert (found.obstacle, found.pairs) == ("", ())

    def test_nothing_randomly_initialised(self, results: list[Result], shared: Context) -> None:
        found = verdict(results[:1], shared)
        assert found.headline == (
            "This run cannot answer: no randomly initialised system has the same backbone as a "
            "pretrained one."
        )

    def test_another_backbone_is_no_control(self, results: list[Result], shared: Context) -> None:
        other = replace(results[1], weights=dict(results[1].weights) | {"backbone": "resnet18"})
        assert verdict([results[0], other], shared).pairs == ()

    def test_no_systems(self, shared: Context) -> None:
        assert verdict([], shared).outcome == "none"


class TestWarnings:
    def test_worse_than_chance(self, results: list[Result], shared: Context) -> None:
        (warning,) = verdict([with_auc(results[0], 0.2, 0.1, 0.3)], shared).warnings
        assert warning == (
            "vgg16_transfer is worse than chance: the 95 % interval of its AUC is 0.100 to 0.300."
        )

    def test_patients_in_the_test_set_and_in_training(
        self, results: list[Result], project: Project
    ) -> None:
        (warning,) = verdict(results, with_leak(project.context("image"))).warnings
        assert warning.startswith(
            "4 test images show patients who are also in training or validation (2 patients)"
        )

    def test_unknown_patients(self, results: list[Result], shared: Context) -> None:
        (warning,) = verdict(results, with_unknown_patients(shared, 7)).warnings
        assert warning.startswith("7 of 240 images have no known patient")

    def test_unknown_patients_are_read_from_the_manifest(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 12, vgg16_transfer=2.0)
        path = tmp_path / "splits/manifest.csv"
        files.write_csv(path, files.read_csv(path).assign(patient_known=False))
        (warning,) = [w for w in project.verdict("vgg16_transfer").warnings if "patient" in w]
        assert warning.startswith("24 of 24 images have no known patient")


def undefine(value: dict[str, Any]) -> None:
    for phase in value["phases"].values():
        for found in phase.values():
            found |= {"auc": None, "auc_low": None, "auc_high": None}
    for name in ("test", "perturbed"):
        value[name] |= {"auc": None, "auc_low": None, "auc_high": None}


def test_undefined_metrics_give_no_warning(tmp_path: Path) -> None:
    project = write_project(tmp_path, vgg16_transfer=2.0)
    edit(tmp_path / "evaluations/vgg16_transfer/metrics.json", undefine)
    assert project.verdict("vgg16_transfer").warnings == ()


def test_a_stale_evaluation_is_refused(results: list[Result], shared: Context) -> None:
    stale = replace(results[0], predictions=results[0].predictions.iloc[1:])
    with pytest.raises(InputError, match=r"vgg16_transfer was tested on 79 images.*dvc repro"):
        verdict([stale], shared)
