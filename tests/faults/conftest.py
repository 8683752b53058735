"""Fixtures of the fault tests: a disk that can be full."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A folder whose disk a test fills: nothing outside of it is affected for long.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def full(self, left: int) -> Iterator[None]:
        """Leave room for ``left`` more bytes while the block runs."""
        raise NotImplementedError


class Tmpfs(Disk):
    """A file system of its own, in memory, filled with one large file."""

    @contextmanager
    def full(self, left: int) -> Iterator[None]:
        ballast = self.path.parent / "ballast"
        room = os.statvfs(self.path)
        with ballast.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, room.f_bavail * room.f_frsize - left)
        try:
            yield
        finally:
            ballast.unlink()


class Limited(Disk):
    """A limit on the size of each file (``ulimit -f``) of this process and those it starts."""

    @contextmanager
    def full(self, left: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (left, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Tmpfs]:
    """A disk of 32 MB in memory; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    if shutil.which("mount") is None:
        pytest.skip("there is no program `mount` here")
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(
            f"a tmpfs cannot be mounted here ({done.stderr.strip()}): run the tests as root"
        )
    (folder / "work").mkdir()
    try:
        yield Tmpfs(folder / "work")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(params=["full disk", "file size limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """A disk that :meth:`Disk.full` fills; the second kind works for every user."""
    if request.param == "full disk":
        return request.getfixturevalue("tmpfs")
    (tmp_path / "limited").mkdir()
    return Limited(tmp_path / "limited")
