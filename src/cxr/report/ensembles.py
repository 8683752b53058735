"""The ensembles: means of several systems, each beside its best member."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxr.report import differences, wording
from cxr.report.columns import Cell, figure
from cxr.report.results import Context, Ensemble, Result


@dataclass(frozen=True)
class Row:
    """One ensemble.

    Attributes:
        name: of the ensemble.
        members: names of its systems.
        cells: its figures, by the header of their column.
    """

    name: str
    members: Sequence[str]
    cells: Mapping[str, Cell]


def rows(results: Sequence[Result], shared: Context) -> list[Row]:
    """Return the rows of the table; none if no ensemble has been evaluated.

    Raises:
        InputError: an ensemble was tested on other images than the manifest's.
    """
    return [_row(ensemble, results, shared) for ensemble in shared.ensembles]


def _row(ensemble: Ensemble, results: Sequence[Result], shared: Context) -> Row:
    found = ensemble.metrics
    cells = {
        "AUC": figure(found["test"], "auc"),
        "AUC minus best member": _against(ensemble, best(ensemble, results), shared),
        "Accuracy": figure(found["test"], "accuracy"),
        "AUC, perturbed": figure(found["perturbed"], "auc"),
        "AUC under shift": figure({"auc": found["shift"]["curve"]["shifted_auc"]}, "auc"),
    }
    return Row(ensemble.name, ensemble.members, cells)


def best(ensemble: Ensemble, results: Sequence[Result]) -> Result | None:
    """Return the member with the highest AUC on validation, the first of those that tie.

    Not on the test set: the member that happens to be best there would be hard to beat on it.
    None if no member is among the results or has an AUC.
    """
    members = [result for result in results if result.name in ensemble.members]
    rated = [result for result in members if result.metrics["val"]["auc"] is not None]
    return max(rated, key=lambda result: result.metrics["val"]["auc"], default=None)


def _against(ensemble: Ensemble, member: Result | None, shared: Context) -> Cell:
    """Return the difference of the test AUCs, with its interval and the member's name."""
    if member is None:
        return Cell(wording.DASH)
    tested = differences.tests([ensemble, member], shared)
    pair = tested[ensemble.name], tested[member.name]
    found = differences.difference(*pair, "probability", shared.seed)
    notes = [f"{member.name}, AUC {wording.number(member.test['auc'])}"]
    if found.interval is not None:
        notes.insert(0, " to ".join(map(wording.signed, found.interval)))
    return Cell(wording.signed(found.value), notes, found.value)
