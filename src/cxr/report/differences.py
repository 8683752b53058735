"""Differences between AUCs on the test set: of two systems, or of two phases of a system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cxr.errors import InputError
from cxr.evaluation import intervals, metrics
from cxr.report import controls
from cxr.report.results import Context, Ensemble, Result, published_of


@dataclass(frozen=True)
class Difference:
    """One AUC minus another, on the same images.

    Attributes:
        value: -1 to 1; None if a class is missing.
        interval: 95 % interval over the same resampled patients; None if no resample has both
            classes.
    """

    value: float | None
    interval: tuple[float, float] | None

    @property
    def outcome(self) -> str:
        """``better``, ``worse``, ``open`` (the interval includes 0) or ``unknown``."""
        if self.interval is None:
            return "unknown"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "open"


@dataclass(frozen=True)
class Pair:
    """A pretrained system and a randomly initialised one with the same backbone.

    Attributes:
        transfer: the pretrained system.
        control: the randomly initialised one.
        difference: test AUC of ``transfer`` minus that of ``control``.
        allowed: differences in settings that a controlled pair may have.
        confounders: the other differences in settings; see :mod:`cxr.report.controls`.
    """

    transfer: Result
    control: Result
    difference: Difference
    allowed: Sequence[str]
    confounders: Sequence[str]

    @property
    def controlled(self) -> bool:
        """Whether the difference shows the effect of the initial weights."""
        return not self.confounders


@dataclass(frozen=True)
class Yardstick:
    """The linear probe that every trained network has to beat.

    Attributes:
        probe: the first system that is a linear probe.
        differences: test AUC of each other system minus that of the probe, by its name.
    """

    probe: Result
    differences: Mapping[str, Difference]


@dataclass(frozen=True)
class PhaseResult:
    """One phase of a system, and the metrics of the network after it.

    Attributes:
        system: name of the system.
        name: of the phase.
        settings: of the phase, as in params.yaml.
        record: of the phase, in train.json: parameters, epochs, best_epoch and more.
        test: metrics on the test set, with auc_low and auc_high.
        perturbed: the same on the perturbed test set.
        gain: test AUC minus that after the phase before; None for the first phase.
        perturbed_gain: the same on the perturbed test set.
        published: figures published for this phase: ``test``, ``perturbed``.
    """

    system: str
    name: str
    settings: Mapping[str, Any]
    record: Mapping[str, Any]
    test: Mapping[str, Any]
    perturbed: Mapping[str, Any]
    gain: Difference | None
    perturbed_gain: Difference | None
    published: Mapping[str, Any]


Phases = Mapping[str, Sequence[PhaseResult]]  # the phases of each system, in order


def phase_results(results: Sequence[Result], shared: Context) -> dict[str, list[PhaseResult]]:
    """Return the phases of each system.

    Raises:
        InputError: a phase was tested on other images than the manifest's.
    """
    return {result.name: _phase_results(result, shared) for result in results}


def pairs(results: Sequence[Result], shared: Context) -> list[Pair]:
    """Pair each pretrained system with each randomly initialised one that has its backbone.

    Linear probes are left out, because :func:`yardstick` compares them with all systems.

    Returns:
        The pairs, the controlled ones first.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    results = [result for result in results if not result.is_probe]
    tested = tests(results, shared)
    compared = [
        Pair(
            transfer,
            control,
            difference(tested[transfer.name], tested[control.name], "probability", shared.seed),
            *controls.differences(transfer.record["system"], control.record["system"]),
        )
        for transfer in results
        for control in results
        if transfer.pretrained
        and not control.pretrained
        and control.weights["backbone"] == transfer.weights["backbone"]
    ]
    return sorted(compared, key=lambda pair: not pair.controlled)


def yardstick(results: Sequence[Result], shared: Context) -> Yardstick | None:
    """Compare each system with the first linear probe; None if there is no probe.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    probe = next((result for result in results if result.is_probe), None)
    if probe is None:
        return None
    tested = tests(results, shared)
    differences = {
        name: difference(test, tested[probe.name], "probability", shared.seed)
        for name, test in tested.items()
        if name != probe.name
    }
    return Yardstick(probe, differences)


def tests(results: Sequence[Result | Ensemble], shared: Context) -> dict[str, pd.DataFrame]:
    """Return each system's predictions of the test set with their patients, ordered by id.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    return {
        r.name: _test(r.name, r.predictions[r.predictions["split"] == "test"], shared.manifest)
        for r in results
    }


def difference(one: pd.DataFrame, other: pd.DataFrame, column: str, seed: int) -> Difference:
    """Return the difference between the AUCs of a column in two tables from :func:`tests`."""
    labels, patients = one["label"].to_numpy(), one["patient"].to_numpy()
    ours, theirs = one[column].to_numpy(), other[column].to_numpy()
    first, second = metrics.auc(labels, ours), metrics.auc(labels, theirs)
    value = None if first is None or second is None else first - second
    interval = intervals.auc_difference_interval(labels, ours, theirs, patients, seed)
    return Difference(value, interval)


def _phase_results(result: Result, shared: Context) -> list[PhaseResult]:
    """Return the phases of one system, each compared with the one before."""
    predictions = result.phase_predictions
    phases: list[PhaseResult] = []
    before = None
    for name, record in result.phases.items():
        rows = _test(result.name, predictions[predictions["phase"] == name], shared.manifest)
        gains = {
            column: None if before is None else difference(rows, before, column, shared.seed)
            for column in ("probability", "perturbed_probability")
        }
        phases.append(
            PhaseResult(
                system=result.name,
                name=name,
                settings=result.record["system"]["phases"][name],
                record=record,
                test=result.metrics["phases"][name]["test"],
                perturbed=result.metrics["phases"][name]["perturbed"],
                gain=gains["probability"],
                perturbed_gain=gains["perturbed_probability"],
                published=published_of(result, name),
            )
        )
        before = rows
    return phases


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
