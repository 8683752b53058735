"""A run is recorded from what DVC keeps of it; one that cannot be traced is refused."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cxr import files
from cxr.errors import InputError
from tools.results import record, records

COMMIT = "c" * 40


def outputs(system: str) -> dict[str, tuple[str, list[str], list[str]]]:
    """What each stage of a system made, and from what, by the folder of its outputs."""
    model, evaluation = f"models/{system}", f"evaluations/{system}"
    features, initial = f"features/{system}/frozen/x", f"weights/{system}/initial/weights.json"
    weights, shifted = f"{model}/model.weights.h5", f"shifts/{system}/predictions.csv"
    evaluated = [f"{evaluation}/{n}" for n in EVALUATED]
    return {
        f"weights/{system}": ("weights", [initial], []),
        f"features/{system}": ("features", [features], ["tensors/64/index.csv"]),
        model: (
            "train", [f"{model}/train.json", f"{model}/history.csv", weights], [features, initial],
        ),
        f"shifts/{system}": ("shift", [shifted], [weights]),
        evaluation: ("evaluate", evaluated, [shifted]),
    }  # fmt: skip


EVALUATED = ("metrics.json", "phases.csv", "predictions.csv", "shift.csv")
OUTPUTS = {
    "raw": ("download", ["raw/source.json"], []),
    "splits": ("split", ["splits/manifest.csv"], ["raw/source.json"]),
    "tensors/64": ("preprocess", ["tensors/64/index.csv"], ["splits/manifest.csv"]),
    **outputs("vgg"),
    **outputs("mobile"),
    "ensembles/both": (
        "ensemble",
        [f"ensembles/both/{n}" for n in EVALUATED],
        [f"evaluations/{system}/predictions.csv" for system in ("vgg", "mobile")],
    ),
}
CONTENT = {
    "source.json": json.dumps({"origin": "x.zip", "sha256": "a" * 64}),
    "weights.json": json.dumps({"weights": "w.h5", "sha256": "b" * 64}),
    "manifest.csv": "id,patient\n001,p1\n002,p2\n",
    "phases.csv": "phase,id,label,probability,perturbed_probability\n"
    "first,001,0,0.9,0.9\nfirst,002,1,0.9,0.9\nlast,001,0,0.2,0.3\nlast,002,1,0.5,0.4\n",
    "predictions.csv": "id,split,label,probability\n"
    "001,test,0,0.2\n002,test,1,0.5\n003,train,1,0.4\n",
    "shift.csv": "set,kind\nvalidation,none\n",
    "train.json": "{}",
    "history.csv": "epoch\n1\n",
}
PARAMETERS = {"download": {"source": "/home/me/x.zip"}, "evaluate": {"seed": 3}}


@dataclass
class Kept:
    """An experiment's outputs, as cxr.tracking.revisions.Revision gives them."""

    name: str = "experiment mine"
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)  # of provenance, by folder

    @property
    def outputs(self) -> dict[str, str]:
        made = [path for _, paths, _ in OUTPUTS.values() for path in paths]
        return {path: path for path in [*made, *(f"{f}/provenance.json" for f in OUTPUTS)]}

    def folders(self) -> list[str]:
        return list(OUTPUTS)

    def provenance(self, folder: str) -> dict[str, Any]:
        stage, made, used = OUTPUTS[folder]
        return {
            "id": folder, "stage": stage, "git": {"commit": COMMIT, "changed": []},
            "parameters": PARAMETERS.get(stage, {}), "inputs": {path: path for path in used},
            "outputs": {path: path for path in made}, "seconds": 60.0, "ended": "2026-11-29",
            "device": "a CPU", "cores": 2, "versions": {"keras": "3"},
        } | self.changes.get(folder, {})  # fmt: skip

    def read(self, path: str) -> bytes:
        if path == "ensembles/both/metrics.json":
            return json.dumps({"test": {"auc": 0.75}, "members": ["vgg", "mobile"]}).encode()
        return CONTENT.get(Path(path).name, json.dumps({"test": {"auc": 0.75}})).encode()


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    found = Kept()
    monkeypatch.setattr(record.rebuilding, "params_of", lambda *_: {"seed": 0, "source": "y.yaml"})
    monkeypatch.setattr(
        record, "_logged", lambda *_: {"run": "1", "name": "train vgg", "test/auc": 0.75}
    )
    return found


