"""A stage loads Keras, MLflow, scikit-learn and Matplotlib only where it uses them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.clone import COUNTS, Clone
from tests.paths import PYTHONPATH, ROOT
from tools import phantom

# Each takes a tenth of a second to several seconds to import.
HEAVY = ("keras", "keras_hub", "matplotlib", "mlflow", "mlflow.keras", "sklearn", "tensorflow")
RECORD = """\
import atexit, json, os, runpy, sys
atexit.register(lambda: open("modules.json", "w").write(json.dumps(sorted(sys.modules))))
sys.path[0] = os.getcwd()
stage = sys.argv.pop(1)
runpy.run_module(f"stages.{stage}", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with the parameters, and an archive of phantoms for a source."""
    root = tmp_path_factory.mktemp("project")
    phantom.write_archive(root / "tiny.zip", seed=1, images=40, size_range=(40, 64))
    shutil.copytree(ROOT / "sources", root / "sources")
    yaml = YAML()
    settings = yaml.load(ROOT / "params.yaml") | {"source": "tiny.zip"}
    settings["split"] |= {"val": COUNTS, "test": COUNTS}
    yaml.dump(settings, root / "params.yaml")
    return root


def loaded(root: Path, path: str, stage: str, *arguments: str) -> set[str]:
    """Run a stage in a folder, with code from ``path``, and return what of HEAVY it loads."""
    subprocess.run(
        [sys.executable, "-c", RECORD, stage, *arguments], cwd=root, check=True,
        capture_output=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    modules = set(json.loads((root / "modules.json").read_text()))
    (root / "modules.json").unlink()
    return modules & set(HEAVY)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        *((name, set()) for name in ("download", "split", "preprocess", "weights")),
        ("shifted", set()),
        ("audit", {"sklearn"}),
        ("compare", {"sklearn", "matplotlib"}),
    ],
)
def test_a_stage_starts_without_what_it_does_not_need(project, stage, expected):
    assert loaded(project, PYTHONPATH, stage, "--help") == expected


def test_stages_of_data_log_their_run_without_keras(project):
    for stage in (["download"], ["split"], ["preprocess", "24"]):
        assert loaded(project, PYTHONPATH, *stage) == {"mlflow"}, stage


def test_random_weights_need_nothing(project):
    assert loaded(project, PYTHONPATH, "weights", "cnn") == set()


def test_the_report_is_made_and_logged_without_keras(clone: Clone):
    code = f"{clone.root}{os.pathsep}{clone.root / 'src'}"
    try:
        loaded(clone.root, code, "compare")  # logs models that other tests have removed from MLflow
        assert loaded(clone.root, code, "compare") == {"matplotlib", "mlflow", "sklearn"}
    finally:
        clone.call("dvc", "checkout", "--quiet", "--force", "compare")
