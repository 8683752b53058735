"""The columns of the table of all systems: those that the files have figures for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxr.report import wording
from cxr.report.answer import AGAINST_PROBE
from cxr.report.differences import Difference, Yardstick
from cxr.report.results import Result

# Of metrics.json's `test`: the column's name and its meaning, in the order of the table.
METRICS = {
    "recall": ("Sensitivity", "share of PNEUMONIA images that are found"),
    "specificity": ("Specificity", "share of NORMAL images that are not called PNEUMONIA"),
    "ppv": ("PPV", "share of right calls among those of PNEUMONIA, at the prevalence"),
    "npv": ("NPV", "share of right calls among those of NORMAL, at the prevalence"),
    "balanced_accuracy": ("Balanced accuracy", "mean of sensitivity and specificity"),
    "accuracy": ("Accuracy", "share of right calls"),
    "average_precision": ("Average precision", "area under the precision-recall curve"),
    "mcc": ("MCC", "Matthews's correlation, -1 to 1"),
    "brier": ("Brier score", "mean squared error of the probabilities; lower is better"),
    "net_benefit": (
        "Net benefit",
        "true positives minus weighted false positives, at the threshold",
    ),
}
_AT_THRESHOLD = ("recall", "specificity", "ppv", "npv", "balanced_accuracy", "accuracy", "mcc")
_STANDS_IN = {"ppv": "precision"}  # at the prevalence of the test set both are the same


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: the figure.
        notes: small lines below it.
        order: the value to sort by; None, which comes last, if there is none.
    """

    text: str
    notes: Sequence[str] = ()
    order: float | None = None


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        label: its header.
        title: what it means.
        cells: by system.
    """

    label: str
    title: str
    cells: Mapping[str, Cell]


def columns(results: Sequence[Result], yardstick: Yardstick | None) -> list[Column]:
    """Return the columns after that of the system's name."""
    return [column for column in _every(results, yardstick) if _known(column)]


def _every(results: Sequence[Result], yardstick: Yardstick | None) -> Iterator[Column]:
    def column(label: str, title: str, cell: Any) -> Column:
        return Column(label, title, {result.name: cell(result) for result in results})

    yield column("AUC", "area under the ROC curve", lambda r: figure(r.test, "auc"))
    if yardstick is not None:
        differences, name = yardstick.differences, yardstick.probe.name
        yield column(
            f"AUC minus {name}", "against the linear probe, on the same resampled patients",
            lambda r: _difference(differences.get(r.name)),
        )  # fmt: skip
    yield column(
        "AUC, perturbed", "on the perturbed test set", lambda r: figure(r.perturbed, "auc")
    )
    if any(result.metrics["threshold"] != results[0].metrics["threshold"] for result in results):
        yield column("Threshold", "probability at or above which PNEUMONIA is called", _threshold)
    for key, (label, title) in METRICS.items():
        yield column(label, title, lambda r, key=key: _at_threshold(r, key))
    yield column("Training", "time; number of epochs x median time of one", _training)


def figure(found: Mapping[str, Any], key: str) -> Cell:
    """Return a figure with its interval."""
    value, low, high = (found.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    notes = [] if wording.unknown(low) else [wording.interval(low, high)]
    return Cell(wording.number(value), notes, None if wording.unknown(value) else value)


def _at_threshold(result: Result, key: str) -> Cell:
    """Return a figure, and below it the same at 0.5 if the threshold is another."""
    key = key if key in result.test else _STANDS_IN.get(key, key)
    cell, half = figure(result.test, key), result.metrics.get("test_at_half", {}).get(key)
    if half is None or key not in _AT_THRESHOLD or result.metrics["threshold"] == 0.5:
        return cell
    return Cell(cell.text, [*cell.notes, f"at 0.5: {wording.number(half)}"], cell.order)


def _difference(found: Difference | None) -> Cell:
    if found is None:
        return Cell("", ["the yardstick"])
    notes = [AGAINST_PROBE[found.outcome]]
    if found.interval is not None:
        notes.insert(0, " to ".join(map(wording.signed, found.interval)))
    return Cell(wording.signed(found.value), notes, found.value)


def _threshold(result: Result) -> Cell:
    value = result.metrics["threshold"]
    return Cell(f"{value:.3g}", order=value)


def _training(result: Result) -> Cell:
    epochs = result.record["epochs"]
    seconds = f"{epochs:,} x {result.seconds_per_epoch:,.1f} s"
    notes = [] if result.is_probe else [seconds]
    return Cell(wording.duration(result), notes, result.training["seconds"])


def _known(column: Column) -> bool:
    """Return whether any system has a figure."""
    return any(cell.order is not None for cell in column.cells.values())
