"""A project on disk, as the stages write it, and an empty MLflow database; no Keras needed."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
import pytest

from cxr import files, params
from cxr.tracking import client, live, provenance

if TYPE_CHECKING:
    from tests.tracking.kept import Kept

EPOCHS = [
    {"learning_rate": 0.1, "loss": 0.8, "val_loss": 0.7},
    {"learning_rate": 0.1, "loss": 0.6, "val_loss": 0.5},
]


@dataclass
class Project:
    """Writes the outputs of the stages, of a few bytes each, into the current folder."""

    settings: params.Params

    def split(self, images: int = 30) -> Path:
        files.write_text("raw/xrays.zip", "a zip")
        used = provenance.chosen(self.settings, "seed", "split")
        started = provenance.start("split", self.settings, used, [Path("raw/xrays.zip")])
        counts = {"NORMAL": images, "PNEUMONIA": 0}
        files.write_json("splits/summary.json", {"images": {"train": counts}, "rejected": 2})
        for name in ("manifest.csv", "rejected.csv"):
            files.write_text(f"splits/{name}", "id\n")
        provenance.finish(started, Path("splits"))
        return Path("splits")

    def start_training(self, system: str = "vgg") -> provenance.Started:
        files.write_text("tensors/64/images.npy", "pixels")
        files.write_text("tensors/64/index.csv", "id")
        inputs = [Path("tensors/64/images.npy"), Path("tensors/64/index.csv")]
        return provenance.start("train", self.settings, {"seed": 0}, inputs, system)

    def train(
        self,
        weights: str = "weights",
        started: provenance.Started | None = None,
        system: str = "vgg",
        experiment: str | None = None,
    ) -> Path:
        started = started or self.start_training(system)
        folder = Path("models") / system
        files.write_text(folder / "architecture.json", "{}")
        files.write_text(folder / "model.weights.h5", weights)
        files.write_json(folder / "phases/index.json", {"train": "model.weights.h5"})
        rows = [{"epoch": n, "phase": "train"} | row for n, row in enumerate(EPOCHS, start=1)]
        files.write_csv(folder / "history.csv", pd.DataFrame(rows))
        record = {
            # A parameter may have the name of a metric.
            "system": {
                "backbone": "vgg16", "image_size": 64, "weights": None, "epochs": "x",
                "head": {"pool": "average"},
            },
            "phases": {"train": {"best_epoch": 2}},
            "seed": 0, "freeze_blocks": 4, "class_weights": None, "epochs": 2,
            "parameters": {"total": 10}, "images": {"train": {"NORMAL": 3}, "val": {"NORMAL": 1}},
            "weights_sha256": files.file_sha256(folder / "model.weights.h5"),
        }  # fmt: skip
        files.write_json(folder / "train.json", record)
        training = {
            "policy": "float32", "seconds": 6.5, "seconds_per_epoch": [4.0, 2.5],
            "backend": "tensorflow",
        }  # fmt: skip
        provenance.finish(started, folder, device="a GPU", training=training)
        self.change(folder, dvc={"experiment": experiment, "baseline": None})
        return folder

    def evaluate(
        self,
        threshold: Any = 0.5,
        auc: float = 0.9,
        system: str = "vgg",
        experiment: str | None = None,
    ) -> Path:
        used = {"evaluate": {"threshold": threshold}, "seed": 0}
        inputs = [Path("models") / system / "model.weights.h5", Path("tensors/64/index.csv")]
        started = provenance.start("evaluate", self.settings, used, inputs, system)
        folder = Path("evaluations") / system
        test = {"auc": auc, "auc_low": None, "tp": 1, "tn": 2, "fp": 3, "fn": 4}
        figures = {"train": {}, "val": {}, "test": test, "perturbed": {}, "phases": {}}
        figures |= {
            "threshold": threshold if isinstance(threshold, float) else 0.5,
            "test_at_half": {},
            "conformal": {},
            "shift": {},
        }
        figures["explanations"] = {}
        figures["calibration"] = {"none": {"slope": None, "ece": 0.1}}
        files.write_json(folder / "metrics.json", figures)
        provenance.finish(started, folder)
        self.change(folder, dvc={"experiment": experiment, "baseline": None})
        return folder

    def audit(self, assessable: bool = True) -> Path:
        files.write_text("raw/xrays.zip", "a zip")
        started = provenance.start("audit", self.settings, {"seed": 0}, [Path("raw/xrays.zip")])
        rates = {"auc": 0.8, "auc_low": 0.7, "auc_high": 0.9}
        rated = {
            "assessable": assessable, "reason": None if assessable else "all are equal",
            "val": rates if assessable else None,
            "test": rates | {"auc": None} if assessable else None,
        }  # fmt: skip
        groups = {"geometry": rated, "jpeg": rated | {"assessable": False, "val": None}}
        found = {
            "patients": {"in_two_splits": 0 if assessable else None},
            "duplicates": {
                "exact": {"groups": 2}, "near": {"groups": 1}, "in_test_and_rest": 0
            },
            "leak": {"mean": 21.5} if assessable else None,
            "suspects": {"assessable": assessable, "suspects": 3 if assessable else 0},
            "shortcuts": {
                "alarm": assessable or None, "sets": {"picture": rated}, "groups": groups
            },
        }  # fmt: skip
        files.write_json("audits/audit.json", found)
        files.write_text("audits/suspects.csv", "id\n")
        provenance.finish(started, Path("audits"))
        return Path("audits")

    @staticmethod
    def change(folder: Path, **changes: Any) -> None:
        """Change a provenance.json, as another machine or time would have written it."""
        note = files.read_json(folder / provenance.NAME)
        files.write_json(folder / provenance.NAME, note | changes)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the tables once: that takes MLflow longer than a whole test."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    mlflow.MlflowClient().search_experiments()
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Path:
    """Give a test a repository root, which it runs in, and a database of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    # MLflow exports what set_tracking_uri was given last.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def monitors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the threads of trainings that a test leaves as a killed process would."""
    started, whole = [], live._monitored

    def kept(*arguments: Any) -> Any:
        started.append(whole(*arguments))
        return started[-1]

    monkeypatch.setattr(live, "_monitored", kept)
    yield
    for monitor in filter(None, started):
        monitor.finish()


@pytest.fixture
def project(store: Path, settings: params.Params) -> Project:
    return Project(settings)


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory, settings: params.Params) -> Path:
    """The project in git and DVC, made once: that takes DVC seconds. Tests must not change it."""
    from tests.tracking.kept import Kept

    root = tmp_path_factory.mktemp("committed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("DVC_ROOT", str(root))
        Kept(Project(settings)).begin()
    return root


@pytest.fixture
def kept(project: Project, committed: Path, monkeypatch: pytest.MonkeyPatch) -> "Kept":
    """A copy of the project in git and DVC, which the test runs in; no model is logged."""
    from tests.tracking.kept import Kept

    shutil.copytree(committed, Path(), symlinks=True, dirs_exist_ok=True)
    monkeypatch.setattr(client, "_log_model", lambda *_: None)
    return Kept(project)
