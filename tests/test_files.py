"""Files are written whole or not at all, and nothing is left beside them."""

from pathlib import Path

import pytest

from cxr import files
from cxr.errors import InputError


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file in a folder that is not there yet."""
    return tmp_path / "new" / "deep" / "a.csv"


def test_the_file_appears_whole_once_the_block_has_ended(target):
    with files.replacing(target) as beside:
        beside.write_text("half")
        assert not target.exists()
        beside.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_the_old_file_can_be_read_until_then(target):
    files.write_text(target, "old")
    with files.replacing(str(target)) as beside:
        beside.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_the_temporary_file_lies_beside_hidden_and_keeps_the_suffixes(tmp_path):
    with files.replacing(tmp_path / "model.weights.h5") as beside:
        assert beside.parent == tmp_path
        assert beside.name.startswith(".") and beside.name.endswith(".weights.h5")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("old", [None, "old"], ids=["nothing before", "an old file"])
def test_a_failure_leaves_what_was_there_and_nothing_beside(target, stop, old):
    if old:
        files.write_text(target, old)
    with pytest.raises(stop), files.replacing(target) as beside:
        beside.write_text("half")
        raise stop
    assert list(target.parent.iterdir()) == ([target] if old else [])
    assert not old or target.read_text() == old


def test_a_writer_that_removes_its_file_is_told_so(target):
    with pytest.raises(FileNotFoundError), files.replacing(target) as beside:
        beside.unlink()
    assert not list(target.parent.iterdir())


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    said = r"cannot write .*file/a.csv: .*Make .*file writable"
    with pytest.raises(InputError, match=said), files.replacing(tmp_path / "file" / "a.csv"):
        pytest.fail("the block must not begin")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_in_the_files_place_stays(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(OSError, match=r"a\.csv"):
        files.write_text(tmp_path / "a.csv", "text")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.csv"]


def test_text_is_utf_8_with_unix_line_ends(target):
    files.write_text(target, "é\nb\n")
    assert target.read_bytes() == "é\nb\n".encode()
