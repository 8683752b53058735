"""provenance.json: it describes the start of a stage, whatever changes while the stage runs."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from cxr import files, machine
from cxr.errors import InputError
from cxr.tracking import provenance


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that is no git repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture
def repository(folder):
    git("init", "--quiet")
    for name in ("code.py", "params.yaml", "dvc.lock"):
        (folder / name).write_text("1\n")
    (folder / ".gitignore").write_text("/out/\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    return folder


def start(settings, inputs=(), **parameters):
    return provenance.start("split", settings, parameters, inputs)


class TestGit:
    def test_user_is_gits_and_nothing_of_the_environment(self, repository, settings, monkeypatch):
        monkeypatch.setenv("USER", "someone")
        assert start(settings).provenance["user"] is None
        git("config", "user.name", "Ada Lovelace")
        assert start(settings).provenance["user"] == "Ada Lovelace"

    def test_outside_of_a_repository_there_is_no_commit(self, folder, settings):
        assert start(settings).provenance["git"] == {"commit": None, "changed": []}

    def test_without_git_there_is_no_commit(self, repository, settings, monkeypatch):
        monkeypatch.setenv("PATH", str(repository))
        assert start(settings).provenance["git"] == {"commit": None, "changed": []}

    def test_a_repository_without_a_commit_has_none(self, folder, settings):
        git("init", "--quiet")
        assert start(settings).provenance["git"]["commit"] is None

    def test_a_clean_tree_has_its_commit_and_no_changes(self, repository, settings):
        head = git("rev-parse", "HEAD")
        assert start(settings).provenance["git"] == {"commit": head, "changed": []}

    def test_changed_new_moved_and_deleted_files_are_listed(self, repository, settings):
        git("mv", "code.py", "moved.py")
        (repository / "src").mkdir()
        name = os.fsdecode("ä b.py".encode())  # UTF-8 in any locale
        (repository / "src" / name).write_text("2\n")
        listed = start(settings).provenance["git"]["changed"]
        assert listed == ["code.py", "moved.py", "src/ä b.py"]

    def test_parameters_lock_and_ignored_files_are_no_code(self, repository, settings):
        for name in ("params.yaml", "dvc.lock"):
            (repository / name).write_text("2\n")
        (repository / "out" / "x.csv").write_text("3\n")
        assert start(settings).provenance["git"]["changed"] == []

    def test_the_commit_is_that_of_the_start(self, repository, settings):
        head = git("rev-parse", "HEAD")
        started = start(settings)
        git("commit", "--quiet", "--allow-empty", "-m", "meanwhile")
        provenance.finish(started, Path("out"))
        assert files.read_json("out/provenance.json")["git"]["commit"] == head


class TestFinish:
    def test_inputs_are_those_of_the_start_and_outputs_those_of_the_end(self, folder, settings):
        files.write_text("in/a.csv", "before")
        started = start(settings, [Path("in")])
        files.write_text("out/deep/b.csv", "made")
        files.write_text("out/.7.part.c.csv", "half-written by a killed process")
        provenance.finish(started, Path("out"))
        note = files.read_json("out/provenance.json")
        assert note["inputs"] == {"in/a.csv": hashlib.md5(b"before").hexdigest()}
        assert note["outputs"] == {"out/deep/b.csv": hashlib.md5(b"made").hexdigest()}

    def test_an_earlier_provenance_file_is_no_output(self, folder, settings):
        for _ in range(2):
            provenance.finish(start(settings), Path("out"))
        assert files.read_json("out/provenance.json")["outputs"] == {}

    def test_experiment_of_dvc_is_that_of_the_start(self, folder, settings, monkeypatch):
        monkeypatch.setenv("DVC_EXP_NAME", "three")
        monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0123abc")
        started = start(settings)
        monkeypatch.setenv("DVC_EXP_NAME", "four")
        provenance.finish(started, Path("out"))
        note = files.read_json("out/provenance.json")
        assert note["dvc"] == {"experiment": "three", "baseline": "0123abc"}

    def test_has_all_keys_in_order(self, folder, settings):
        provenance.finish(start(settings, seed=3), Path("out"))
        note = files.read_json("out/provenance.json")
        assert list(note) == [
            "id", "stage", "item", "started", "ended", "seconds", "user", "git", "dvc",
            "mlflow_experiment", "parameters", "inputs", "outputs", "device", "cores", "versions",
        ]  # fmt: skip
        assert len(note["id"]) == 32
        assert note["started"].endswith("+00:00")
        assert note["parameters"] == {"seed": 3}
        assert note["device"] == machine.cpu_name()
        assert {"python", "keras", "numpy", "mlflow", "dvc"} <= note["versions"].keys()

    def test_training_and_its_device_are_added(self, folder, settings):
        provenance.finish(start(settings), Path("out"), "a GPU", {"policy": "float32"})
        note = files.read_json("out/provenance.json")
        assert (note["device"], note["training"]) == ("a GPU", {"policy": "float32"})

    def test_two_runs_of_a_stage_have_two_ids(self, folder, settings):
        assert start(settings).provenance["id"] != start(settings).provenance["id"]


def test_missing_input_says_how_to_get_it(folder, settings):
    with pytest.raises(InputError, match=r"raw/xrays.zip is missing: make it with `dvc repro`"):
        start(settings, [Path("raw/xrays.zip")])


def test_chosen_parameters_are_nested_as_in_params_yaml(settings):
    chosen = provenance.chosen(settings, "seed", "training.precision", "systems.cnn.image_size")
    assert chosen == {
        "seed": 0,
        "training": {"precision": "auto"},
        "systems": {"cnn": {"image_size": 150}},
    }


class TestSittings:
    def sitting(self, settings, **changes):
        return provenance.sitting(start(settings), "a CPU") | changes

    def test_a_resumed_training_has_the_id_and_start_of_its_first_sitting(self, folder, settings):
        first = self.sitting(settings, id="first", started="2026-01-01T00:00:00+00:00")
        now = start(settings)
        went_on = provenance.resumed(now, [first, provenance.sitting(now, "a CPU")], 100.0)
        assert went_on.provenance["id"] == "first"
        assert went_on.provenance["started"] == first["started"]
        assert went_on.provenance["parameters"] == now.provenance["parameters"]
        provenance.finish(went_on, Path("out"))
        written = files.read_json("out/provenance.json")
        assert 100 <= written["seconds"] < 160  # the earlier sittings and this one

    def test_a_training_in_one_sitting_keeps_its_own(self, folder, settings):
        now = start(settings)
        went_on = provenance.resumed(now, [provenance.sitting(now, "a CPU")], 0.0)
        assert went_on.provenance == now.provenance

    def test_a_sitting_names_commit_and_device(self, repository, settings):
        head = git("rev-parse", "HEAD")
        assert self.sitting(settings)["commit"] == head
        assert self.sitting(settings)["device"] == "a CPU"
