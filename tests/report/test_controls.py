"""Which pairs of systems are controlled comparisons."""

from typing import Any

import pytest

from cxr import params
from cxr.report import controls
from cxr.report.results import Result
from tests.report.fabricate import REPOSITORY, with_phase, with_settings


def differences(transfer: Result, control: Result) -> tuple[list[str], list[str]]:
    return controls.differences(transfer.record["system"], control.record["system"])


def test_layers_trained_and_batch_size_go_with_the_initial_weights(results: list[Result]) -> None:
    allowed, confounders = differences(*results)
    assert allowed == [
        "batch size (62 against 16)", "layers trained (block 5 and head against all layers)",
    ]  # fmt: skip
    assert confounders == []


def test_systems_with_equal_settings_do_not_differ(results: list[Result]) -> None:
    system = results[0].record["system"]
    assert controls.differences(system, system | {"weights": None}) == ([], [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"augmentation": None}, "augmentation"),
        ({"class_weights": None}, "class weights (balanced against none)"),
        ({"image_size": 64}, "image size (224 against 64)"),
        ({"head": {"pool": "average"}}, "head"),
    ],
)
def test_another_setting_of_the_system_is_a_confounder(
    results: list[Result], changes: dict[str, Any], words: str
) -> None:
    transfer, control = results
    assert differences(transfer, with_settings(control, **changes))[1] == [words]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 0.001}, "learning rate (0.0001 against 0.001)"),
        ({"epochs": 20}, "epochs (10000 against 20)"),
        ({"early_stopping": None}, "early stopping"),
        ({"restore": None}, "restore (val_loss against none)"),
        ({"data": "perturbed"}, "data (clean against perturbed)"),
        ({"steps_per_epoch": 5}, "steps per epoch (none against 5)"),
    ],
)
def test_another_setting_of_a_phase_is_a_confounder(
    results: list[Result], changes: dict[str, Any], words: str
) -> None:
    transfer, control = results
    assert differences(transfer, with_phase(control, "train", **changes))[1] == [words]


def test_another_number_of_phases_is_a_confounder(results: list[Result], phased: Result) -> None:
    assert differences(phased, results[1])[1] == ["number of phases (2 against 1)"]


def test_a_control_with_frozen_random_layers_is_not_controlled(results: list[Result]) -> None:
    transfer, control = results
    frozen = with_phase(control, "train", trainable="head")
    assert differences(transfer, frozen)[1] == ["layers trained (block 5 and head against head)"]


def test_the_name_of_a_phase_does_not_matter(results: list[Result]) -> None:
    transfer, control = results
    phase = control.record["system"]["phases"]["train"]
    assert differences(transfer, with_settings(control, phases={"other": phase}))[1] == []


def test_values_of_several_phases_are_listed_in_order(phased: Result) -> None:
    other = with_phase(phased, "finetune", learning_rate=0.00001)
    assert differences(phased, other)[1] == [
        "learning rate (0.0001, then 0.0001 against 0.0001, then 1e-05)"
    ]


@pytest.mark.parametrize(
    ("transfer", "control", "controlled"),
    [
        ("vgg16_transfer", "vgg16_scratch", True),
        ("vgg16_gap", "vgg16_scratch", False),
        ("mobilenet_v2", "mobilenet_v2_scratch", False),
    ],
)
def test_pairs_of_the_repository(transfer: str, control: str, controlled: bool) -> None:
    systems = params.load(REPOSITORY / "params.yaml").systems
    one, other = (systems[name].model_dump(mode="json") for name in (transfer, control))
    assert (controls.differences(one, other)[1] == []) is controlled
