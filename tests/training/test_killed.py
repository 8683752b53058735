"""Trainings that are killed at random moments end with the bytes of one that was not."""

import multiprocessing
import random
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.paths import PYTHONPATH
from tests.training import killed

KILLS = 20

CONTEXT = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """Run a server that has imported TensorFlow, so that its children need not, for this module.

    Another one may run already, which knows neither what to import nor where that is.
    """
    own = forkserver.ForkServer()
    own.set_forkserver_preload(["tests.training.killed"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forkserver, "connect_to_new_process", own.connect_to_new_process)
        patch.setenv("PYTHONPATH", PYTHONPATH)
        yield
    own._stop()


def child(root: Path, reports: Connection) -> None:
    killed.run(root, reports.send)


def sitting(root: Path, epochs: int | None, delay: float = 0.0) -> bool:
    """Train until so many epochs have ended and ``delay`` seconds have passed, then kill.

    Returns:
        Whether the training ended before that; with ``epochs`` None it always does.
    """
    reports, sending = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=child, args=(root, sending), daemon=True)
    process.start()
    sending.close()
    try:
        reports.recv()
        while epochs is None or epochs > 0:
            reports.recv()
            epochs = epochs and epochs - 1
        time.sleep(delay)
    except EOFError:  # the process has ended
        pass
    else:
        process.kill()
    process.join()
    assert process.exitcode in (0, -9)
    return process.exitcode == 0


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, server) -> dict[str, str]:
    root = tmp_path_factory.mktemp("uninterrupted")
    assert sitting(root, None)
    return killed.hashes(root / "model")


def test_outputs_are_equal_after_kills_at_random_moments(tmp_path, uninterrupted):
    chance = random.Random()  # other moments each time: none may matter
    kills, trainings = 0, 0
    while kills < KILLS:
        root = tmp_path / str(trainings)
        while not sitting(root, chance.choice([0, 0, 1, 1, 2, 3]), chance.uniform(0, 0.15)):
            kills += 1
        trainings += 1
        assert killed.hashes(root / "model") == uninterrupted
        assert not (root / "checkpoints" / "tiny").exists()
