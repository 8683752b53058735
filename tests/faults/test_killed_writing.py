"""SIGKILL while a stage writes: nothing half-written is taken for whole, and a rerun works.

Trainings are killed in tests/training; here are the other kinds of file: zip, tables, JSON, the
memory-mapped array and images.
"""

import importlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cxr import cli, files, params
from cxr.errors import InputError
from tests.paths import PYTHONPATH, ROOT

# Stage, its arguments, its folder, and the file that it writes last but for provenance.json.
STAGES = [
    ("download", [], "raw", "source.json"),
    ("split", [], "splits", "summary.json"),
    ("preprocess", ["32"], "tensors/32", "index.csv"),
]
KILLED = """
import os, runpy, signal, sys
from pathlib import Path

name, whole = sys.argv.pop(1), Path.replace


def replace(self, target):
    if Path(target).name == name:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, target)


Path.replace = replace
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def killed(root: Path, stage: str, *arguments: str, at: str) -> int:
    """Run a stage that is killed when the file ``at`` is whole and about to be renamed."""
    return subprocess.run(
        [sys.executable, "-c", KILLED, at, f"stages.{stage}", *arguments],
        cwd=root, env=os.environ | {"PYTHONPATH": PYTHONPATH}, capture_output=True, check=False,
    ).returncode  # fmt: skip


def run(stage: str, *arguments: str) -> None:
    """Run a stage in the current folder, in this process, without its log in MLflow."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cxr.tracking.client.write", lambda *_, **__: None)
        runner = importlib.import_module(f"stages.{stage}")
        runner.work(params.load(), *map(int, arguments))


def content(folder: Path) -> dict[str, str]:
    """Return the hash of every file that a reader sees, but for provenance.json."""
    seen = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {p.name: files.file_md5(p) for p in seen if p.name != "provenance.json"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_archive) -> Path:
    """A folder in which the three stages have run."""
    root = tmp_path_factory.mktemp("whole")
    yaml = YAML()
    settings = yaml.load(ROOT / "params.yaml")
    settings["source"] = str(tiny_archive)
    for side in ("val", "test"):
        settings["split"][side] = {"NORMAL": 2, "PNEUMONIA": 4}
    settings["split"]["patients"] = str(ROOT / "sources/patients.csv")
    yaml.dump(settings, root / "params.yaml")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(root)
        for stage, arguments, _, _ in STAGES:
            run(stage, *arguments)
    return root


@pytest.mark.parametrize(
    ("stage", "arguments", "folder", "last"), STAGES, ids=[stage[0] for stage in STAGES]
)
def test_a_killed_stage_runs_again(whole, tmp_path, monkeypatch, stage, arguments, folder, last):
    root = tmp_path / "root"
    shutil.copytree(whole, root)
    shutil.rmtree(root / folder)  # as DVC does before it runs a stage
    assert killed(root, stage, *arguments, at=last) == -signal.SIGKILL
    expected, left = content(whole / folder), content(root / folder)
    assert left.items() < expected.items()
    assert last not in left
    assert [path for path in (root / folder).iterdir() if path.name.startswith(".")]
    monkeypatch.chdir(root)
    run(stage, *arguments)
    assert content(root / folder) == expected
    assert not [path for path in (root / folder).iterdir() if path.name.startswith(".")]


def test_what_a_killed_stage_left_is_not_logged(whole, tmp_path, monkeypatch):
    (tmp_path / "splits").mkdir()
    shutil.copyfile(whole / "splits/manifest.csv", tmp_path / "splits/manifest.csv")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no provenance\.json"):
        cli.sync(False)
