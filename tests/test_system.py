"""Settings of an augmentation and of a phase's rate: reading them, and words on mistakes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from cxr import params
from tests.small import APPEARANCE, phase
from tests.test_params import GONE, ROOT, YAML, said, write

PLACE = "systems.vgg16_transfer.augmentation"
LOOKS = {
    "blur": [0.5, 1.2], "jpeg": [30, 89], "unsharp": {"sigma": 1, "amount": [0.3, 1]},
    "gamma": 0.4, "contrast": [0.7, 1.25], "brightness": 0.08,
}  # fmt: skip
FACTORS = {"x": [0.85, 1.2], "y": [1, 1]}


@pytest.fixture
def load(tmp_path) -> Callable[..., params.Augmentation]:
    """Load params.yaml with some settings of an augmentation changed, or GONE."""
    whole = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))

    def change(**changes: Any) -> params.Augmentation:
        raw = copy.deepcopy(whole)
        given = raw["systems"]["vgg16_transfer"]["augmentation"] | changes
        raw["systems"]["vgg16_transfer"]["augmentation"] = {
            key: value for key, value in given.items() if value is not GONE
        }
        write(raw, tmp_path / "params.yaml")
        found = params.load(tmp_path / "params.yaml").system("vgg16_transfer").augmentation
        assert found is not None
        return found

    return change


def test_takes_ranges_and_null(load):
    assert load(appearance=LOOKS).appearance == APPEARANCE
    off = load(appearance=LOOKS | {"blur": None, "jpeg": None, "unsharp": None}).appearance
    assert (off.blur, off.jpeg, off.unsharp) == (None, None, None)
    magnified = load(magnification=FACTORS, original=0.25)
    assert magnified.magnification == params.Magnification(x=(0.85, 1.2), y=(1.0, 1.0))
    assert magnified.original == 0.25


def phase_of(**changes: Any) -> params.Phase:
    return params.Phase.model_validate(phase("all", epochs=3).model_dump() | changes)


class TestCosine:
    COSINE = {"warm_up": 0.5, "final": 0.02}

    def test_is_taken_without_a_plateau(self):
        assert phase_of(cosine=self.COSINE).cosine == params.Cosine(warm_up=0.5, final=0.02)

    def test_is_refused_beside_a_plateau(self):
        plateau = {"factor": 0.5, "patience": 1, "min_learning_rate": 0.0}
        with pytest.raises(ValidationError, match="cannot both set the rate"):
            phase_of(cosine=self.COSINE, plateau=plateau)

    def test_is_refused_if_the_phase_ends_before_it_is_warm(self):
        with pytest.raises(ValidationError, match=r"more than the 3 epochs of cosine.warm_up"):
            phase_of(cosine=self.COSINE | {"warm_up": 3.0})

    @pytest.mark.parametrize("average", [0.0, 1.0, -0.5])
    def test_a_decay_is_between_0_and_1(self, average):
        with pytest.raises(ValidationError, match="average"):
            phase_of(average=average)


@pytest.mark.parametrize("key", ["magnification", "appearance", "original"])
def test_nothing_has_a_hidden_default(load, key):
    found = said(lambda: load(**{key: GONE}))
    assert found.endswith(f"{PLACE}.{key} is missing: give it a value")


@pytest.mark.parametrize("key", LOOKS)
def test_no_part_of_an_appearance_has_a_hidden_default(load, key):
    looks = {name: value for name, value in LOOKS.items() if name != key}
    found = said(lambda: load(appearance=looks))
    assert found.endswith(f"{PLACE}.appearance.{key} is missing: give it a value")


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"blur": [1.2, 0.5]}, "blur is [1.2, 0.5]: give the lower value first"),
        ({"blur": [0, 1]}, "blur.0 is 0: input should be greater than or equal to 0.1"),
        ({"jpeg": [30, 101]}, "jpeg.1 is 101: input should be less than or equal to 100"),
        ({"jpeg": [30.5, 89]}, "jpeg.0 is 30.5: input should be a valid integer"),
        ({"unsharp": {"sigma": 1}}, "unsharp.amount is missing: give it a value"),
        ({"unsharp": [0.3, 1]}, "unsharp is [0.3, 1]: input should be an object"),
        ({"contrast": [1.25, 0.7]}, "contrast is [1.25, 0.7]: give the lower value first"),
        ({"gamma": -0.1}, "gamma is -0.1: input should be greater than or equal to 0"),
        ({"brightness": 20}, "brightness is 20: input should be less than or equal to 1"),
        ({"gama": 0.4}, "gama is unknown: did you mean gamma"),
    ],
    ids=str,
)
def test_an_invalid_appearance_is_refused(load, changes, answer):
    assert f"{PLACE}.appearance.{answer}" in said(lambda: load(appearance=LOOKS | changes))


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"magnification": [0.85, 1.2]}, "magnification is [0.85, 1.2]: input should be an object"),
        ({"magnification": {"x": [1, 1]}}, "magnification.y is missing: give it a value"),
        ({"magnification": FACTORS | {"x": [2, 1]}}, "x is [2, 1]: give the lower value first"),
        ({"magnification": FACTORS | {"x": [0, 1]}}, "greater than or equal to 0.1"),
        ({"appearance": "strong"}, "appearance is 'strong': input should be an object"),
        ({"original": 1}, "original is 1: input should be less than 1"),
    ],
    ids=str,
)
def test_an_invalid_augmentation_is_refused(load, changes, answer):
    assert answer in said(lambda: load(**changes))
