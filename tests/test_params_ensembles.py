"""The ensembles of params.yaml: what they may be, and words on every kind of mistake."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from cxr import params
from tests.test_params import NAME, ROOT, YAML, said, write


@pytest.fixture
def load(tmp_path) -> Callable[[Any], params.Params]:
    """Load params.yaml with other ensembles, and cnn's images of another size."""
    whole = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))

    def change(ensembles: Any, size: Any = 150) -> params.Params:
        raw = copy.deepcopy(whole) | {"ensembles": ensembles}
        raw["systems"]["cnn"]["image_size"] = size
        write(raw, tmp_path / "params.yaml")
        return params.load(tmp_path / "params.yaml")

    return change


@pytest.mark.parametrize(
    "value", [{}, {"a": ["cnn", "probe"]}, {"b_2": ["cnn", "probe", "mobilenet_v2"]}], ids=str
)
def test_none_and_those_of_two_or_more_systems_are_taken(load, value):
    assert load(value).ensembles == {name: tuple(members) for name, members in value.items()}


@pytest.mark.parametrize(
    ("name", "members", "says"),
    [
        pytest.param("a", [], "is []: give at least two systems", id="no system"),
        pytest.param("a", ["cnn"], "is ['cnn']: give at least two systems", id="one system"),
        pytest.param(
            "a", ["cnn", "probe", "cnn"], "is ['cnn', 'probe', 'cnn']: name each system once",
            id="a system twice",
        ),
        pytest.param(
            "a", ["cnn", "prob"], "is ['cnn', 'prob']: prob is not a system: did you mean probe",
            id="a misspelt system",
        ),
        pytest.param(
            "a", ["cnn", "zzz"], "is ['cnn', 'zzz']: zzz is not a system: there are probe, vgg16",
            id="an unknown system",
        ),
        pytest.param(
            "cnn", ["cnn", "probe"], "has the name of a system: give it another one",
            id="a system's name",
        ),
    ],
)  # fmt: skip
def test_a_mistake_ends_in_one_line_that_says_what_to_do(load, name, members, says):
    found = said(lambda: load({name: members}))
    assert f"params.yaml: ensembles.{name} {says}" in found
    assert "\n" not in found


def test_a_value_of_another_type_is_refused(load):
    assert "params.yaml: ensembles.a is 'cnn': " in said(lambda: load({"a": "cnn"}))
    assert "params.yaml: ensembles.a.1 is 3: " in said(lambda: load({"a": ["cnn", 3]}))
    assert "params.yaml: ensembles is None: " in said(lambda: load(None))


def test_a_name_that_cannot_be_a_folders_is_refused(load):
    assert f"ensembles.A b: {NAME}" in said(lambda: load({"A b": ["cnn", "probe"]}))


def test_a_mistake_in_a_system_is_told_alone(load):
    found = said(lambda: load({"a": ["zzz"]}, size="large"))
    assert "systems.cnn.image_size" in found and "ensembles" not in found


def test_an_unknown_name_lists_the_known_ones(settings):
    assert settings.ensemble("views") == ("mobilenet_v2_views", "vgg16_views")
    found = said(lambda: settings.ensemble("view"))
    assert found == "no ensemble 'view' in params.yaml: there are views: did you mean views?"
