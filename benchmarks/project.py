"""A copy of the project in another folder, whose stages a benchmark runs with other parameters."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks import measure

ROOT = Path(__file__).resolve().parents[1]
CODE = (
    "src", "stages", "sources", "externals/.gitkeep", "ensembles/.gitkeep", ".dvc/config",
    ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml",
)  # fmt: skip


@dataclass(frozen=True)
class Usage:
    """What a process used.

    Attributes:
        seconds: from its start to its end.
        megabytes: the most memory that was its own, looked at every 20 ms. Pages of memory-mapped
            files do not count: the system takes them back when it needs them.
    """

    seconds: float
    megabytes: float


def copy(folder: Path) -> Any:
    """Copy the code to a folder, without data and results, and return its parameters.

    They have no ensembles, since a benchmark may leave out their members.
    """
    for name in CODE:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, target)
    return read(ROOT / "params.yaml") | {"ensembles": {}}


def weights(folder: Path, backbone: str, given: Path | None) -> Path:
    """Return the weights file of a backbone, or write one of random weights beside a copy.

    Args:
        folder: the copy.
        backbone: its name in params.yaml.
        given: the folder of ``--weights``.
    """
    import keras

    from cxr.models import backbones

    path = folder.parent / f"{backbone}.weights.h5"
    found = measure.weights(given, backbone)
    if found is None and not path.is_file():
        image = keras.Input((backbones.BACKBONES[backbone].min_size,) * 2 + (3,))
        keras.Model(image, backbones.BACKBONES[backbone].apply(image)).save_weights(path)
    return found or path


def read(path: Path) -> Any:
    """Return a YAML file, with its comments and its order."""
    return YAML().load(path)


def write(path: Path, settings: Any) -> None:
    """Write a YAML file in the form that :func:`read` returned."""
    with path.open("w", encoding="utf-8") as stream:
        YAML().dump(settings, stream)


def save(folder: Path, settings: Any) -> None:
    """Write the parameters of a copy, in the form that :func:`copy` returned."""
    write(folder / "params.yaml", settings)


def stage(folder: Path, name: str, *arguments: str) -> Usage:
    """Run a stage in a copy and return what it used; see :func:`run`."""
    return run(folder, sys.executable, "-m", f"stages.{name}", *arguments)


def run(folder: Path, *command: str) -> Usage:
    """Run a command in a copy and return what it used; what it prints goes to <copy>.log.

    Raises:
        SystemExit: with the end of the log, if the command fails.
    """
    began, most = time.perf_counter(), 0
    with started(folder, command) as process:
        while process.poll() is None:
            most = max(most, _own_memory(process.pid))
            time.sleep(0.02)
    if process.returncode:
        sys.exit(_log(folder).read_text(encoding="utf-8")[-2000:])
    return Usage(time.perf_counter() - began, most / 1e6)


@contextmanager
def started(folder: Path, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that runs in a copy, and kill it if the block fails."""
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "PYTHONPATH"):
        environment.pop(name, None)
    # DVC starts the stages with the `python` that comes first on PATH.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with _log(folder).open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")  # outside of the copy, which git watches


def _own_memory(pid: int) -> int:
    """Return the bytes of memory that are a process's own; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:  # not Linux, or the process has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
