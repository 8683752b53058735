"""Files: written whole or not at all, read with the right types, and hashed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cxr import files
from cxr.errors import InputError


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file in a folder that is not there yet."""
    return tmp_path / "new" / "deep" / "a.csv"


def test_the_file_appears_whole_once_the_block_has_ended(target):
    with files.replacing(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_the_old_file_can_be_read_until_the_block_ends(target):
    files.write_text(target, "old")
    with files.replacing(str(target)) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_the_temporary_file_is_hidden_in_the_same_folder_with_the_same_suffixes(tmp_path):
    with files.replacing(tmp_path / "model.weights.h5") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".") and temporary.name.endswith(".weights.h5")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("old", [None, "old"], ids=["nothing before", "an old file"])
def test_a_failure_leaves_the_old_file_and_no_temporary_one(target, stop, old):
    if old:
        files.write_text(target, old)
    with pytest.raises(stop), files.replacing(target) as temporary:
        temporary.write_text("half")
        raise stop
    assert list(target.parent.iterdir()) == ([target] if old else [])
    assert not old or target.read_text() == old


def test_a_writer_that_removes_the_temporary_file_fails(target):
    with pytest.raises(FileNotFoundError), files.replacing(target) as temporary:
        temporary.unlink()
    assert not list(target.parent.iterdir())


def test_a_folder_that_cannot_be_written_to_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("in the way")
    said = r"cannot write .*file/a.csv: .*Make .*file writable"
    with pytest.raises(InputError, match=said), files.replacing(tmp_path / "file" / "a.csv"):
        pytest.fail("the block must not begin")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_of_the_files_name_is_not_replaced(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(OSError, match=r"a\.csv"):
        files.write_text(tmp_path / "a.csv", "text")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.csv"]


KILLED = """
import os, signal
from cxr import files
with files.replacing("model.weights.h5") as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_a_temporary_file_that_the_next_one_removes(tmp_path):
    path = os.pathsep.join(sys.path)
    subprocess.run(
        [sys.executable, "-c", KILLED], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}
    )
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".part.model.weights.h5")
    files.write_text(tmp_path / "model.weights.h5", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["model.weights.h5"]


def test_a_temporary_file_of_a_temporary_file_is_removed_too(tmp_path):
    """As a table has it that is written together with other files (tensors.build)."""
    (tmp_path / ".999999999.part..999999999.part.a.csv").write_text("half")
    files.write_text(tmp_path / "a.csv", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    "name",
    [
        ".{alive}.part.a.csv",
        ".999999999.part.b.csv",
        ".999999999.part.axcsv",
        "999999999.part.a.csv",
    ],
    ids=["a live process's", "another file's", "a name that only resembles it", "not hidden"],
)
def test_other_files_are_not_removed(tmp_path, name):
    """No process has the number 999999999: Linux ends at 4,194,304."""
    other = tmp_path / name.format(alive=os.getppid())
    other.write_text("x")
    files.write_text(tmp_path / "a.csv", "text")
    assert other.read_text() == "x"


def test_text_is_utf_8_with_unix_line_ends(target):
    files.write_text(target, "é\nb\n")
    assert target.read_bytes() == "é\nb\n".encode()


def test_json_is_indented_and_comes_back(target):
    files.write_json(target, {"b": [1, None], "a": 0.1})
    assert target.read_text() == '{\n  "b": [\n    1,\n    null\n  ],\n  "a": 0.1\n}\n'
    assert files.read_json(target) == {"b": [1, None], "a": 0.1}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff"], ids=["empty", "cut", "list", "latin"]
)
def test_a_file_that_is_no_json_object_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json is not a JSON object .*run `dvc repro`"):
        files.read_json(tmp_path / "a.json")


def test_a_table_comes_back_with_its_types(target):
    table = pd.DataFrame(
        {
            "id": ["001", "NA", "1e5"],
            "patient": ["7", "nan", ""],
            "label": [0, 1, 0],
            "patient_known": [True, False, True],
            "val_loss": [0.1 + 0.2, float("nan"), 1e-300],
        }
    )
    files.write_csv(target, table)
    pd.testing.assert_frame_equal(files.read_csv(target), table, check_exact=True)
    assert b"\r" not in target.read_bytes()


@pytest.mark.parametrize(
    "content", [b"", b'a,b\n1,"2\n', b"a\n\xff\n"], ids=["empty", "cut", "latin"]
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.csv is not a CSV table .*run `dvc repro`"):
        files.read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize("read", [files.read_bytes, files.read_json, files.read_csv])
def test_a_missing_file_is_refused_with_how_to_get_it(tmp_path, read):
    with pytest.raises(InputError, match=r"a\.csv is missing: make it with `dvc repro`, or get"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "data", [b"", b"abc", bytes(3_000_000)], ids=["nothing", "three bytes", "3 MB"]
)
def test_a_file_and_its_bytes_have_hashlibs_hashes(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert files.file_sha256(tmp_path / "file") == expected
    assert files.bytes_sha256(data) == expected
    assert files.file_md5(tmp_path / "file") == hashlib.md5(data).hexdigest()


def test_the_sha256_of_abc_is_the_standards():
    """FIPS 180-2, appendix B.1."""
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.bytes_sha256(b"abc") == expected
