"""`cxr check`: what DVC does not notice, and that its advice restores it."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cxr import integrity
from cxr.errors import InputError
from tests.paths import PATH

PIPELINE = """
stages:
  report:
    cmd: python make.py
    outs: [report.txt, pages, never.txt]
  not_run:
    cmd: "false"
    outs: [never]
"""
MAKE = """
from pathlib import Path
Path("report.txt").write_text("one")
Path("never.txt").write_text("two")
Path("pages").mkdir(exist_ok=True)
for name in ("a", "b"):
    Path("pages", name).write_text(name)
"""


def call(*command: str) -> str:
    done = subprocess.run(
        command, env=os.environ | {"PATH": PATH}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def dvc(*command: str) -> str:
    return call(sys.executable, "-m", "dvc", *command)


def commit() -> str:
    """Commit everything and return the commit."""
    call("git", "add", ".")
    user = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    call("git", *user, "commit", "--quiet", "--message", "as it is")
    return call("git", "rev-parse", "HEAD").strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A repository whose only stage that can run has run, with its cache in another folder."""
    root = tmp_path_factory.mktemp("repository") / "root"
    root.mkdir()
    before = Path.cwd()
    os.chdir(root)
    try:
        call("git", "init", "--quiet")
        dvc("init", "--quiet")
        dvc("config", "core.analytics", "false")
        dvc("cache", "dir", "../cache")
        Path("dvc.yaml").write_text(PIPELINE)
        Path("make.py").write_text(MAKE)
        dvc("repro", "--quiet", "report")
        commit()
    finally:
        os.chdir(before)
    return root.parent


@pytest.fixture
def repository(made, tmp_path, monkeypatch) -> Path:
    shutil.copytree(made, tmp_path / "copy")  # keeps the times that DVC compares
    monkeypatch.chdir(tmp_path / "copy" / "root")
    return Path.cwd()


def stored(content: str) -> Path:
    md5 = hashlib.md5(content.encode()).hexdigest()
    return Path("../cache/files/md5").resolve() / md5[:2] / md5[2:]


def damage(path: Path) -> None:
    """Change a byte, as a bad disk would: size, time and permissions stay."""
    before = path.stat()
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def said(caplog) -> str:
    caplog.clear()
    with pytest.raises(InputError) as end:
        integrity.check(Path())
    return "\n".join([*(record.getMessage() for record in caplog.records), str(end.value)])


def is_whole() -> bool:
    integrity.check(Path())
    return True


def test_a_whole_repository_is_whole(repository):
    assert is_whole()


def test_dvc_does_not_notice_a_damaged_object_and_check_does(repository, caplog):
    damage(stored("one"))
    assert "up to date" in dvc("status", "report")
    message = said(caplog)
    assert f"{stored('one')} is damaged. It belongs to report.txt. Remove it; then" in message
    assert "1 of 5 objects" in message
    stored("one").unlink()
    dvc("commit", "--quiet", "report")  # as it says, because the output is whole
    assert is_whole()


def test_a_damaged_object_and_output_are_made_again(repository, caplog):
    damage(stored("one"))
    damage(Path("report.txt"))
    message = said(caplog)
    assert "or `dvc repro` makes it again" in message
    assert "report.txt has changed since DVC wrote it" in message
    stored("one").unlink()
    Path("report.txt").unlink()
    dvc("repro", "--quiet", "report")
    assert is_whole()


def test_an_object_of_an_earlier_commit_is_named_with_it(repository, caplog):
    before = call("git", "rev-parse", "HEAD")
    Path("make.py").write_text(MAKE.replace("one", "three"))
    dvc("repro", "--quiet", "--force", "report")
    commit()
    damage(stored("one"))
    assert f"It belongs to report.txt (of {before[:9]})." in said(caplog)


def test_a_changed_output_is_restored(repository, caplog):
    damage(Path("pages/a"))
    assert "pages/a has changed since DVC wrote it. Remove it; then `dvc checkout pages`" in said(
        caplog
    )
    Path("pages/a").unlink()
    dvc("checkout", "--quiet", "pages")
    assert is_whole()


def test_missing_and_unknown_files_in_a_folder_are_named(repository, caplog):
    Path("pages/a").unlink()
    Path("pages/c").write_text("c")
    message = said(caplog)
    assert "pages/a has changed" in message
    assert "pages/c has changed" in message


def test_a_damaged_list_of_files_is_found_by_its_name(repository, caplog):
    (listing,) = Path("../cache").resolve().rglob("*.dir")
    damage(listing)
    assert "It belongs to pages" in said(caplog)


def test_an_output_that_is_not_here_is_no_damage(repository):
    Path("report.txt").unlink()
    assert is_whole()


def test_half_written_objects_of_a_killed_dvc_do_not_count(repository):
    (stored("one").parent / "hBcf2ZQ8.tmp").write_text("half")
    assert is_whole()


def test_a_folder_without_dvc_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is not a DVC repository: run from the repository's root"):
        integrity.check(Path())
