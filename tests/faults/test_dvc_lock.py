"""Locks and leftovers of DVC: what it says, and that docs/TROUBLESHOOTING.md helps."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import PATH, ROOT

DOCS = (ROOT / "docs" / "TROUBLESHOOTING.md").read_text(encoding="utf-8")
# A stage that ends if the file `go` is there, so that a test can kill DVC while it runs.
PIPELINE = """
stages:
  slow:
    cmd: while [ ! -e "$GO" ]; do sleep 0.1; done; echo ${seed} > out.txt
    params: [seed]
    outs: [out.txt]
"""


class Repository:
    """A git and DVC repository with one stage that waits for the file :attr:`go`."""

    def __init__(self, root: Path) -> None:
        self.root, self.go = root, root.parent / "go"

    def run(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def environment(self) -> dict[str, str]:
        return os.environ | {"PATH": PATH, "GO": str(self.go)}

    def dvc(self, *arguments: str, fails: bool = False) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments, fails=fails)

    def kill(self, *arguments: str) -> None:
        """Start a DVC command, and kill it and its stage when the stage runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments], cwd=self.root, env=self.environment(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        said = []
        try:
            for line in process.stdout:
                said.append(line)
                if "Running stage" in line:
                    break
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            self.go.touch()
        assert "Running stage" in said[-1], said


@pytest.fixture(scope="module")
def committed(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("repository") / "root"
    root.mkdir()
    made = Repository(root)
    made.run("git", "init", "--quiet", "--initial-branch=main")
    made.run("git", "config", "user.name", "test")
    made.run("git", "config", "user.email", "test@example.org")
    made.dvc("init", "--quiet")
    made.dvc("config", "core.analytics", "false")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text("seed: 0\n")
    made.run("git", "add", ".")
    made.run("git", "commit", "--quiet", "-m", "first")
    return root


@pytest.fixture
def repository(committed, tmp_path) -> Repository:
    shutil.copytree(committed, tmp_path / "root")
    return Repository(tmp_path / "root")


def assert_documented(said: str) -> str:
    """Headings of the page have the messages, with ... for what differs; return their advice."""
    flat = " ".join(said.split())
    advice = [
        advice
        for heading, advice in re.findall(r"^### (.+)\n\n((?:.+\n)+)", DOCS, re.MULTILINE)
        if re.search(".*?".join(map(re.escape, heading.split("..."))), flat)
    ]
    assert advice, f"docs/TROUBLESHOOTING.md has no heading for: {flat}"
    return "\n".join(advice)


def test_each_lock_of_a_killed_repro_is_explained_and_the_stage_runs_again(repository):
    repository.kill("repro")
    path = repository.root / ".dvc/tmp/rwlock"
    left = path.read_text()
    assert json.loads(left)["write"]

    path.write_text(left[:100])  # killed while it wrote
    said = repository.dvc("repro", fails=True)
    assert "rm .dvc/tmp/rwlock" in assert_documented(said)

    path.write_text(re.sub(r'"pid": \d+', f'"pid": {os.getpid()}', left))  # a number used again
    said = repository.dvc("repro", fails=True)
    assert "rm .dvc/tmp/rwlock" in assert_documented(said)

    path.write_text(left)
    assert "There is nothing to do" in assert_documented(repository.dvc("repro"))
    assert (repository.root / "out.txt").read_text() == "0\n"


def test_a_killed_experiment_leaves_the_branch(repository):
    repository.kill("exp", "run", "-n", "one", "-S", "seed=1")
    said = repository.run("git", "-c", "core.quotePath=true", "status")
    assert "git switch main" in assert_documented(said)
    repository.run("git", "switch", "--quiet", "main")
    repository.run("git", "checkout", "--quiet", "params.yaml")
    assert not repository.run("git", "status", "--porcelain")
    repository.dvc("exp", "run", "-n", "one", "-S", "seed=1")
    assert (repository.root / "out.txt").read_text() == "1\n"
    assert repository.run("git", "branch", "--show-current") == "main\n"


def test_a_killed_temporary_experiment_seems_to_run_for_ever(repository):
    repository.kill("exp", "run", "--temp", "-n", "two", "-S", "seed=2")
    assert "Running" in repository.dvc("exp", "show", "--csv")
    assert list(repository.root.glob(".dvc/tmp/exps/standalone/tmp*"))
    (advice,) = re.findall(r"`(rm -r \.dvc/tmp/exps.*?)`", DOCS)
    repository.run("sh", "-c", advice)
    assert "Running" not in repository.dvc("exp", "show", "--csv")
    repository.dvc("exp", "run", "--temp", "-n", "two", "-S", "seed=2")
    assert "two" in repository.dvc("exp", "show", "--csv")


def test_a_name_that_is_taken_is_removed_and_nothing_runs_twice(repository):
    repository.go.touch()
    run = ("exp", "run", "-n", "one", "-S", "seed=1")
    repository.dvc(*run)
    said = repository.dvc(*run[:-1], "seed=2", fails=True)
    assert "`dvc exp remove NAME`" in assert_documented(said)
    assert "Running stage" in repository.dvc(*run, "-f")  # although nothing has changed
    repository.dvc("exp", "remove", "one")
    assert "Running stage" not in repository.dvc(*run)
    assert "one" in repository.dvc("exp", "show", "--csv")
