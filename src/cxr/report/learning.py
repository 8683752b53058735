"""The learning curves, for which scikit-learn has no display."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from cxr.report import style
from cxr.report.style import MUTED, PAPER


@dataclass(frozen=True)
class Learning:
    """The learning curves of one system.

    Attributes:
        name: of the system.
        colour: one of COLOURS.
        history: one row per epoch: epoch (from 1), phase, loss, auc, val_loss, val_auc.
        best: the epochs to mark, whose weights the phases ended with; may be empty.
    """

    name: str
    colour: str
    history: pd.DataFrame
    best: Sequence[int]


def curves(systems: Sequence[Learning]) -> Figure:
    """Draw loss and AUC by epoch, one row per system: training, validation, phases, best epochs.

    All rows have the same AUC limits. Their loss limits differ, because losses with different class
    weights are not comparable.
    """
    with style.style():
        layout = ConstrainedLayoutEngine(hspace=0.06, wspace=0.04)
        figure = Figure(figsize=(10, 2.5 * len(systems)), layout=layout)
        rows = figure.subplots(len(systems), 2, squeeze=False)
        aucs = np.concatenate([s.history[["auc", "val_auc"]].to_numpy(float) for s in systems])
        for system, (left, right) in zip(systems, rows, strict=True):
            _curve(left, system, "loss")
            _curve(right, system, "auc")
            pad = 16 if system.history["phase"].nunique() > 1 else 6  # room for the phases' names
            left.set_title(f"{system.name}: loss", pad=pad)
            right.set_title(f"{system.name}: AUC", pad=pad)
            right.set_ylim(*style.auc_limits(aucs))
        for axes in rows[-1]:
            axes.set_xlabel("epoch")
        rows[0][0].legend(loc="best")
        return figure


def _curve(axes: Axes, system: Learning, metric: str) -> None:
    """Draw one metric of one system, the borders of its phases, and its best epochs."""
    history = system.history
    epochs = history["epoch"]
    # Not clipped, so that a line at an AUC of 1 has its full width; and not in the layout, which
    # would otherwise make room for it and push the panels apart.
    line: dict[str, Any] = {"color": system.colour, "clip_on": False, "in_layout": False}
    if len(epochs) < 3:
        line |= {"marker": "o", "markersize": 3}
    axes.plot(
        epochs, history[metric], alpha=0.6, linewidth=1.2, linestyle="--", label="training", **line
    )  # fmt: skip
    axes.plot(epochs, history[f"val_{metric}"], label="validation", **line)
    best = history[epochs.isin(system.best)]
    if len(best):
        line |= {"marker": "o", "markersize": 7, "markerfacecolor": PAPER, "zorder": 3}
        axes.plot(
            best["epoch"], best[f"val_{metric}"], markeredgewidth=1.6, linestyle="none",
            label="best epoch", **line,
        )  # fmt: skip
    axes.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    starts = history.groupby("phase", sort=False)["epoch"].min()
    if len(starts) < 2:
        return
    for phase, start in starts.items():
        if start > epochs.min():
            axes.axvline(start - 0.5, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        axes.annotate(
            str(phase), (start - 0.5, 1), (2, 3), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=MUTED, fontsize=8,
        )  # fmt: skip
