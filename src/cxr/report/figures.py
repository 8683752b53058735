"""The figures: learning curves, ROC, precision-recall, confusion, AUC intervals."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from cxr import params
from cxr.report import style
from cxr.report.style import COLOURS, DARK, INK, MUTED, PAPER

CORNER = 0.95  # the AUC from which on a ROC curve is all in its corner
_ABOVE = 0.16  # how far the AUC on the test set stands above, and the perturbed below, a name
_AUCS = ("auc", "auc_low", "auc_high")


@dataclass(frozen=True)
class Learning:
    """What the learning curves need of one system.

    Attributes:
        name: of the system.
        colour: one of COLOURS.
        history: a row an epoch: epoch (from 1), phase, loss, auc, val_loss, val_auc.
        kept: the epoch of each phase whose weights were kept.
    """

    name: str
    colour: str
    history: pd.DataFrame
    kept: Sequence[int]


@dataclass(frozen=True)
class Tested:
    """What the pictures of the test set need of one system.

    Attributes:
        name: of the system.
        colour: one of COLOURS.
        metrics: ``test`` of metrics.json: auc, auc_low, auc_high (0 to 1 or None), tp, tn, fp, fn.
        perturbed: ``perturbed`` of it, the same on the perturbed test set.
        roc: fpr and tpr, 0 to 1; no rows where a class is missing.
        precision_recall: recall and precision, 0 to 1.
    """

    name: str
    colour: str
    metrics: Mapping[str, Any]
    perturbed: Mapping[str, Any]
    roc: pd.DataFrame
    precision_recall: pd.DataFrame


def curves(systems: Sequence[Learning]) -> Figure:
    """Draw loss and AUC by epoch, a row a system: training, validation, phases, what was kept.

    The AUC axis is the same in all rows; the loss axes are not, since a loss with class weights or
    another batch size is another quantity.
    """
    with style.style():
        layout = ConstrainedLayoutEngine(hspace=0.06, wspace=0.04)
        figure = Figure(figsize=(10, 2.5 * len(systems)), layout=layout)
        rows = figure.subplots(len(systems), 2, squeeze=False)
        aucs = np.concatenate([s.history[["auc", "val_auc"]].to_numpy(float) for s in systems])
        for system, (left, right) in zip(systems, rows, strict=True):
            _curve(left, system, "loss")
            _curve(right, system, "auc")
            above = 16 if system.history["phase"].nunique() > 1 else 6  # room for phases' names
            left.set_title(f"{system.name}: loss", pad=above)
            right.set_title(f"{system.name}: AUC", pad=above)
            right.set_ylim(*_span(aucs))
        for axes in rows[-1]:
            axes.set_xlabel("epoch")
        rows[0][0].legend(loc="best")
        return figure


def intervals(systems: Sequence[Tested], published: Mapping[str, float]) -> Figure:
    """Draw each system's AUC, on the test set and perturbed, with its 95 % interval.

    Args:
        systems: from the top to the bottom.
        published: the AUC that is published for a system, 0 to 1, where there is one.
    """
    with style.style():
        figure = Figure(figsize=(10, 0.95 + 0.5 * len(systems)), layout="constrained")
        axes = figure.subplots()
        places = {system.name: -place for place, system in enumerate(systems)}
        for system in systems:
            _interval(axes, system, places[system.name])
        for label, fill in {"test set": MUTED, "test set, perturbed": PAPER}.items():
            axes.plot([], [], "o", color=MUTED, markerfacecolor=fill, label=label)
        known = {name: auc for name, auc in published.items() if name in places}
        if known:
            axes.plot(
                list(known.values()), [places[name] + _ABOVE for name in known], "D", markersize=6,
                color=MUTED, markerfacecolor="none", label="published, on its own split",
            )  # fmt: skip
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0, handletextpad=0.2
        )
        values = [f[k] for s in systems for f in (s.metrics, s.perturbed) for k in _AUCS]
        span = _span(np.array([*values, *known.values()], dtype=float))
        axes.set_xlim(*span)
        if span[0] < 0.5:
            axes.axvline(0.5, color=MUTED, linewidth=1, linestyle="--")
            axes.annotate(
                "guessing", (0.5, 0), (4, 3), xycoords=("data", "axes fraction"),
                textcoords="offset points", color=MUTED, fontsize=8.5,
            )  # fmt: skip
        axes.set_yticks(list(places.values()), list(places))
        axes.set_ylim(min(places.values()) - 0.6, 0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("AUC, 95 % interval (patients resampled)")
        return figure


def roc(systems: Sequence[Tested]) -> Figure:
    """Draw the ROC curves of the test set, AUC in the legend, a dot at the threshold in use.

    Good curves crowd into a corner: that corner is shown again, four times as large.
    """
    with style.style():
        figure, axes = _unit_square()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
        _roc(axes, systems)
        axes.set(title="ROC, test set", xlabel="1 - specificity", ylabel="recall (sensitivity)")
        axes.legend(loc="lower right", frameon=True, facecolor=PAPER, edgecolor="none")
        if all((system.metrics["auc"] or 0) > CORNER for system in systems):  # it hides no curve
            low = max(0.32, 0.12 + 0.048 * len(systems))  # above the legend
            near = axes.inset_axes((0.37, low, 0.6, 0.87 - low), zorder=3)
            _roc(near, systems)
            near.set(xlim=(-0.004, 0.25), ylim=(0.75, 1.004))
            near.set_title("top left corner", fontsize=8.5)
            near.tick_params(labelsize=8)
            near.locator_params(nbins=5)
        return figure


def precision_recall(systems: Sequence[Tested]) -> Figure:
    """Draw the precision-recall curves of the test set, a dot at the threshold in use.

    The dashed line is the share of PNEUMONIA: the precision of guessing.
    """
    with style.style():
        figure, axes = _unit_square()
        for system in systems:
            curve, counts = system.precision_recall, system.metrics
            axes.plot(curve["recall"], curve["precision"], color=system.colour, label=system.name)
            _dot(
                axes, system.colour,
                _part(counts["tp"], counts["fn"]), _part(counts["tp"], counts["fp"]),
            )  # fmt: skip
            share = _part(counts["tp"] + counts["fn"], counts["tn"] + counts["fp"])
            axes.axhline(share, color=MUTED, linewidth=1, linestyle="--")
        axes.set(title="Precision and recall, test set", xlabel="recall", ylabel="precision")
        axes.legend(loc="lower left")
        return figure


def confusion(systems: Sequence[Tested]) -> Figure:
    """Draw the confusion matrix of each system: counts, and their parts of the row."""
    columns = min(3, len(systems))
    rows = -(-len(systems) // columns)
    with style.style():
        figure = Figure(figsize=(3.3 * columns, 2.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flat
        for axes, system in itertools.zip_longest(panels, systems):
            if system is None:
                axes.set_axis_off()
            else:
                _matrix(axes, system)
        return figure


def films(clean: np.ndarray, perturbed: np.ndarray) -> Figure:
    """Show films above what the perturbation makes of them.

    Args:
        clean: uint8 [n, height, width].
        perturbed: the same films, uint8 [n, height, width].
    """
    with style.style():
        # On dark paper, as films are read; a page shows the PNG on light and on dark paper alike.
        figure = Figure((1.6 * len(clean), 3.5), layout="constrained", facecolor=DARK[PAPER])
        rows = figure.subplots(2, len(clean), squeeze=False)
        for row, shown in zip(rows, (clean, perturbed), strict=True):
            for axes, film in zip(row, shown, strict=True):
                axes.imshow(film, cmap="gray", vmin=0, vmax=255)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
        rows[0][0].set_title("clean", color=DARK[INK])
        rows[1][0].set_title("perturbed", color=DARK[INK])
        return figure


def of_system(name: str, metrics: Mapping[str, Any], history: pd.DataFrame, folder: Path) -> None:
    """Write one system's pictures into its evaluation's folder, drawn from the CSV files there.

    Args:
        name: of the system.
        metrics: what metrics.json says.
        history: what the model's history.csv says.
        folder: has roc.csv and precision_recall.csv; gets training_curves.png, roc.png,
            precision_recall.png and confusion.png.
    """
    curve, tradeoff = (pd.read_csv(folder / f"{n}.csv") for n in ("roc", "precision_recall"))
    tested = [Tested(name, COLOURS[0], metrics["test"], metrics["perturbed"], curve, tradeoff)]
    style.save(curves([Learning(name, COLOURS[0], history, [])]), folder / "training_curves.png")
    style.save(roc(tested), folder / "roc.png")
    style.save(precision_recall(tested), folder / "precision_recall.png")
    style.save(confusion(tested), folder / "confusion.png")


def _curve(axes: Axes, system: Learning, metric: str) -> None:
    """Draw one metric of one system, the borders of its phases, and the epochs that were kept."""
    history = system.history
    epochs = history["epoch"]
    # A line at an AUC of 1 is drawn whole; what is not clipped would push the panels apart.
    looks: dict[str, Any] = {"color": system.colour, "clip_on": False, "in_layout": False}
    if len(epochs) < 3:
        looks |= {"marker": "o", "markersize": 3}
    axes.plot(
        epochs, history[metric], alpha=0.6, linewidth=1.2, linestyle="--", label="training", **looks
    )  # fmt: skip
    axes.plot(epochs, history[f"val_{metric}"], label="validation", **looks)
    kept = history[epochs.isin(system.kept)]
    if len(kept):
        looks |= {"marker": "o", "markersize": 7, "markerfacecolor": PAPER, "zorder": 3}
        axes.plot(
            kept["epoch"], kept[f"val_{metric}"], markeredgewidth=1.6, linestyle="none",
            label="kept", **looks,
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


def _roc(axes: Axes, systems: Sequence[Tested]) -> None:
    for system in systems:
        counts, label = system.metrics, f"{system.name}: {_auc_text(system.metrics)}"
        axes.plot(system.roc["fpr"], system.roc["tpr"], color=system.colour, label=label)
        _dot(
            axes, system.colour,
            _part(counts["fp"], counts["tn"]), _part(counts["tp"], counts["fn"]),
        )  # fmt: skip


def _interval(axes: Axes, system: Tested, place: float) -> None:
    """Draw one system's AUCs and their intervals: on the test set above, perturbed below."""
    if system.metrics["auc"] is None:
        axes.annotate("one class only: no AUC", (0.5, place), color=MUTED, va="center", ha="center")
        return
    looks: dict[str, Any] = {"color": system.colour, "clip_on": False}
    for figures, height, fill, width in (
        (system.metrics, place + _ABOVE, system.colour, 3.0),
        (system.perturbed, place - _ABOVE, PAPER, 1.5),
    ):
        auc, low, high = (figures[key] for key in _AUCS)
        if low is not None:
            axes.plot([low, high], [height, height], linewidth=width, alpha=0.45, **looks)
        axes.plot([auc], [height], "o", markersize=7, markerfacecolor=fill, **looks)


def _unit_square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal")
    return figure, axes


def _dot(axes: Axes, colour: str, x: float, y: float) -> None:
    axes.plot([x], [y], "o", markersize=6.5, color=colour, markeredgecolor=PAPER)


def _matrix(axes: Axes, system: Tested) -> None:
    """Draw one confusion matrix: rows the truth, columns the answer, the colour a row's part."""
    counts = system.metrics
    cells = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])
    for (row, column), count in np.ndenumerate(cells):
        part = count / cells[row].sum() if cells[row].sum() else 0.0
        share = f"{100 * part:.1f} %" if cells[row].sum() else "no images"
        axes.add_patch(
            Rectangle(
                (column - 0.48, row - 0.47), 0.96, 0.94,
                color=system.colour, alpha=0.05 + 0.4 * part, linewidth=0,
            )
        )  # fmt: skip
        axes.text(column, row - 0.08, f"{count:,}", ha="center", va="center", fontsize=15)
        axes.text(column, row + 0.2, share, ha="center", va="center", fontsize=8.5)
    axes.set(title=system.name, xlim=(-0.5, 1.5), ylim=(1.5, -0.5), xlabel="answer")
    axes.set_ylabel("truth")
    axes.set_xticks([0, 1], params.CLASSES)
    axes.set_yticks([0, 1], params.CLASSES, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _span(values: np.ndarray) -> tuple[float, float]:
    """Return where an axis of AUCs begins and ends: a little below the least, and at 1."""
    known = values[np.isfinite(values)]
    low = float(known.min()) if len(known) else 0.0
    return low - max(0.05 * (1 - low), 0.002), 1.0


def _part(counted: int, rest: int) -> float:
    """Return counted / (counted + rest), 0 to 1; NaN, which is not drawn, of nothing."""
    return counted / (counted + rest) if counted + rest else float("nan")


def _auc_text(metrics: Mapping[str, Any]) -> str:
    if metrics["auc"] is None:
        return "no AUC, one class"
    if metrics["auc_low"] is None:
        return f"AUC {metrics['auc']:.3f}"
    return f"AUC {metrics['auc']:.3f} ({metrics['auc_low']:.3f} to {metrics['auc_high']:.3f})"
