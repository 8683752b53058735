"""Controlled comparisons: which two systems show the effect of the initial weights.

Two systems of one backbone, one pretrained and one randomly initialised, are a controlled pair if
their settings (``system`` in train.json) are equal except for:

- ``weights``, the initial weights;
- ``phases.<phase>.trainable``: frozen layers must be pretrained, because random ones would never
  learn;
- ``batch_size``: training every layer takes more memory.

The last two are shown beside the result. Everything else must be equal: image size, augmentation,
class weights, head, the number of phases and, phase by phase, the learning rate, the most epochs,
early stopping and so on. The epochs that early stopping allowed are a result and not a setting. The
names of phases are not compared, and neither are the precision and the device.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cxr.report import wording

GOES_WITH_WEIGHTS = ("trainable", "batch_size")


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Describe how the settings of two systems differ, apart from the initial weights.

    Args:
        one: ``system`` of a train.json.
        other: the same of the other system.

    Returns:
        The differences that go with the initial weights, and those that make the comparison an
        uncontrolled one, such as ``learning rate (0.001 against 1e-05)``.
    """
    allowed: list[str] = []
    confounders: list[str] = []
    for key, ours, theirs in _settings(one, other):
        if ours == theirs:
            continue
        found = allowed if key in GOES_WITH_WEIGHTS else confounders
        found.append(_described(key, ours, theirs))
    return allowed, confounders


def _settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Give each setting's name and its two values; a phase's setting is a list over the phases."""
    for key in _keys([one, other]):
        if key not in ("weights", "phases"):
            yield key, one.get(key), other.get(key)
    ours, theirs = (list(system["phases"].values()) for system in (one, other))
    if len(ours) != len(theirs):
        yield "number of phases", len(ours), len(theirs)
        return
    for key in _keys([*ours, *theirs]):
        yield key, [phase.get(key) for phase in ours], [phase.get(key) for phase in theirs]


def _keys(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return all keys of the mappings, in order and once each."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _described(key: str, ours: Any, theirs: Any) -> str:
    """Return a setting's name and, where they are short, its two values."""
    values = [_value(key, value) for value in (ours, theirs)]
    name = {"trainable": "layers trained"}.get(key, wording.words(key))
    return f"{name} ({' against '.join(values)})" if all(values) else name


def _value(key: str, value: Any) -> str:
    """Return a value as text, or an empty text where it would be long."""
    if isinstance(value, list):
        parts = [wording.rule(part) if key == "trainable" else _value(key, part) for part in value]
        return ", then ".join(parts) if all(parts) else ""
    if value is None:
        return "none"
    return (
        f"{value:g}" if isinstance(value, int | float) else value if isinstance(value, str) else ""
    )
