"""The colours of figures and page, and the style of matplotlib's figures.

:func:`save` writes a figure as PNG. Equal figures give equal bytes.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from cxr import files

PAPER = "#ffffff"
INK = "#1c2430"
MUTED = "#5c6773"
LINE = "#d3d9e0"
# One per system, in order, with a contrast on white of at least 4.5 : 1. Figures and tables always
# show the name with the colour, because some readers are colour-blind.
COLOURS = (
    "#1f5fa8",
    "#b8500c",
    "#2e7a4c",
    "#7b4aa3",
    "#a8324a",
    "#0f7580",
    "#76650f",
    "#565f6b",
    "#8b5a3c",
)
# The same colours in dark mode; the page defines both as CSS variables.
DARK = {
    PAPER: "#14181e",
    INK: "#e7eaee",
    MUTED: "#a3adb8",
    LINE: "#39424d",
    "#1f5fa8": "#7fb3ee",
    "#b8500c": "#f0a067",
    "#2e7a4c": "#78c896",
    "#7b4aa3": "#c39fe6",
    "#a8324a": "#f08ea2",
    "#0f7580": "#66c3cc",
    "#76650f": "#d3bf62",
    "#565f6b": "#b4bec9",
    "#8b5a3c": "#d2a98c",
}
_ROLES = {PAPER: "paper", INK: "ink", MUTED: "muted", LINE: "line"}
VARIABLES = _ROLES | {colour: f"system-{place}" for place, colour in enumerate(COLOURS)}
_STYLE: Any = {
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "text.color": INK,
    "text.parse_math": False,  # a $ in a name is a $
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of each system, in order; the ninth system gets the first colour again."""
    return dict(zip(names, itertools.cycle(COLOURS), strict=False))


def auc_limits(values: np.ndarray) -> tuple[float, float]:
    """Return the limits of an axis of AUCs: a little below the lowest, and 1."""
    known = values[np.isfinite(values)]
    low = float(known.min()) if len(known) else 0.0
    return low - max(0.05 * (1 - low), 0.002), 1.0


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, 200 dots per inch."""
    with style(), files.replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=200, metadata={"Software": None})


@contextmanager
def style() -> Iterator[None]:
    """Apply this module's matplotlib settings inside the block, and ignore any matplotlibrc."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield
