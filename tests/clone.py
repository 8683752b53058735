"""Clones of this repository, on a tiny sample and with two small systems, for whole-pipeline tests.

``trained`` makes one and runs everything in it; the fixture ``clone`` is the one that tests share.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import mlflow
import pandas as pd
from ruamel.yaml import YAML

from cxr.models import backbones
from tests import planted
from tests.paths import PATH, ROOT
from tools import phantom

COUNTS = {"NORMAL": 3, "PNEUMONIA": 6}
# Two of the repository's systems show all that DVC can do with them: freeze_blocks, initial weights
# from a file, and phases on clean and on perturbed images; at about the smallest size they take.
SIZES = {"vgg16_transfer": 32, "cnn": 48}
SYSTEMS = tuple(SIZES)
TINY = {
    "source": "tiny.zip",
    "training.precision": "float32",  # auto would measure what is faster
    **{f"split.{side}.{name}": n for side in ("val", "test") for name, n in COUNTS.items()},
    **{f"systems.{system}.image_size": size for system, size in SIZES.items()},
    **{f"systems.{system}.batch_size": 4 for system in SYSTEMS},
    "systems.vgg16_transfer.weights": "null",
    "systems.vgg16_transfer.phases.train.epochs": 1,
    **{f"systems.cnn.phases.{phase}.epochs": 1 for phase in ("clean", "perturbed")},
    **{f"systems.cnn.phases.{phase}.steps_per_epoch": 2 for phase in ("clean", "perturbed")},
}
# The stages with an item per system.
OF_SYSTEM = ("weights", "features", "shifted", "train", "shift", "evaluate")
ENSEMBLE = "both"  # the mean of all systems, where there are two
LIMIT = 900  # seconds for a command: several times what the longest takes on two busy cores
YAML_12 = YAML(typ="safe", pure=True)


def every_stage(sizes: Mapping[str, int]) -> set[str]:
    """Return the names of all stages, as DVC has them, for systems and their image sizes."""
    return {
        "download",
        "split",
        "audit",
        "compare",
        *(f"preprocess@{size}" for size in sizes.values()),
        *(f"{stage}@{system}" for stage in OF_SYSTEM for system in sizes),
        *([f"ensemble@{ENSEMBLE}"] if len(sizes) > 1 else []),
    }


EVERY_STAGE = every_stage(SIZES)


@dataclass
class Clone:
    """A clone of this repository as it is here, with DVC and git of its own.

    Attributes:
        root: its folder.
        settings: environment variables of all commands in it.
        umask: of all commands in it; -1: this process's.
        first: dvc.lock as it was after :func:`trained`, whatever tests have run since.
        heard: the output of all commands so far.
    """

    root: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    umask: int = -1
    first: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)

    def call(self, *command: str, fails: bool = False, **env: str) -> str:
        """Run a command in the clone and return its output.

        Its output goes to files: a background process that it leaves behind, as `dvc queue start`
        does, would keep a pipe open, and reading to the pipe's end would wait for that process.
        """
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            done = subprocess.run(
                command, cwd=self.root, env=environment(**{**self.settings, **env}),
                umask=self.umask, stdout=stdout, stderr=stderr, check=False, timeout=LIMIT,
            )  # fmt: skip
            said = ""
            for output in (stdout, stderr):
                output.seek(0)
                said += output.read()
        self.heard.append(said)
        assert (done.returncode != 0) == fails, said
        return said

    def cxr(self, *command: str, fails: bool = False, **env: str) -> str:
        """Run the command `cxr` with the clone's library."""
        src = str(self.root / "src")
        return self.call("python", "-m", "cxr.cli", *command, fails=fails, PYTHONPATH=src, **env)

    def stages(self, *command: str, **env: str) -> set[str]:
        """Run DVC and return the names of the stages that it ran (not: restored or skipped)."""
        return ran(self.call("dvc", *command, **env))

    def runs(self, database: str = "mlflow.db") -> pd.DataFrame:
        """Return MLflow's runs from a database at the clone's root."""
        mlflow.set_tracking_uri(f"sqlite:///{self.root}/{database}")
        return mlflow.search_runs(search_all_experiments=True)

    def json(self, path: str) -> dict:
        return json.loads((self.root / path).read_text())

    def lock(self) -> dict[str, dict[str, Any]]:
        """Return what dvc.lock says of each stage."""
        return YAML_12.load((self.root / "dvc.lock").read_text())["stages"]

    def provenance(self) -> dict[str, dict[str, Any]]:
        """Return each stage's provenance.json, by the stage's name in dvc.lock."""
        found = {}
        for path in self.root.glob("*/**/provenance.json"):
            note = json.loads(path.read_text())
            item = f"@{note['item']}" if note["item"] else ""
            found[note["stage"] + item] = note
        return found