@pytest.fixture
def repository(kept: Kept) -> Any:
    class Repository:
        def find(self, name: str) -> Kept | None:
            return kept if name == "mine" else None

    return Repository()


def test_record_has_what_is_needed_to_run_it_again(repository: Any, tmp_path: Path):
    record.copy(repository, "mine", "vgg", tmp_path / "mine")
    found = records.read("mine", tmp_path)
    assert found.settings == {"seed": "3"}  # not the path of the archive
    assert found.about["commit"] == COMMIT
    assert found.about["archive"] == {"name": "x.zip", "sha256": "a" * 64}
    assert found.about["weights"] == {"vgg": {"name": "w.h5", "sha256": "b" * 64}}
    assert found.minutes == 2
    assert "/home" not in (tmp_path / "mine" / "record.json").read_text()


def test_predictions_are_those_of_the_last_phase_with_patients(repository: Any, tmp_path: Path):
    record.copy(repository, "mine", "vgg", tmp_path / "mine")
    rows = files.read_csv(tmp_path / "mine" / "predictions.csv")
    assert list(rows["id"]) == ["001", "002"]
    assert list(rows["patient"]) == ["p1", "p2"]
    assert list(rows["probability"]) == [0.2, 0.5]


def test_figures_at_half_count_every_split(repository: Any, tmp_path: Path):
    record.copy(repository, "mine", "vgg", tmp_path / "mine")
    found = records.read("mine", tmp_path).about["at_half"]
    assert (found["test"]["tp"], found["test"]["tn"]) == (1, 1)  # 0.5 counts as PNEUMONIA
    assert (found["train"]["tp"], found["train"]["fn"]) == (0, 1)


def test_ensemble_has_the_weights_and_the_time_of_its_members(repository: Any, tmp_path: Path):
    record.copy(repository, "mine", "both", tmp_path / "mine")
    found = records.read("mine", tmp_path)
    assert (found.system, found.members) == ("both", ["vgg", "mobile"])
    assert found.pretrained
    assert (found.image_size, found.minutes) == (None, 4)
    assert list(found.about["md5"]) == [
        "models/vgg/model.weights.h5",
        "models/mobile/model.weights.h5",
        "ensembles/both/predictions.csv",
    ]
    options = (
        "-S source=$ARCHIVE -S systems.vgg.weights=$WEIGHTS/w.h5 "
        "-S systems.mobile.weights=$WEIGHTS/w.h5 -S seed=3"
    )
    assert found.documented() == (
        f"dvc exp run -n mine-members {options} evaluate@vgg evaluate@mobile && "
        f"dvc exp run -n mine {options} --single-item ensemble@both"
    )
    assert not (tmp_path / "mine" / "train.json").exists()


def test_unknown_experiment_is_named(repository: Any, tmp_path: Path):
    with pytest.raises(InputError, match="no DVC experiment is named yours"):
        record.copy(repository, "yours", "vgg", tmp_path)


def test_unknown_system_lists_those_evaluated(repository: Any, tmp_path: Path):
    with pytest.raises(InputError, match="no evaluation of cnn: it has those of both, mobile, vgg"):
        record.copy(repository, "mine", "cnn", tmp_path)


def test_changed_files_are_refused(repository: Any, kept: Kept, tmp_path: Path):
    kept.changes["models/vgg"] = {"git": {"commit": COMMIT, "changed": ["src/cxr/x.py"]}}
    with pytest.raises(InputError, match=r"train of mine ran with changed files \(src/cxr/x.py\)"):
        record.copy(repository, "mine", "vgg", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_outputs_of_another_run_are_refused(repository: Any, kept: Kept, tmp_path: Path):
    kept.changes["evaluations/vgg"] = {"inputs": {"shifts/vgg/predictions.csv": "another md5"}}
    with pytest.raises(InputError, match=r"do not belong together: no .*shift"):
        record.copy(repository, "mine", "vgg", tmp_path / "mine")
