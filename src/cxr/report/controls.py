"""Controlled comparisons: pairs of systems that show the effect of the initial weights.

Two systems with the same backbone, one pretrained and one randomly initialised (the control), are a
controlled pair if their settings (``system`` in train.json) are equal except for:

- ``weights``, the initial weights;
- ``phases.<phase>.trainable``, if the control trains all layers: pretrained layers can stay frozen,
  random ones cannot;
- ``batch_size``: training all layers takes more memory.

The report shows the last two beside the result. All other settings must be equal: image size,
augmentation, class weights, head, the number of phases and, phase by phase, learning rate, maximum
of epochs, early stopping and the rest. The number of epochs until early stopping is a result and
not a setting. The names of phases, the precision and the device are not compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cxr.report import wording


def differences(
    transfer: Mapping[str, Any], control: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Describe how the settings of two systems differ, apart from the initial weights.

    Args:
        transfer: ``system`` in train.json of the pretrained system.
        control: the same of the randomly initialised one.

    Returns:
        The allowed differences; and the confounders, which make the comparison uncontrolled, for
        example ``learning rate (0.001 against 1e-05)``.
    """
    allowed: list[str] = []
    confounders: list[str] = []
    for key, ours, theirs in _settings(transfer, control):
        if ours == theirs:
            continue
        fits = key == "batch_size" or (key == "trainable" and set(map(str, theirs)) == {"all"})
        (allowed if fits else confounders).append(_described(key, ours, theirs))
    return allowed, confounders


def _settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each setting's name and two values; a phase's setting is a list over the phases."""
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
    """Return the keys of the mappings, in order and without repeats."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _described(key: str, ours: Any, theirs: Any) -> str:
    """Return a setting's name and, if they are short, its two values."""
    values = [_value(key, value) for value in (ours, theirs)]
    name = {"trainable": "layers trained"}.get(key, wording.words(key))
    return f"{name} ({' against '.join(values)})" if all(values) else name


def _value(key: str, value: Any) -> str:
    """Return a value as text, or an empty string if it would be long."""
    match value:
        case list():
            parts = [wording.rule(v) if key == "trainable" else _value(key, v) for v in value]
            return ", then ".join(parts) if all(parts) else ""
        case None:
            return "none"
        case int() | float():
            return f"{value:g}"
        case str():
            return value
        case _:
            return ""