def ran(said: str) -> set[str]:
    """Return the names of the stages that DVC ran, from its output."""
    return set(re.findall(r"Running stage '(.+?)'", said))


def environment(**env: str) -> dict[str, str]:
    """Return this process's environment without what would redirect MLflow or slow Python down."""
    without = ("MLFLOW_TRACKING_URI", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    return inherited | {"DVC_NO_ANALYTICS": "1", "PATH": PATH} | env


def overrides(values: Mapping[str, Any]) -> list[str]:
    """Return the arguments that give `dvc exp run` these parameters."""
    return [part for key, value in values.items() for part in ("-S", f"{key}={value}")]


def leave_out_systems(root: Path, systems: tuple[str, ...] = SYSTEMS) -> None:
    """Take all but some systems out of params.yaml and dvc.yaml, as a user may.

    The ensemble is then that of all systems left.
    """
    yaml = YAML()  # keeps the order, which is that of the phases
    settings = yaml.load(root / "params.yaml")
    settings["systems"] = {name: settings["systems"][name] for name in systems}
    settings["ensembles"] = {ENSEMBLE: list(systems)} if len(systems) > 1 else {}
    yaml.dump(settings, root / "params.yaml")
    pipeline = yaml.load(root / "dvc.yaml")
    stages = pipeline["stages"]
    for stage in ("features", "train"):
        stages[stage]["foreach"] = {name: stages[stage]["foreach"][name] for name in systems}
    stages["preprocess"]["foreach"] = [f"${{systems.{name}.image_size}}" for name in systems]
    audit = stages["audit"]
    audit["cmd"] = f"python -m stages.audit {systems[-1]}"
    audit["deps"] = [dep.replace("probe", systems[-1], 1) for dep in audit["deps"]]
    yaml.dump(pipeline, root / "dvc.yaml")


def files_here() -> list[str]:
    """Return the files of this repository that git would take."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    return [name for name in filter(None, listed) if (ROOT / name).is_file()]


def made(clone: Clone, systems: tuple[str, ...] = SYSTEMS) -> Clone:
    """Write this repository's files and the tiny sample to a clone's folder, and commit them."""
    root = clone.root
    for name in files_here():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    leave_out_systems(root, systems)
    phantom.write_archive(root / "tiny.zip", seed=1, images=40, size_range=(40, 64))
    clone.call("git", "init", "--quiet", "--initial-branch=main")
    clone.call("git", "config", "user.name", "test")
    clone.call("git", "config", "user.email", "test@example.org")
    (root / ".git/info/exclude").write_text("/tiny.zip\n/cnn.weights.h5\n")
    clone.call("git", "add", ".")
    clone.call("git", "commit", "--quiet", "-m", "as it is here")
    clone.call("dvc", "pull", "--remote", "sample", "data.dvc")  # as `make setup` does
    return clone


def write_weights(path: Path) -> None:
    """Write weights for the backbone of cnn."""
    backbone, image = backbones.BACKBONES["cnn"], keras.Input((SIZES["cnn"], SIZES["cnn"], 3))
    keras.Model(image, backbone.apply(image)).save_weights(path)


def trained(clone: Clone, weights: Path) -> Clone:
    """Make a clone, and run everything in it once as DVC's experiment `first`.

    Args:
        clone: its folder is empty or missing.
        weights: from :func:`write_weights`, for cnn.
    """
    made(clone)
    planted.plant(clone.root)
    own = shutil.copyfile(weights, clone.root / "cnn.weights.h5")
    settings = overrides(TINY | {"systems.cnn.weights": f"'{own}'"})
    assert clone.stages("exp", "run", "-n", "first", *settings) == EVERY_STAGE
    clone.call("git", "add", ".")
    clone.call("git", "commit", "--quiet", "-m", "tiny")
    clone.first = clone.lock()
    return clone
