"""The style of all figures (colours, type, lines), and their output as PNG or SVG.

:func:`save` writes a figure as PNG. :func:`svg` returns it for a page and uses the page's font and
light or dark colours. Equal figures give equal bytes.
"""

import html
import io
import itertools
import re
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
COLOURS = ("#1f5fa8", "#b8500c", "#2e7a4c", "#7b4aa3", "#a8324a", "#0f7580", "#76650f", "#565f6b")
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
    "svg.fonttype": "none",  # text stays text, for search, copying and screen readers
    "svg.hashsalt": "cxr",  # ids are random otherwise
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


def svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an ``<svg>`` element for a page.

    Its colours become CSS variables that the page defines (VARIABLES); its text uses the page's
    font.

    Args:
        figure: drawn in :func:`style`.
        name: prefix of its ids, unique in the page: a-z and -.
        description: text for screen readers, escaped here.
    """
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'((?<= id=")|(?<="#)|(?<=url\(#))', f"{name}-", text)
    text = re.sub(r"font-family: [^;\"]*(; )?", "", text).replace("xlink:href", "href")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    # Times 1.5, so that 9 point text is as large as the page's small print.
    width, height = (round(side * 72 * 1.5) for side in figure.get_size_inches())
    view = re.search(r'viewBox="[^"]*"', text)
    opening = (
        f'<svg role="img" aria-label="{html.escape(description)}" '
        f'width="{width}" height="{height}" {view.group() if view else ""}>'
    )
    return opening + text[text.index(">", text.index("<svg")) + 1 :].strip()


@contextmanager
def style() -> Iterator[None]:
    """Apply this module's matplotlib settings inside the block, and ignore any matplotlibrc."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield
