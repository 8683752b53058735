"""The figures of the test set for files: ROC, precision-recall, confusion and samples.

scikit-learn's displays draw ROC, precision-recall and confusion. It has no display for the dots at
the threshold, so they are drawn here.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay

from cxr import files
from cxr.evaluation import metrics
from cxr.labels import CLASSES
from cxr.report import learning, style
from cxr.report.style import COLOURS, DARK, INK, MUTED, PAPER

_CHANCE: Any = {"color": MUTED, "linewidth": 1, "linestyle": "--", "label": None}


@dataclass(frozen=True)
class Tested:
    """The metrics and curves of one system on the test set.

    Attributes:
        name: of the system.
        colour: one of COLOURS.
        metrics: ``test`` of metrics.json: auc, auc_low, auc_high (0 to 1 or None), tp, tn, fp, fn.
        perturbed: ``perturbed`` of metrics.json.
        roc: fpr and tpr, 0 to 1; no rows if a class is missing.
        precision_recall: recall and precision, 0 to 1.
    """

    name: str
    colour: str
    metrics: Mapping[str, Any]
    perturbed: Mapping[str, Any]
    roc: pd.DataFrame
    precision_recall: pd.DataFrame

    def rate(self, name: str) -> float:
        """Return a rate at the threshold, 0 to 1; NaN, which is not drawn, if it is undefined."""
        counts = {key: self.metrics[key] for key in ("tp", "tn", "fp", "fn")}
        value = metrics.rates(**counts)[name]
        return float("nan") if value is None else value


def roc(systems: Sequence[Tested]) -> Figure:
    """Draw the ROC curves of the test set, with a dot at the threshold."""
    with style.style():
        figure = Figure(figsize=(5, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], **_CHANCE)
        for system in systems:
            fpr, tpr = (system.roc[column].to_numpy() for column in ("fpr", "tpr"))
            label = f"{system.name}: {_auc_text(system.metrics)}"
            RocCurveDisplay(fpr=fpr, tpr=tpr).plot(
                axes, curve_kwargs={"color": system.colour, "label": label}
            )
            _dot(axes, system, 1 - system.rate("specificity"), system.rate("recall"))
        axes.set(title="ROC, test set", xlabel="1 - specificity", ylabel="recall (sensitivity)")
        axes.legend(loc="lower right", frameon=True, facecolor=PAPER, edgecolor="none")
        return figure


def precision_recall(systems: Sequence[Tested]) -> Figure:
    """Draw the precision-recall curves of the test set, with a dot at the threshold.

    The dashed line is the share of PNEUMONIA, which is the precision at chance level.
    """
    with style.style():
        figure = Figure(figsize=(5, 4.6), layout="constrained")
        axes = figure.subplots()
        for system in systems:
            curve, counts = system.precision_recall, system.metrics
            PrecisionRecallDisplay(curve["precision"].to_numpy(), curve["recall"].to_numpy()).plot(
                axes, name=system.name, curve_kwargs={"color": system.colour}
            )
            _dot(axes, system, system.rate("recall"), system.rate("precision"))
            positive = counts["tp"] + counts["fn"]
            all_images = positive + counts["tn"] + counts["fp"]
            axes.axhline(positive / all_images, **_CHANCE)
        axes.set(title="Precision and recall, test set", xlabel="recall", ylabel="precision")
        axes.legend(loc="lower left")
        return figure


def confusion(systems: Sequence[Tested]) -> Figure:
    """Draw the confusion matrix of each system: counts, and their percentage of the row."""
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


def samples(clean: np.ndarray, perturbed: np.ndarray) -> Figure:
    """Draw images in one row, and their perturbed versions below.

    Args:
        clean: uint8 [n, height, width].
        perturbed: uint8 [n, height, width].
    """
    with style.style():
        # Dark, as radiologists read X-rays; the page shows this PNG in light and in dark mode.
        figure = Figure((1.6 * len(clean), 3.5), layout="constrained", facecolor=DARK[PAPER])
        rows = figure.subplots(2, len(clean), squeeze=False)
        for row, images in zip(rows, (clean, perturbed), strict=True):
            for axes, image in zip(row, images, strict=True):
                axes.imshow(image, cmap="gray", vmin=0, vmax=255)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
        rows[0][0].set_title("clean", color=DARK[INK])
        rows[1][0].set_title("perturbed", color=DARK[INK])
        return figure


def write(name: str, result: Mapping[str, Any], history: pd.DataFrame, folder: Path) -> None:
    """Write the figures of one system into the folder of its evaluation.

    Args:
        name: of the system.
        result: the content of metrics.json.
        history: history.csv of the model.
        folder: contains roc.csv and precision_recall.csv; gets training_curves.png, roc.png,
            precision_recall.png and confusion.png.
    """
    points = (files.read_csv(folder / f"{curve}.csv") for curve in ("roc", "precision_recall"))
    tested = [Tested(name, COLOURS[0], result["test"], result["perturbed"], *points)]
    style.save(
        learning.curves([learning.Learning(name, COLOURS[0], history, [])]),
        folder / "training_curves.png",
    )
    style.save(roc(tested), folder / "roc.png")
    style.save(precision_recall(tested), folder / "precision_recall.png")
    style.save(confusion(tested), folder / "confusion.png")


def _dot(axes: Axes, system: Tested, x: float, y: float) -> None:
    axes.plot([x], [y], "o", markersize=6.5, color=system.colour, markeredgecolor=PAPER)


def _matrix(axes: Axes, system: Tested) -> None:
    """Draw one confusion matrix, coloured by the share of the row."""
    counts = system.metrics
    cells = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    colours = [to_rgba(system.colour, alpha) for alpha in (0.05, 0.45)]  # on any background
    display = ConfusionMatrixDisplay(shares, display_labels=CLASSES).plot(
        ax=axes, colorbar=False, text_kw={"color": INK}, im_kw={"vmin": 0, "vmax": 1},
        cmap=LinearSegmentedColormap.from_list("share", colours),
    )  # fmt: skip
    for place, text in np.ndenumerate(display.text_):
        text.set_text(f"{cells[place]:,}\n{100 * shares[place]:.1f} %")
    axes.set_title(system.name)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _auc_text(metrics: Mapping[str, Any]) -> str:
    if metrics["auc"] is None:
        return "no AUC, one class"
    if metrics["auc_low"] is None:
        return f"AUC {metrics['auc']:.3f}"
    return f"AUC {metrics['auc']:.3f} ({metrics['auc_low']:.3f} to {metrics['auc_high']:.3f})"
