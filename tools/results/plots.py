"""The plots of README and docs, drawn from recorded runs, as SVG whose bytes do not vary."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxr.report import style
from cxr.report.style import COLOURS, INK, MUTED
from tools.results.records import Record, compared, sweep

IMAGENET, RANDOM = COLOURS[0], COLOURS[1]
PROTOCOLS = {
    "grouped": "grouped: 550 images of the same hospital's children",
    "official": "official: 624 images, framed differently",
}


def answer(found: Mapping[str, Record]) -> Figure:
    """Draw the test AUC of each system with its interval, one panel per protocol.

    Args:
        found: all records, by name.
    """
    with style.style():
        shown = {protocol: compared(found, protocol) for protocol in PROTOCOLS}
        heights = [max(1, len(rows)) for rows in shown.values()]
        figure = Figure((7.2, 0.9 + 0.34 * sum(heights) + 0.5), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": heights})
        for axes, (protocol, rows) in zip(panels, shown.items(), strict=True):
            _forest(axes, rows)
            axes.set_title(PROTOCOLS[protocol])
        panels[-1].set_xlabel("test AUC, with its 95 % interval over patients")
        handles = [
            mpl.lines.Line2D([], [], color=colour, marker="o", label=label)
            for colour, label in (
                (IMAGENET, "from ImageNet's weights"),
                (RANDOM, "from random weights"),
            )
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
        return figure


def freeze_blocks(found: Mapping[str, Record]) -> Figure:
    """Draw test AUC, training time and trained parameters over the number of frozen blocks.

    Args:
        found: all records, by name.
    """
    rows = sweep(found)
    blocks = [int(r.train["freeze_blocks"]) for r in rows]
    with style.style():
        figure = Figure((7.2, 2.6), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        if rows:
            tests = [r.metrics["test"] for r in rows]
            values = np.array([test["auc"] for test in tests])
            ends = np.array([[test["auc_low"], test["auc_high"]] for test in tests]).T
            left.errorbar(
                blocks, values, yerr=np.abs(ends - values), fmt="o-", color=IMAGENET, capsize=3
            )
        left.set(title="test AUC", ylim=(None, 1))
        middle.plot(blocks, [r.minutes for r in rows], "o-", color=INK)
        middle.set(title="training, minutes", ylim=(0, None))
        right.plot(
            blocks, [r.train["parameters"]["trainable"] / 1e6 for r in rows], "o-", color=INK
        )
        right.set(title="trained parameters, millions", ylim=(0, None))
        for axes in (left, middle, right):
            axes.set(xlabel="frozen blocks", xticks=range(6), xlim=(-0.4, 5.4))
        return figure


PLOTS: Mapping[str, Callable[[Mapping[str, Record]], Figure]] = {
    "answer.svg": answer,
    "freeze_blocks.svg": freeze_blocks,
}


def svg(figure: Figure) -> str:
    """Return a figure as SVG; equal figures give equal text."""
    stream = io.StringIO()
    with style.style(), mpl.rc_context({"svg.hashsalt": "cxr"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def _forest(axes: Axes, rows: Sequence[Record]) -> None:
    """Draw a row per record, the first on top."""
    ordered = rows[::-1]  # axes count from below
    for place, record in enumerate(ordered):
        test, colour = record.metrics["test"], IMAGENET if record.pretrained else RANDOM
        line: dict[str, Any] = {"color": colour, "linewidth": 2, "solid_capstyle": "round"}
        axes.plot([test["auc_low"], test["auc_high"]], [place, place], **line)
        axes.plot([test["auc"]], [place], "o", color=colour)
    names = [
        f"{record.system}, {record.image_size} px"
        if record.image_size
        else f"{record.system}, mean of {len(record.members)}"
        for record in ordered
    ]
    labels = [
        f"{name}, {len(record.history)} epochs" if names.count(name) > 1 else name
        for name, record in zip(names, ordered, strict=True)
    ]
    axes.set_yticks(range(len(ordered)), labels)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(MUTED)
