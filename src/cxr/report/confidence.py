"""How far a system's probabilities can be trusted: calibration, and when it cannot tell."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cxr.report import wording
from cxr.report.columns import Cell, figure
from cxr.report.curves import METHODS
from cxr.report.results import Result

# Of `calibration` in metrics.json.
MEASURES = {
    "slope": "Calibration slope",
    "intercept": "Calibration intercept",
    "log_loss": "Log loss",
    "ece": "Calibration error (ECE)",
}
# Of `conformal`.
SETS = {
    "coverage": "Conformal coverage",
    "undecided": "Cannot tell",
    "accuracy_of_decided": "Accuracy on the rest",
}


def confidence(results: Sequence[Result]) -> dict[str, dict[str, Cell]]:
    """Return the cells by column and system; nothing for systems whose files lack the figures."""
    found = {
        label: _cells(results, "calibration", _calibration, key) for key, label in MEASURES.items()
    } | {label: _cells(results, "conformal", figure, key) for key, label in SETS.items()}
    return {label: cells for label, cells in found.items() if cells}


def _cells(
    results: Sequence[Result], part: str, cell: Callable[[Mapping[str, Any], str], Cell], key: str
) -> dict[str, Cell]:
    """Return the cells of those systems whose metrics.json has a part."""
    return {r.name: cell(r.metrics[part], key) for r in results if r.metrics.get(part)}


def _calibration(known: Mapping[str, Mapping[str, Any]], key: str) -> Cell:
    """Return a measure as predicted, and below it after each method of calibration."""
    notes = [
        f"{METHODS.get(name, name).removesuffix(' scaling')}: {wording.number(measured[key])}"
        for name, measured in known.items()
        if name != "none"
    ]
    value = known["none"][key]
    return Cell(wording.number(value), notes, value)
