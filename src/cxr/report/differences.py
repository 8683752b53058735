"""One AUC less another: a system's less its control's, a phase's less that of the one before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cxr.errors import InputError
from cxr.evaluation import intervals, metrics
from cxr.report.results import Context, Result, is_pretrained, published_of


@dataclass(frozen=True)
class Difference:
    """One AUC less another, of the same films.

    Attributes:
        value: -1 to 1; None where a class is missing.
        interval: 95 % interval over the same resampled patients; None where a class is missing.
    """

    value: float | None
    interval: tuple[float, float] | None

    @property
    def outcome(self) -> str:
        """Return ``better``, ``worse``, ``open`` (0 lies in the interval) or ``unknown``."""
        if self.interval is None:
            return "unknown"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "open"


@dataclass(frozen=True)
class Pair:
    """A pretrained system against one of the same backbone that began with random weights.

    Attributes:
        transfer: the pretrained system.
        control: the other.
        difference: AUC(transfer) - AUC(control) on the test set.
    """

    transfer: Result
    control: Result
    difference: Difference


@dataclass(frozen=True)
class PhaseResult:
    """What one phase of a system was, and how the network did when it had ended.

    Attributes:
        system: name of the system.
        name: of the phase.
        asked: its settings, as in params.yaml.
        done: what train.json says: parameters, epochs, kept_epoch and so on.
        test: metrics on the test set, with auc_low and auc_high.
        perturbed: the same on the perturbed test set.
        gain: AUC on the test set less that after the phase before; None for the first phase.
        perturbed_gain: the same on the perturbed test set.
        published: what is published of the network after this phase: ``test``, ``perturbed``.
    """

    system: str
    name: str
    asked: Mapping[str, Any]
    done: Mapping[str, Any]
    test: Mapping[str, Any]
    perturbed: Mapping[str, Any]
    gain: Difference | None
    perturbed_gain: Difference | None
    published: Mapping[str, Any]


Phases = Mapping[str, Sequence[PhaseResult]]  # of each system, in their order


def phase_results(results: Sequence[Result], shared: Context) -> dict[str, list[PhaseResult]]:
    """Tell for each system what each of its phases was, reached and gained.

    Raises:
        InputError: a phase was tested on other images than the manifest's.
    """
    return {result.name: _phase_results(result, shared) for result in results}


def pairs(results: Sequence[Result], shared: Context) -> list[Pair]:
    """Compare each pretrained system with each from random weights that has the same backbone.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    tests = {
        r.name: _test(r.name, r.predictions[r.predictions["split"] == "test"], shared.manifest)
        for r in results
    }
    found = []
    for transfer in filter(is_pretrained, results):
        for control in results:
            same = control.weights["backbone"] == transfer.weights["backbone"]
            if same and not is_pretrained(control):
                one, other = tests[transfer.name], tests[control.name]
                difference = _difference(one, other, "probability", shared.seed)
                found.append(Pair(transfer, control, difference))
    return found


def _phase_results(result: Result, shared: Context) -> list[PhaseResult]:
    """Tell of each phase of a system, and compare it with the one before."""
    everything = result.phase_predictions
    found: list[PhaseResult] = []
    before = None
    for name, done in result.phases.items():
        rows = _test(result.name, everything[everything["phase"] == name], shared.manifest)
        gains = {
            column: None if before is None else _difference(rows, before, column, shared.seed)
            for column in ("probability", "perturbed_probability")
        }
        found.append(
            PhaseResult(
                system=result.name,
                name=name,
                asked=result.record["system"]["phases"][name],
                done=done,
                test=result.metrics["phases"][name]["test"],
                perturbed=result.metrics["phases"][name]["perturbed"],
                gain=gains["probability"],
                perturbed_gain=gains["perturbed_probability"],
                published=published_of(result, name),
            )
        )
        before = rows
    return found


def _difference(one: pd.DataFrame, other: pd.DataFrame, column: str, seed: int) -> Difference:
    """Compare the AUCs of a column of two tables of :func:`_test`."""
    labels, patients = one["label"].to_numpy(), one["patient"].to_numpy()
    ours, theirs = one[column].to_numpy(), other[column].to_numpy()
    first, second = metrics.auc(labels, ours), metrics.auc(labels, theirs)
    value = None if first is None or second is None else first - second
    interval = intervals.auc_difference_interval(labels, ours, theirs, patients, seed)
    return Difference(value, interval)


def _test(system: str, predictions: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return a system's predictions of the test set with their patients, ordered by id."""
    rows = predictions.sort_values("id")
    patients = manifest[manifest["split"] == "test"].set_index("id")["patient"].sort_index()
    if list(rows["id"]) != list(patients.index):
        message = (
            f"{system} was tested on {len(rows)} images that are not the {len(patients)} test "
            "images of the manifest: bring both up to date with `dvc repro`"
        )
        raise InputError(message)
    return rows.assign(patient=patients.to_numpy())
