"""Stages forked from one process: they see what a `python` of their own would show them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PREFORK = [sys.executable, str(ROOT / "stages/prefork.py")]
TELL = """
import os, sys
if __name__ == "__main__":
    print(sys.argv[1:], os.getcwd(), os.environ.get("TOLD"), "keras" in sys.modules, flush=True)
    print(sys.path[0], file=sys.stderr)
    print(sys.stdin.read(), end="")
    sys.exit(int(sys.argv[1]))
"""
SLEEP = """
import os, pathlib, time
pathlib.Path("pid").write_text(str(os.getpid()))
time.sleep(600)
"""
COMMAND = """
export TOLD=yes
echo from stdin | python -m stages.tell 3 'two words'
echo "code $?"
python -m stages.crash 2> traceback
echo "code $?"
python -c 'print("keras" in __import__("sys").modules)'
KERAS_BACKEND=jax python -m stages.tell 0 < /dev/null
python -m stages.sleep & stand_in=$!
while [ ! -s pid ]; do sleep 0.1; done
kill $stand_in
exit 5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stages of its own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "stages").mkdir()
    (folder / "stages/tell.py").write_text(TELL)
    (folder / "stages/sleep.py").write_text(SLEEP)
    (folder / "stages/crash.py").write_text("import stages.tell\n1 / 0\n")
    return folder


@pytest.fixture(scope="module")
def done(folder: Path) -> subprocess.CompletedProcess[str]:
    """One run of all: it imports TensorFlow."""
    (folder / "temporary").mkdir()
    environment = os.environ | {"TMPDIR": str(folder / "temporary"), "KERAS_BACKEND": "tensorflow"}
    return subprocess.run(
        [*PREFORK, "sh", "-c", COMMAND],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_a_stage_has_arguments_folder_environment_and_streams(done, folder):
    assert f"['3', 'two words'] {folder} yes True\nfrom stdin\ncode 3\n" in done.stdout
    assert f"\n{folder}\n" in done.stderr


def test_a_stage_that_crashes_says_where(done, folder):
    assert "code 1\n" in done.stdout
    assert "ZeroDivisionError" in (folder / "traceback").read_text()


def test_another_python_is_its_own(done):
    assert "code 1\nFalse\n" in done.stdout


def test_a_stage_ends_with_the_one_that_waits_for_it(done, folder):
    pid = int((folder / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"stage {pid} goes on")


def test_the_command_gives_the_exit_code_and_nothing_is_left(done, folder):
    assert done.returncode == 5
    assert not list((folder / "temporary").iterdir())


def test_for_another_backend_the_command_runs_as_it_is():
    found = subprocess.run(
        [*PREFORK, "sh", "-c", "command -v python; exit 4"],
        env=os.environ | {"KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "prefork" not in found.stdout
    assert found.returncode == 4


def test_a_stage_for_another_backend_is_its_own(done):
    assert "['0'] " in done.stdout
    assert done.stdout.split("['0'] ", 1)[1].split("\n", 1)[0].endswith("False")


def test_a_command_that_is_not_there_is_named():
    found = subprocess.run([*PREFORK, "dcv", "repro"], capture_output=True, text=True, check=False)
    assert found.stderr.startswith("error: there is no command 'dcv'")
    assert found.returncode == 1


def test_explains_itself():
    found = subprocess.run(PREFORK, capture_output=True, text=True, check=False)
    assert "usage: python stages/prefork.py" in found.stderr
