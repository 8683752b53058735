"""Files of frozen features: written in place, whole or not at all, and found again."""

import errno
import json
import os
import tracemalloc

import numpy as np
import pytest

from cxr import files
from cxr.errors import InputError
from cxr.training import feature_files


def written(folder, name="pool.clean.npy", values=None, fingerprint="f", system="tiny"):
    """Write one file of features and its record; return the frozen folder and the description."""
    values = np.arange(12.0).reshape(4, 3) if values is None else values
    frozen = folder / "features" / system / feature_files.FOLDER
    with files.replacing(frozen / name) as path:
        writer = feature_files.Writer(path, values.shape, "pool")
        writer[slice(0, len(values))] = values
        about = writer.finish()
    about |= {
        "layer": "pool",
        "data": "clean",
        "views": 1,
        "policy": "float32",
        "fingerprint": fingerprint,
    }
    feature_files.write_record(frozen, {"train": name}, {name: about})
    return frozen, about


class TestWriter:
    def test_rounds_to_float16(self, tmp_path):
        values = np.random.default_rng(0).normal(0, 100, (64, 5)).astype("float32")
        frozen, about = written(tmp_path, values=values)
        held = feature_files.opened(frozen)["train"]
        assert (held.layer, held.views, held.policy) == ("pool", 1, "float32")
        assert held.array.dtype.name == about["dtype"] == "float16"
        assert isinstance(held.array, np.memmap)
        np.testing.assert_allclose(held.array, values, rtol=2**-11, atol=2**-25)

    def test_keeps_values_beyond_float16_in_float32(self, tmp_path):
        path = tmp_path / "wide.npy"
        writer = feature_files.Writer(path, (6, 2), "pool")
        writer[slice(0, 2)] = np.full((2, 2), 1.5)
        writer[slice(2, 4)] = np.array([[65504.0, -65504.0], [65520.0, 2.0]])
        writer[slice(4, 6)] = np.full((2, 2), -1e9)
        assert writer.finish()["dtype"] == "float32"
        expected = [[1.5, 1.5], [1.5, 1.5], [65504, -65504], [65520, 2], [-1e9] * 2, [-1e9] * 2]
        np.testing.assert_array_equal(np.load(path), np.array(expected, "float32"))
        assert [p.name for p in tmp_path.iterdir()] == ["wide.npy"]

    @pytest.mark.parametrize("value", [np.inf, np.nan])
    def test_refuses_what_is_not_finite(self, tmp_path, value):
        writer = feature_files.Writer(tmp_path / "a.npy", (1, 2), "pool")
        with pytest.raises(InputError, match="features of layer pool are not all finite"):
            writer[slice(0, 1)] = np.array([[1.0, value]])

    def test_holds_no_more_than_a_batch_in_memory(self, tmp_path):
        shape, batch = (2_000, 64, 64), np.ones((20, 64, 64), "float32")
        tracemalloc.start()
        writer = feature_files.Writer(tmp_path / "a.npy", shape, "pool")
        for start in range(0, shape[0], len(batch)):
            writer[slice(start, start + len(batch))] = batch
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * batch.nbytes  # all of them are 50 batches in float16

    def test_leaves_nothing_behind_if_it_is_interrupted(self, tmp_path):
        with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "a.npy") as path:
            writer = feature_files.Writer(path, (4, 2), "pool")
            writer[slice(0, 2)] = np.full((2, 2), 1e6)
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []


class TestOpened:
    def test_names_the_stage_if_there_is_no_record(self, tmp_path):
        with pytest.raises(InputError, match="run `dvc repro features@tiny`"):
            feature_files.opened(tmp_path / "features" / "tiny" / feature_files.FOLDER)

    @pytest.mark.parametrize("damage", ["missing", "empty", "cut off", "other shape"])
    def test_refuses_a_file_that_is_not_as_recorded(self, tmp_path, damage):
        frozen, _ = written(tmp_path)
        path = frozen / "pool.clean.npy"
        if damage == "missing":
            path.unlink()
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "cut off":
            path.write_bytes(path.read_bytes()[:-1])
        else:
            np.save(path, np.zeros((5, 3), "float16"))
        with pytest.raises(InputError, match="run `dvc repro -s -f features@tiny`"):
            feature_files.opened(frozen)

    @pytest.mark.parametrize(
        "record",
        [{}, {"files": [], "phases": {}}, {"files": {"pool.clean.npy": {}}, "phases": {}},
         {"files": {}, "phases": {"train": "pool.clean.npy"}}],
        ids=str,
    )  # fmt: skip
    def test_refuses_a_record_of_another_version(self, tmp_path, record):
        frozen, _ = written(tmp_path)
        files.write_json(frozen / feature_files.NAME, record)
        with pytest.raises(InputError, match=r"another version.*`dvc repro -s -f features@tiny`"):
            feature_files.opened(frozen)

    def test_is_empty_where_nothing_is_frozen(self, tmp_path):
        feature_files.write_record(tmp_path, {}, {})
        assert feature_files.opened(tmp_path) == {}

    def test_a_record_removes_the_files_that_it_does_not_name(self, tmp_path):
        frozen, _ = written(tmp_path, "old.npy")
        written(tmp_path, "new.npy")
        assert sorted(path.name for path in frozen.iterdir()) == ["features.json", "new.npy"]


class TestCopyEqual:
    def test_copies_what_has_an_equal_fingerprint(self, tmp_path):
        _, about = written(tmp_path, fingerprint="equal")
        target = tmp_path / "features" / "other" / feature_files.FOLDER / "pool.clean.npy"
        assert feature_files.copy_equal(target, ["unequal", "equal"], [tmp_path]) == about
        assert files.file_sha256(target) == about["sha256"]

    def test_searches_all_repositories(self, tmp_path):
        written(tmp_path / "second")
        found = feature_files.copy_equal(
            tmp_path / "a.npy", ["f"], [tmp_path / "first", tmp_path / "second"]
        )
        assert found is not None

    @pytest.mark.parametrize("damage", ["other fingerprint", "damaged", "missing", "no record"])
    def test_copies_nothing_else(self, tmp_path, damage):
        frozen, _ = written(tmp_path, fingerprint="g" if damage == "other fingerprint" else "f")
        if damage == "damaged":
            np.save(frozen / "pool.clean.npy", np.zeros((4, 3), "float16"))
        elif damage == "missing":
            (frozen / "pool.clean.npy").unlink()
        elif damage == "no record":
            (frozen / "features.json").write_text(json.dumps({"files": {"pool.clean.npy": {}}}))
        target = tmp_path / "target" / "a.npy"
        assert feature_files.copy_equal(target, ["f"], [tmp_path]) is None
        assert not target.exists()

    def test_a_damaged_one_leaves_what_was_there(self, tmp_path):
        frozen, _ = written(tmp_path)
        np.save(frozen / "pool.clean.npy", np.zeros((4, 3), "float16"))
        target = tmp_path / "target.npy"
        target.write_bytes(b"before")
        assert feature_files.copy_equal(target, ["f"], [tmp_path]) is None
        assert target.read_bytes() == b"before"

    def test_copies_nothing_that_another_process_removes_meanwhile(self, tmp_path, monkeypatch):
        frozen, _ = written(tmp_path)
        real = files.reserve

        def remove(path, size):
            real(path, size)
            (frozen / "pool.clean.npy").unlink(missing_ok=True)

        monkeypatch.setattr(files, "reserve", remove)
        target = tmp_path / "target" / "a.npy"
        assert feature_files.copy_equal(target, ["f"], [tmp_path]) is None
        assert list(target.parent.iterdir()) == []

    def test_a_full_disk_is_an_error(self, tmp_path, monkeypatch):
        written(tmp_path)

        def full(path, size):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(files, "reserve", full)
        with pytest.raises(InputError, match="no space left"):
            feature_files.copy_equal(tmp_path / "a.npy", ["f"], [tmp_path])
