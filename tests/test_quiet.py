"""TensorFlow's log level holds during its import too, and hides no error."""

import os
import subprocess
import sys

import pytest

from cxr import quiet
from tests.paths import ROOT

NOTES = ("cuda", "absl::", "port.cc", "cpu_feature_guard", "instructions")
FAKE = """\
import os
os.write(2, b"a note of a library\\n")
{then}
os.environ["LATER"] = "1"
"""


def stderr_of(code: str, folder: str = "", **env: str) -> str:
    """Run code in a new process, with a folder before all others, and return its stderr."""
    inherited = {name: value for name, value in os.environ.items() if name != quiet.LEVEL}
    places = os.pathsep.join(filter(None, [folder, str(ROOT), str(ROOT / "src")]))
    return subprocess.run(
        [sys.executable, "-c", code], env=inherited | {"PYTHONPATH": places} | env,
        capture_output=True, text=True, check=False,
    ).stderr  # fmt: skip


def fake(folder, then: str = "") -> str:
    """Write a package named tensorflow that writes a note when it is imported."""
    (folder / "tensorflow.py").write_text(FAKE.format(then=then))
    return str(folder)


LOADING = "from cxr import quiet; quiet.tensorflow(); import tensorflow; "


@pytest.mark.skipif(any(p.exists() for p in quiet.DRIVERS), reason="this machine has a GPU")
def test_a_stage_says_nothing_of_missing_drivers():
    said = stderr_of(
        "import stages, keras\n"
        "keras.distribution.list_devices()\n"
        "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])\n"
        "model.predict(keras.ops.zeros((2, 4)), verbose=0)\n",
        KERAS_BACKEND="tensorflow",
    )
    assert not [note for note in NOTES if note in said], said


def test_what_the_import_writes_is_hidden_and_what_comes_later_is_not(tmp_path):
    later = LOADING + "import os; os.write(2, os.environ['LATER'].encode() + b' later')"
    assert stderr_of(later, fake(tmp_path)) == "1 later"


@pytest.mark.parametrize(("level", "shown"), [("0", True), ("1", True), ("2", False)])
def test_the_users_own_level_counts(tmp_path, level, shown):
    said = stderr_of(LOADING, fake(tmp_path), TF_CPP_MIN_LOG_LEVEL=level)
    assert ("a note" in said) == shown


def test_a_failing_import_shows_all_of_it(tmp_path):
    said = stderr_of(LOADING, fake(tmp_path, "raise ImportError('no such library')"))
    assert said.startswith("a note of a library\n")
    assert said.endswith("ImportError: no such library\n")


def test_an_import_that_ends_the_process_shows_where(tmp_path):
    said = stderr_of(LOADING, fake(tmp_path, "os.abort()"))
    assert "Fatal Python error: Aborted" in said
    assert "tensorflow.py" in said


def test_a_second_call_changes_nothing(tmp_path):
    assert stderr_of("from cxr import quiet; quiet.tensorflow(); " + LOADING, fake(tmp_path)) == ""
