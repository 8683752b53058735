"""Published figures beside ours."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxr.report.differences import PhaseResult, Phases
from cxr.report.results import Result

FIGURES = {"auc": "AUC", "accuracy": "Accuracy", "precision": "PPV", "recall": "Sensitivity",
           "specificity": "Specificity", "f1": "F1"}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What was published about a system or about one of its phases.

    Attributes:
        system: its name, with the phase if it is not the last.
        title: the publication, with a note.
        split: what it was tested on.
        figures: by name, the published one (None if it is not known) and ours.
    """

    system: str
    title: str
    split: str
    figures: Mapping[str, tuple[float | None, float | None]]


def rows(results: Sequence[Result], phases: Phases) -> list[Row]:
    """Return the published figures of all systems, and of those figures the ones that are known."""
    found = [row for result in results for row in _rows(result, phases[result.name])]
    known = [
        name
        for name in (found[0].figures if found else ())
        if any(_known(row, name) for row in found)
    ]
    return [
        Row(row.system, row.title, row.split, {name: row.figures[name] for name in known})
        for row in found
    ]


def _rows(result: Result, phases: Sequence[PhaseResult]) -> Iterator[Row]:
    entry = result.published
    note = entry.get("note")
    title = entry.get("title", "") + (f"; {note}" if note else "")
    for phase in phases:
        test, perturbed = phase.published["test"], phase.published["perturbed"]
        if not (test or perturbed):
            continue
        figures = {label: (test.get(key), _ours(phase.test, key)) for key, label in FIGURES.items()}
        theirs = perturbed.get("accuracy")
        figures["Accuracy, perturbed"] = (theirs, phase.perturbed.get("accuracy"))
        name = result.name if phase is phases[-1] else f"{result.name}, after {phase.name}"
        yield Row(name, title, entry.get("split", "not stated"), figures)


def _ours(found: Mapping[str, Any], key: str) -> float | None:
    """Return our figure; F1 is computed here, because nothing but published figures needs it."""
    if key != "f1":
        return found.get(key)
    whole = 2 * found["tp"] + found["fp"] + found["fn"]
    return 2 * found["tp"] / whole if whole else None


def _known(row: Row, name: str) -> bool:
    return row.figures[name][0] is not None
