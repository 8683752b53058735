"""Read ``results/<name>/``, which ``tools.results.record`` writes.

A record is one system, or one ensemble, of one DVC experiment: its figures, the predictions of the
test set, and what is needed to run it again. It holds no X-rays, no weights, and no path of the
machine that ran it.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxr import files
from cxr.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "results"

SWEEP = "freeze-"  # how the names of the sweep over freeze_blocks begin

# Keys of params.yaml with a default where the record's settings do not have them.
PROTOCOL, SEED = "split.protocol", "seed"


@dataclass(frozen=True)
class Record:
    """A recorded run.

    Attributes:
        name: of its folder, and of the DVC experiment.
        about: record.json: system, members, commit, settings, archive, weights, machine, versions,
            seconds.
        metrics: metrics.json of the evaluation.
        train: train.json of the training: settings of the system, parameters and epochs of phases;
            empty for an ensemble.
        history: one row per epoch; no rows for a linear probe or an ensemble.
        predictions: id, label, patient, probability and perturbed_probability of the test images.
        shift: set, kind, strength and figures of the shifted images.
    """

    name: str
    about: Mapping[str, Any]
    metrics: Mapping[str, Any]
    train: Mapping[str, Any]
    history: pd.DataFrame
    predictions: pd.DataFrame
    shift: pd.DataFrame

    @property
    def system(self) -> str:
        """Its name in params.yaml, of a system or an ensemble."""
        return str(self.about["system"])

    @property
    def members(self) -> Sequence[str]:
        """The systems of an ensemble; none for a system."""
        return list(self.about["members"])

    @property
    def settings(self) -> Mapping[str, str]:
        """What differs from params.yaml of its commit, as `dvc exp run -S` reads it."""
        return self.about["settings"]

    @property
    def protocol(self) -> str:
        """How the images were split."""
        return self.settings.get(PROTOCOL, "grouped")

    @property
    def seed(self) -> int:
        """``seed`` of params.yaml."""
        return int(self.settings.get(SEED, "0"))

    @property
    def image_size(self) -> int | None:
        """Side of an image, in pixels; None for an ensemble, whose members may differ."""
        return int(self.train["system"]["image_size"]) if self.train else None

    @property
    def pretrained(self) -> bool:
        """Whether the backbone, or that of every member, started from ImageNet's weights."""
        return set(self.about["weights"]) == set(self.members or [self.system])

    @property
    def minutes(self) -> float:
        """Time of frozen features and training together; of an ensemble, of all its members."""
        seconds = self.about["seconds"]
        return (seconds["features"] + seconds["train"]) / 60

    def commands(self, source: str, weights: Mapping[str, str], prefix: str = "") -> list[str]:
        """Return the commands that run it again, for a shell.

        For an ensemble they are two, since DVC takes every system for an input of its stage: the
        members are evaluated, and then the stage runs alone.

        Args:
            source: the X-rays, as the shell and `dvc exp run -S` read them.
            weights: the initial weights of each system that does not start from random ones,
                likewise.
            prefix: of the experiment's name.
        """
        options = [f"-S source={source}"]
        options += [f"-S {weights_key(system)}={path}" for system, path in weights.items()]
        options += [f"-S {shlex.quote(f'{key}={text}')}" for key, text in self.settings.items()]
        name = f"{prefix}{self.name}"
        evaluations = [f"evaluate@{system}" for system in self.members or [self.system]]
        runs = [[name, *options, *evaluations]]
        if self.members:
            runs[0][0] += "-members"
            runs.append([name, *options, f"--single-item ensemble@{self.system}"])
        return [" ".join(["dvc exp run -n", *run]) for run in runs]

    def documented(self) -> str:
        """Return the same with the variables ARCHIVE, a file, and WEIGHTS, a folder."""
        initial = self.about["weights"].items()
        weights = {name: f"$WEIGHTS/{file['name']}" for name, file in initial}
        return " && ".join(self.commands("$ARCHIVE", weights))


def weights_key(system: str) -> str:
    """Return the dotted key of a system's initial weights."""
    return f"systems.{system}.weights"


def read(name: str, folder: Path = FOLDER) -> Record:
    """Read a record.

    Args:
        name: of the record.
        folder: where the records are.

    Raises:
        InputError: there is none of this name, or one of its files cannot be read.
    """
    own = folder / name
    if not (own / "record.json").is_file():
        found = ", ".join(names(folder)) or "none"
        message = f"no recorded run is named {name}: there are {found}"
        raise InputError(message)
    about = files.read_json(own / "record.json")
    ensemble = bool(about["members"])
    return Record(
        name=name,
        about=about,
        metrics=files.read_json(own / "metrics.json"),
        train={} if ensemble else files.read_json(own / "train.json"),
        history=pd.DataFrame() if ensemble else files.read_csv(own / "history.csv"),
        predictions=files.read_csv(own / "predictions.csv"),
        shift=files.read_csv(own / "shift.csv"),
    )


def names(folder: Path = FOLDER) -> Sequence[str]:
    """Return the names of all records, sorted."""
    return sorted(path.parent.name for path in folder.glob("*/record.json"))


def read_all(folder: Path = FOLDER) -> dict[str, Record]:
    """Read all records, by name."""
    return {name: read(name, folder) for name in names(folder)}


def sweep(found: Mapping[str, Record]) -> list[Record]:
    """Return the records of the sweep over ``freeze_blocks``, by the number of frozen blocks."""
    rows = [record for name, record in found.items() if name.startswith(SWEEP)]
    return sorted(rows, key=lambda record: int(record.train["freeze_blocks"]))


def seeds(found: Mapping[str, Record]) -> list[list[Record]]:
    """Return the records that differ in their seed alone, by seed: a list for two seeds or more."""
    groups: dict[str, list[Record]] = {}
    for record in found.values():
        rest = {key: text for key, text in record.settings.items() if key != SEED}
        groups.setdefault(json.dumps([record.system, rest], sort_keys=True), []).append(record)
    ordered = [sorted(group, key=lambda record: record.seed) for group in groups.values()]
    return [group for group in ordered if len(group) > 1]


def compared(found: Mapping[str, Record], protocol: str) -> list[Record]:
    """Return the records of the comparison of systems, the highest test AUC first.

    They have the default seed and this protocol, and are in no sweep.
    """
    rows = [
        record
        for name, record in found.items()
        if record.protocol == protocol and record.seed == 0 and not name.startswith(SWEEP)
    ]
    return sorted(rows, key=lambda record: -record.metrics["test"]["auc"])
