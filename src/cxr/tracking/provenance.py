"""``provenance.json``: the code, parameters, inputs and machine that a stage's outputs come from.

Every stage writes one beside its outputs when it ends. It is the one output that differs from run
to run; it travels with the others through DVC's cache, and MLflow's runs are made from it.
"""

import os
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cxr import files, machine, params
from cxr.errors import InputError

NAME = "provenance.json"

PACKAGES = (
    "keras", "tensorflow", "jax", "numpy", "pandas", "pillow", "scikit-learn", "dvc", "mlflow",
)  # fmt: skip

# Not code: provenance.json has their content as parameters and hashes, and DVC changes both.
NOT_CODE = ("params.yaml", "dvc.lock")


@dataclass(frozen=True)
class Started:
    """What is recorded when a stage starts.

    HEAD, the environment and the files may change while a training of hours is under way.

    Attributes:
        note: the part of provenance.json that is known at the start.
        clock: ``time.perf_counter()`` at the start.
    """

    note: Mapping[str, Any]
    clock: float


def start(
    stage: str,
    settings: params.Params,
    parameters: Mapping[str, Any],
    inputs: Iterable[Path],
    item: str | None = None,
) -> Started:
    """Record what a stage starts from; call it before the work.

    Args:
        stage: its name in dvc.yaml.
        settings: params.yaml, for the MLflow experiment.
        parameters: the parameters that the stage uses, nested; see :func:`chosen`.
        inputs: the files that it reads, code aside; a folder stands for all files below it.
        item: the system or the image size, where the stage has one run for each.

    Raises:
        InputError: where an input is missing.
    """
    clock = time.perf_counter()
    note = {
        "id": uuid.uuid4().hex,
        "stage": stage,
        "item": item,
        "started": _now(),
        "git": {"commit": _commit(), "changed": _changed()},
        "dvc": {
            "experiment": os.environ.get("DVC_EXP_NAME") or None,
            "baseline": os.environ.get("DVC_EXP_BASELINE_REV") or None,
        },
        "mlflow_experiment": settings.tracking.experiment,
        "parameters": dict(parameters),
        "inputs": hashes(inputs),
    }
    return Started(note, clock)


def finish(
    started: Started,
    folder: Path,
    device: str | None = None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write ``provenance.json`` into a stage's folder; call it after the work.

    Args:
        started: from :func:`start`.
        folder: the stage's own, such as ``models/vgg16_transfer``; all files in it are outputs.
        device: what computed; the CPU where None.
        training: precision policy and durations, for the train stage alone.
    """
    before = dict(started.note)
    note = {key: before.pop(key) for key in ("id", "stage", "item", "started")}
    note |= {
        "ended": _now(),
        "seconds": round(time.perf_counter() - started.clock, 1),
        **before,
        "outputs": hashes([folder], leave_out=folder / NAME),
        "device": device or machine.cpu_name(),
        "versions": machine.versions(PACKAGES),
    }
    if training is not None:
        note["training"] = dict(training)
    files.write_json(folder / NAME, note)


def chosen(settings: params.Params, *keys: str) -> dict[str, Any]:
    """Return parameters as params.yaml nests them, of the dotted ``keys`` alone."""
    everything = settings.model_dump(mode="json")
    found: dict[str, Any] = {}
    for key in keys:
        *parents, last = key.split(".")
        source, target = everything, found
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        target[last] = source[last]
    return found


def hashes(paths: Iterable[Path], leave_out: Path | None = None) -> dict[str, str]:
    """Return the MD5 of each file, as DVC computes it, by its path.

    Args:
        paths: files, and folders, which stand for all files below them; hidden ones aside.
        leave_out: a file that does not count.

    Raises:
        InputError: where a path does not exist.
    """
    found = {file for path in paths for file in _below(Path(path))} - {leave_out}
    return {file.as_posix(): files.file_md5(file) for file in sorted(found)}


def _below(path: Path) -> list[Path]:
    if path.is_dir():
        # Hidden files are what a killed process left half-written (files.replacing).
        return [f for f in path.rglob("*") if f.is_file() and not f.name.startswith(".")]
    if not path.is_file():
        message = f"{path} is missing: make it with `dvc repro`, or get it with `dvc pull`"
        raise InputError(message)
    return [path]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    answer = _git("rev-parse", "--verify", "HEAD")
    return answer.strip() if answer else None


def _changed() -> list[str]:
    """List the files of code that differ from the commit, untracked ones included."""
    answer = _git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all") or ""
    changed = (entry[3:] for entry in answer.split("\0") if entry)  # "XY path"
    return sorted(path for path in changed if path not in NOT_CODE)


def _git(*arguments: str) -> str | None:
    """Ask git; None outside of a repository, and where there is no git."""
    # Without optional locks: a refreshed index would get in the way of a commit made meanwhile.
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
