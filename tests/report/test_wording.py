"""The words for figures and settings."""

from dataclasses import replace
from typing import Any

import pytest

from cxr.report import wording
from cxr.report.results import Result
from tests.report.fabricate import with_settings

PHASE: dict[str, Any] = {
    "learning_rate": 0.0001, "plateau": None, "steps_per_epoch": None, "early_stopping": None,
    "restore": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("all", "all layers"),
        ("backbone", "backbone without batch norms, and head"),
        ("head", "head"),
        ({"blocks": []}, "head"),
        ({"blocks": [5]}, "block 5 and head"),
        ({"blocks": [4, 5]}, "blocks 4, 5 and head"),
        ({"from_layer": 100}, "layers from 100 on and head"),
        ({"last": 5}, "last 5 layers"),
        ({"last": 1}, "last layer"),
    ],
)
def test_layers_trained(rule: Any, words: str) -> None:
    assert wording.rule(rule) == words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "Adam at 0.0001; all whole batches in each epoch; no early stopping; ends with the "
            "last epoch's weights",
        ),
        (
            {
                "plateau": {"factor": 0.2, "patience": 3, "min_learning_rate": 0.00001},
                "steps_per_epoch": 1200,
                "early_stopping": {"monitor": "val_accuracy", "patience": 1, "min_delta": 0.001},
                "restore": "val_accuracy",
            },
            "Adam at 0.0001; rate times 0.2 after 3 epochs without a lower validation loss, down "
            "to 1e-05; 1,200 batches per epoch; stops after 1 epoch without an improvement of more "
            "than 0.001 in validation accuracy; restores the weights of the epoch with the highest "
            "validation accuracy",
        ),
        (
            {"cosine": {"warm_up": 0.5, "final": 0.02}, "average": 0.99},
            "Adam at 0.0001; rate rises for 0.5 epochs, then falls along a cosine to 0.02 of that; "
            "moving average of the weights with a decay of 0.99 per step; all whole batches in "
            "each epoch; no early stopping; ends with the last epoch's weights",
        ),
        (
            {
                "early_stopping": {"monitor": "val_loss", "patience": 10, "min_delta": 0.0},
                "restore": "val_loss",
            },
            "Adam at 0.0001; all whole batches in each epoch; stops after 10 epochs without an "
            "improvement in validation loss; restores the weights of the epoch with the lowest "
            "validation loss",
        ),
        (
            {"restore": "shifted_loss"},
            "Adam at 0.0001; all whole batches in each epoch; no early stopping; restores the "
            "weights of the epoch with the lowest loss on validation images under simulated shifts",
        ),
    ],
)
def test_how_a_phase_trains(changes: dict[str, Any], words: str) -> None:
    assert wording.how(PHASE | changes) == words


def test_settings_of_a_system(results: list[Result]) -> None:
    head = {
        "pool": "average", "layers": None, "dropout": 0.2, "output": "log_softmax",
        "dense": [
            {"units": 1024, "batch_norm": True, "dropout": 0.5},
            {"units": 64, "batch_norm": True, "dropout": 0.0},
        ],
    }  # fmt: skip
    found = wording.settings(with_settings(results[0], head=head))
    assert found["Head"] == (
        "average with dropout 0.2, dense 1,024 with batch norm and dropout 0.5, dense 64 with "
        "batch norm, log softmax"
    )
    assert found["Initial weights"] == "imagenet, SHA-256 efefefefefefefef…"
    assert found["Input"] == "224 x 224 pixels, batches of 62"
    assert found["Augmentation"] == "rotation 40, horizontal flip"  # a shear of 0 is left out
    assert found["Class weights"] == "NORMAL 1.853, PNEUMONIA 0.685"
    assert found["Images"].startswith("train 1,283 NORMAL + 3,473 PNEUMONIA; val 150")
    assert found["Training time"] == "150 s (12 epochs, 12.0 s each)"


def test_nested_ranges_are_in_brackets() -> None:
    magnification = {"x": [0.85, 1.2], "y": [0.85, 1.3]}
    unsharp = {"sigma": 1.0, "amount": [0.3, 1.0]}
    appearance = {"blur": None, "jpeg": [30, 89], "unsharp": unsharp, "gamma": 0.4}
    settings = {"zoom": 0.0, "magnification": magnification, "appearance": appearance, "views": 4}
    assert wording.ranges(settings) == (
        "magnification (x 0.85 to 1.2, y 0.85 to 1.3), "
        "appearance (jpeg 30 to 89, unsharp (sigma 1, amount 0.3 to 1), gamma 0.4), views 4"
    )
    assert wording.ranges({"magnification": None, "appearance": None, "original": 0.0}) == ""


def test_settings_that_are_off(results: list[Result]) -> None:
    off = with_settings(results[1], augmentation=None)
    found = wording.settings(replace(off, record=dict(off.record) | {"class_weights": None}))
    assert (found["Augmentation"], found["Class weights"]) == ("none", "none")
    assert found["Initial weights"] == "random"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (599.4, "599 s"), (600, "10 min"), (72000, "1,200 min")]
)
def test_duration(results: list[Result], seconds: float, words: str) -> None:
    training = dict(results[0].training) | {"seconds": seconds}
    provenance = dict(results[0].provenance) | {"training": training}
    assert wording.duration(replace(results[0], provenance=provenance)) == words


@pytest.mark.parametrize(
    ("items", "words"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_lists(items: list[str], words: str) -> None:
    assert wording.listed(items) == words


def test_missing_figures_are_dashes() -> None:
    for function in (wording.number, wording.count, wording.signed, wording.published):
        assert function(None) == "\N{EN DASH}"
    assert wording.number(float("nan")) == "\N{EN DASH}"
    assert wording.interval(None, None) == "\N{EN DASH}"


def test_figures() -> None:
    assert wording.number(0.98765) == "0.988"
    assert wording.count(27_593_153) == "27,593,153"
    assert wording.signed(-0.05) == "\N{MINUS SIGN}0.050"
    assert wording.signed(0.05) == "+0.050"
    assert wording.published(0.9050) == "0.905"
    assert wording.interval(0.1, 0.9) == "0.100 to 0.900"
    assert wording.ranges({"zoom": 0.0, "flip": False, "brightness": [0.5, 1.5]}) == (
        "brightness 0.5 to 1.5"
    )


@pytest.mark.parametrize(
    ("views", "words"),
    [
        (0, " once for validation images, and in each step for training images"),
        (1, " once"),
        (3, " once for each of 3 views"),
    ],
)
def test_frozen_features(views: int, words: str) -> None:
    features = {"layer": "block4_pool", "views": views, "policy": "mixed_bfloat16"}
    start = "frozen layers up to block4_pool computed in bfloat16"
    assert wording.frozen(features) == start + words
    assert wording.frozen(None) == "all layers computed in each step"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (0.5, "0.5"),
        ("youden", "youden"),
        ({"sensitivity": 0.95}, "sensitivity 0.95"),
        ({"on": "shifted", "rule": "youden"}, "on shifted, rule youden"),
    ],
)
def test_a_threshold_is_a_number_or_a_rule(rule: object, expected: str) -> None:
    assert wording.threshold(rule) == expected
