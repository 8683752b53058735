"""``provenance.json``: the code, parameters, inputs and machine that a stage's outputs come from.

Every stage writes one to the folder of its outputs when it ends. It is the only output that differs
between runs. DVC caches it with the others, and MLflow's runs are built from it.
"""

import os
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cxr import files, machine, params
from cxr.errors import InputError

NAME = "provenance.json"

PACKAGES = (
    "keras", "tensorflow", "jax", "numpy", "pandas", "pillow", "scikit-learn", "dvc", "mlflow",
)  # fmt: skip

# Not code: DVC changes both, and provenance.json has their content as parameters and hashes.
NOT_CODE = ("params.yaml", "dvc.lock")


@dataclass(frozen=True)
class Started:
    """The provenance of a stage that has started.

    It is recorded at the start, because HEAD, the environment and the files may change during hours
    of training.

    Attributes:
        provenance: the part of provenance.json that is known at the start.
        clock: ``time.perf_counter()`` at the start.
        states: size, time and inode of each input at the start, by its path.
    """

    provenance: Mapping[str, Any]
    clock: float
    states: Mapping[str, tuple[int, int, int] | None] = field(default_factory=dict)


def start(
    stage: str,
    settings: params.Params,
    parameters: Mapping[str, Any],
    inputs: Iterable[Path],
    item: str | None = None,
) -> Started:
    """Record the code, parameters and inputs of a stage; call it before the work.

    Args:
        stage: its name in dvc.yaml.
        settings: params.yaml, for the MLflow experiment.
        parameters: the parameters that the stage uses, nested; see :func:`chosen`.
        inputs: the files that it reads, except for code; a folder stands for all files below it.
        item: the system or the image size, for a stage with one run for each.

    Raises:
        InputError: an input is missing.
    """
    clock = time.perf_counter()
    inputs = [Path(path) for path in inputs]
    states = {file.as_posix(): _state(file) for path in inputs for file in _below(path)}
    provenance = {
        "id": uuid.uuid4().hex,
        "stage": stage,
        "item": item,
        "started": _text(datetime.now(UTC)),
        "user": (_git("config", "user.name") or "").strip() or None,
        "git": {"commit": _commit(), "changed": _changed()},
        "dvc": {
            "experiment": os.environ.get("DVC_EXP_NAME") or None,
            "baseline": os.environ.get("DVC_EXP_BASELINE_REV") or None,
        },
        "mlflow_experiment": settings.tracking.experiment,
        "parameters": dict(parameters),
        "inputs": hashes(inputs),
    }
    return Started(provenance, clock, states)


def resumed(started: Started, sittings: Sequence[Mapping[str, Any]], seconds: float) -> Started:
    """Return the provenance of a resumed training: id and start are those of its first sitting.

    Args:
        started: from :func:`start`, of this sitting.
        sittings: of the whole training; see :func:`sitting`.
        seconds: of the earlier sittings, up to the checkpoint.
    """
    first = {key: sittings[0][key] for key in ("id", "started")}
    return replace(
        started, provenance={**started.provenance, **first}, clock=started.clock - seconds
    )


def sitting(started: Started, device: str) -> dict[str, Any]:
    """Return when, where and from which commit a process began or resumed a training.

    A training that is killed and resumed has a sitting for each of its processes.
    """
    provenance = started.provenance
    return {
        "id": provenance["id"],
        "started": provenance["started"],
        "commit": provenance["git"]["commit"],
        "device": device,
        "cores": machine.cores(),
    }


def finish(
    started: Started,
    folder: Path,
    device: str | None = None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write ``provenance.json`` into a stage's folder; call it after the work.

    Args:
        started: from :func:`start`.
        folder: the stage's own, for example ``models/vgg16_transfer``; all files in it are outputs.
        device: the device that computed; by default the CPU.
        training: policy, durations, backend and sittings, for the train stage alone.

    Raises:
        InputError: an input was replaced while the stage ran, so that the outputs may come from
            both contents. DVC would record the new one as what they were made from.
    """
    _check_unchanged(started, folder)
    before = dict(started.provenance)
    provenance = {key: before.pop(key) for key in ("id", "stage", "item", "started")}
    provenance |= {
        "ended": _text(_end(started)),
        "seconds": round(time.perf_counter() - started.clock, 1),
        **before,
        "outputs": hashes([folder], leave_out=folder / NAME),
        "device": device or machine.cpu_name(),
        "cores": machine.cores(),
        "versions": machine.versions(PACKAGES),
    }
    if training is not None:
        provenance["training"] = dict(training)
    files.write_json(folder / NAME, provenance)


def chosen(settings: params.Params, *keys: str) -> dict[str, Any]:
    """Return the parameters with the dotted ``keys``, nested as in params.yaml."""
    everything = settings.model_dump(mode="json")
    picked: dict[str, Any] = {}
    for key in keys:
        *parents, last = key.split(".")
        source, target = everything, picked
        for parent in parents:
            source, target = source[parent], target.setdefault(parent, {})
        target[last] = source[last]
    return picked


def title(provenance: Mapping[str, Any]) -> str:
    """Return a stage and its item, for example ``train cnn``."""
    return " ".join(filter(None, (provenance["stage"], provenance["item"])))


def hashes(paths: Iterable[Path], leave_out: Path | None = None) -> dict[str, str]:
    """Return the MD5 of each file by its path, as DVC computes it.

    Args:
        paths: files and folders; a folder stands for all files below it that are not hidden.
        leave_out: a file to leave out.

    Raises:
        InputError: a path does not exist.
    """
    found = {file for path in paths for file in _below(Path(path))} - {leave_out}
    return {file.as_posix(): files.file_md5(file) for file in sorted(found)}


def _check_unchanged(started: Started, folder: Path) -> None:
    """Compare the inputs with their state at the start; the content decides, not the time."""
    for path, md5 in started.provenance["inputs"].items():
        now = _state(Path(path))
        if now == started.states.get(path, now) or (now and files.file_md5(path) == md5):
            continue
        (folder / NAME).unlink(missing_ok=True)  # an earlier one, which does not fit these outputs
        name = title(started.provenance)
        message = (
            f"{path} was {'replaced' if now else 'removed'} while {name} ran, so its outputs may "
            "be a mixture: run `dvc repro` again, and leave the file alone until it ends"
        )
        raise InputError(message)


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return a file's size, time of change and inode; None if it is missing.

    They differ if the file was written to or replaced.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _below(path: Path) -> list[Path]:
    if path.is_dir():
        # Hidden files are half-written ones that a killed process left (files.replacing).
        return [f for f in path.rglob("*") if f.is_file() and not f.name.startswith(".")]
    if not path.is_file():
        message = f"{path} is missing: make it with `dvc repro`, or get it with `dvc pull`"
        raise InputError(message)
    return [path]


def _end(started: Started) -> datetime:
    """Return the time now, or a later one if the clock was set back while the stage ran.

    A run that ends before it starts would have negative durations in MLflow.
    """
    passed = timedelta(seconds=time.perf_counter() - started.clock)
    return max(datetime.now(UTC), datetime.fromisoformat(started.provenance["started"]) + passed)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _commit() -> str | None:
    answer = _git("rev-parse", "--verify", "HEAD")
    return answer.strip() if answer else None


def _changed() -> list[str]:
    """Return the code files that differ from the commit, including untracked ones."""
    answer = _git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all") or ""
    changed = (entry[3:] for entry in answer.split("\0") if entry)  # "XY path"
    return sorted(path for path in changed if path not in NOT_CODE)


def _git(*arguments: str) -> str | None:
    """Return the output of a git command; None outside of a repository or without git."""
    # Without optional locks, because refreshing the index could block a commit at the same time.
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
