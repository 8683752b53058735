"""The mean of what several systems predict, evaluated as one system is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import files
from cxr.errors import InputError
from cxr.evaluation import metrics
from cxr.evaluation.predictions import Predictions

PHASE = "mean"  # the one phase of an ensemble, which trains nothing
SHIFTED = ["set", "kind", "strength", "id", "split", "label", "patient"]


@dataclass(frozen=True)
class Member:
    """What one system predicts.

    Attributes:
        name: of the system.
        predictions: of every image, and of the test set after the last phase.
        shifted: ``shifts/<system>/predictions.csv``: the columns :data:`SHIFTED`, probability.
    """

    name: str
    predictions: Predictions
    shifted: pd.DataFrame


def paths(system: str, evaluations: Path, shifts: Path) -> list[Path]:
    """Return the files that :func:`read` reads of a system.

    Args:
        system: its name.
        evaluations: folder of the evaluations.
        shifts: folder of the predictions under shift.

    Raises:
        InputError: the system has not been evaluated.
    """
    found = [
        evaluations / system / "predictions.csv",
        evaluations / system / "phases.csv",
        shifts / system / "predictions.csv",
    ]
    for path in found:
        if not path.is_file():
            message = (
                f"{path} is missing, so {system} cannot be a member of an ensemble: evaluate it "
                f"with `dvc repro evaluate@{system}`, or take it out of ensembles in params.yaml"
            )
            raise InputError(message)
    return found


def read(system: str, evaluations: Path, shifts: Path, manifest: pd.DataFrame) -> Member:
    """Read what a system predicts.

    Args:
        system: its name.
        evaluations: folder of the evaluations.
        shifts: folder of the predictions under shift.
        manifest: id, split, label and patient of each image.

    Raises:
        InputError: the system has not been evaluated, or on other images than the manifest's, or a
            probability is NaN.
    """
    images, phases, shifted = map(files.read_csv, paths(system, evaluations, shifts))
    phases = phases[phases["phase"] == phases["phase"].iloc[-1]].reset_index(drop=True)
    test = manifest[manifest["split"] == "test"].reset_index(drop=True)
    for rows, expected, columns, name in (
        (images, manifest, ["id", "split", "label"], "predictions.csv"),
        (phases, test, ["id", "label"], "phases.csv"),
    ):
        place = (evaluations / system / name).as_posix()
        _check_rows(rows, expected, columns, place, "splits/manifest.csv")
    try:
        for rows, column in (
            (images, "probability"), (phases, "probability"), (phases, "perturbed_probability"),
            (shifted, "probability"),
        ):  # fmt: skip
            metrics.check(rows, column)
    except InputError as error:
        raise InputError(f"{system}: {error}") from error
    predictions = Predictions(
        images.assign(patient=manifest["patient"].to_numpy()),
        phases.assign(patient=test["patient"].to_numpy()),
    )
    return Member(system, predictions, shifted)


def mean(members: Sequence[Member]) -> tuple[Predictions, pd.DataFrame]:
    """Return the mean probability of each image.

    Args:
        members: from :func:`read`, at least one.

    Returns:
        As of one system: the predictions, whose one phase is :data:`PHASE`, and those under shift.
        Probabilities have 7 digits, as in the members' files.

    Raises:
        InputError: two members have other images under shift.
    """
    first, *others = members
    for other in others:
        places = (f"shifts/{member.name}/predictions.csv" for member in (other, first))
        _check_rows(other.shifted, first.shifted, SHIFTED, *places)
    images, phases = (
        [getattr(member.predictions, table) for member in members] for table in ("images", "phases")
    )
    predictions = Predictions(
        images[0].assign(probability=_mean(images, "probability")),
        phases[0].assign(
            phase=PHASE,
            probability=_mean(phases, "probability"),
            perturbed_probability=_mean(phases, "perturbed_probability"),
        ),
    )
    shifted = [member.shifted for member in members]
    return predictions, first.shifted.assign(probability=_mean(shifted, "probability"))


def _mean(tables: Sequence[pd.DataFrame], column: str) -> np.ndarray:
    """Return the mean of a column over tables with the same rows, rounded to 7 digits."""
    return np.mean([table[column].to_numpy(float) for table in tables], axis=0).round(7)


def _check_rows(
    found: pd.DataFrame, expected: pd.DataFrame, columns: list[str], place: str, other: str
) -> None:
    """Check that the rows of two files, ``place`` and ``other``, are of the same images."""
    theirs, ours = (table[columns].reset_index(drop=True) for table in (found, expected))
    if len(theirs) != len(ours):
        difference = f"{len(theirs):,} rows against {len(ours):,}"
    else:
        differing = np.flatnonzero((theirs != ours).any(axis=1))
        if not len(differing):
            return
        row = differing[0]
        one, another = (" ".join(map(str, table.iloc[row])) for table in (theirs, ours))
        difference = f"row {row + 1:,} is {one} against {another}"
    message = (
        f"{place} and {other} are not of the same images ({difference}): bring every member of the "
        "ensemble up to date with `dvc repro evaluate@<system>`"
    )
    raise InputError(message)
