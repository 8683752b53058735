"""A small project in git and DVC: two stages and an experiment, without running anything."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from dvc.repo import Repo

from cxr import files
from tests.tracking.conftest import Project

STAGES = """\
stages:
  split:
    cmd: "true"
    outs: [splits/manifest.csv, splits/rejected.csv, splits/summary.json, splits/provenance.json]
  train:
    foreach: [vgg]
    do:
      cmd: "true"
      outs: [models/vgg/architecture.json, models/vgg/model.weights.h5, models/vgg/phases,
        models/vgg/history.csv, models/vgg/train.json, models/vgg/provenance.json]
  evaluate:
    foreach: [vgg]
    do:
      cmd: "true"
      outs: [evaluations/vgg/metrics.json, evaluations/vgg/provenance.json]
"""
IGNORED = "/raw/\n/splits/\n/tensors/\n/models/\n/evaluations/\n/mlflow.db*\n/mlartifacts/\n"


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def cached(path: str) -> Path:
    """The object in DVC's cache that holds a file of the workspace."""
    md5 = files.file_md5(path)
    return Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]


@dataclass
class Kept:
    """The project, whose workspace holds the commit; the experiment ``three`` has other weights."""

    project: Project

    def begin(self) -> None:
        git("init", "--quiet")
        git("config", "user.name", "test")
        git("config", "user.email", "test@example.org")
        Repo.init().close()
        files.write_text(".gitignore", IGNORED)
        files.write_text("params.yaml", "seed: 0\nsplit: {protocol: official}\n")
        git("add", ".")
        git("commit", "--quiet", "-m", "nothing has run yet")
        self.project.split()
        self.commit("first")
        self.project.train("other weights", experiment="three")
        self.project.evaluate(auc=0.8, experiment="three")
        self.save("three")

    def record(self) -> None:
        """Write dvc.lock and the cache, as if the stages had run."""
        files.write_text("dvc.yaml", STAGES)
        with Repo() as repo:
            repo.commit(force=True)

    def commit(self, message: str) -> None:
        self.project.train()
        self.project.evaluate()
        self.record()
        git("add", ".")
        git("commit", "--quiet", "-m", message)

    def save(self, experiment: str) -> None:
        """Make an experiment of the workspace, and go back to the commit."""
        self.record()
        with Repo() as repo:
            repo.experiments.save(name=experiment)
        self.back()

    def back(self) -> None:
        git("checkout", "--quiet", "dvc.lock")
        with Repo() as repo:
            repo.checkout(force=True)


def workspace() -> pd.Series:
    """Return the MD5 of each file outside of MLflow, git and DVC."""
    own = (".git", ".dvc", "mlartifacts")
    found = [p for p in Path().rglob("*") if p.is_file() and p.parts[0] not in own]
    return pd.Series({str(p): files.file_md5(p) for p in found if not p.name.startswith("mlflow")})
