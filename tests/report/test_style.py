"""The palette, and the limits of axes."""

import numpy as np
import pytest

from cxr.report import style


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2, 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_tenth_system_has_the_first_colour_again() -> None:
    names = [f"system_{n}" for n in range(10)]
    found = style.colours(names)
    assert list(found) == names
    assert found["system_9"] == found["system_0"] != found["system_8"]


def test_a_system_has_the_same_colour_when_others_follow() -> None:
    assert style.colours("ab")["b"] == style.colours("abc")["b"]


@pytest.mark.parametrize("colour", (*style.COLOURS, style.INK, style.MUTED))
def test_colours_have_the_contrast_of_text_in_light_and_dark(colour: str) -> None:
    assert contrast(colour, style.PAPER) >= 4.5
    assert contrast(style.DARK[colour], style.DARK[style.PAPER]) >= 4.5


def test_every_colour_has_a_dark_one_and_a_variable() -> None:
    assert set(style.DARK) == set(style.VARIABLES)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.6, 0.9], (0.58, 1.0)), ([1.0], (0.998, 1.0)), ([float("nan")], (-0.05, 1.0))],
)
def test_limits_of_an_axis_of_aucs(values: list[float], expected: tuple[float, float]) -> None:
    assert style.auc_limits(np.array(values)) == pytest.approx(expected)
