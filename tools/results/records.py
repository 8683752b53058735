"""Read ``results/<name>/``, which ``tools.results.record`` writes.

A record is one system of one DVC experiment: its figures, the predictions of the test set, and what
is needed to run it again. It holds no X-rays, no weights, and no path of the machine that ran it.
"""

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

PROTOCOL = "split.protocol"  # grouped unless the record's settings say otherwise


@dataclass(frozen=True)
class Record:
    """A recorded run.

    Attributes:
        name: of its folder, and of the DVC experiment.
        about: record.json: system, commit, settings, archive, weights, machine, versions, seconds.
        metrics: metrics.json of the evaluation.
        train: train.json of the training: settings of the system, parameters and epochs of phases.
        history: one row per epoch; no rows for a linear probe.
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
        """Its name in params.yaml."""
        return str(self.about["system"])

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
        return int(self.train["seed"])

    @property
    def image_size(self) -> int:
        """Side of an image, in pixels."""
        return int(self.train["system"]["image_size"])

    @property
    def pretrained(self) -> bool:
        """Whether the backbone started from ImageNet's weights."""
        return self.about["weights"] is not None

    @property
    def minutes(self) -> float:
        """Time of frozen features and training together."""
        seconds = self.about["seconds"]
        return (seconds["features"] + seconds["train"]) / 60

    def command(self, source: str, weights: str, prefix: str = "") -> str:
        """Return the command that runs it again, for a shell.

        Args:
            source: the X-rays, as the shell and `dvc exp run -S` read them.
            weights: the initial weights, likewise; empty if they are random.
            prefix: of the experiment's name.
        """
        options = [f"-S source={source}"]
        options += [f"-S {weights_key(self.system)}={weights}"] if weights else []
        options += [f"-S {shlex.quote(f'{key}={text}')}" for key, text in self.settings.items()]
        target = f"evaluate@{self.system}"
        return " ".join(["dvc exp run -n", f"{prefix}{self.name}", *options, target])


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
    return Record(
        name=name,
        about=files.read_json(own / "record.json"),
        metrics=files.read_json(own / "metrics.json"),
        train=files.read_json(own / "train.json"),
        history=files.read_csv(own / "history.csv"),
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
