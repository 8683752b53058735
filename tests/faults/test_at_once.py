"""Experiments at once on one SQLite file: all succeed, and each has its complete runs in MLflow."""

import subprocess
import time

import pytest

from tests import clone
from tests.clone import Clone, environment


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which download and split have run, and whose MLflow database is gone."""
    made = clone.made(Clone(tmp_path_factory.mktemp("at once") / "clone"))
    tiny = clone.overrides(clone.TINY)
    made.call("dvc", "exp", "run", "--single-item", *tiny, "download", "split")
    made.call("git", "add", ".")
    made.call("git", "commit", "--quiet", "-m", "tiny")
    for path in made.root.glob("mlflow.db*"):
        path.unlink()
    return made


def assert_logged(made: Clone, experiments: dict[str, int]) -> None:
    """Each experiment has one complete run of split, with its own seed."""
    runs = made.runs()
    for name, seed in experiments.items():
        ((_, run),) = runs[runs["tags.dvc.experiment"] == name].iterrows()
        assert run["status"] == "FINISHED"
        assert run["params.seed"] == str(seed)
        assert run["tags.cxr.split.complete"] == run["tags.cxr.split.id"]


def test_two_temporary_experiments(split):
    """The database is new: MLflow's migrations of it are slow, and two at once fail."""
    started = [
        subprocess.Popen(
            ["dvc", "exp", "run", "--temp", "-n", f"temporary-{seed}", "-S", f"seed={seed}",
             "--single-item", "split"],
            cwd=split.root, env=environment(**split.settings), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8",
        )
        for seed in (1, 2)
    ]  # fmt: skip
    said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert not any("could not log" in text or "Traceback" in text for text in said), said
    assert_logged(split, {"temporary-1": 1, "temporary-2": 2})


def test_the_queue_with_two_workers(split):
    for seed in (3, 4):
        split.call("dvc", "exp", "run", "--queue", "-n", f"queued-{seed}", "-S", f"seed={seed}",
                   "--single-item", "split")  # fmt: skip
    split.call("dvc", "queue", "start", "--jobs", "2")
    end = time.monotonic() + 300
    try:
        # Git is asked, because DVC takes a core for a second to say how far the queue is.
        while split.call("git", "for-each-ref", "refs/exps").count("queued-") < 2:
            assert time.monotonic() < end, split.call("dvc", "queue", "status")
            time.sleep(0.2)
    finally:
        split.call("dvc", "queue", "stop", "--kill")
    assert_logged(split, {"queued-3": 3, "queued-4": 4})
