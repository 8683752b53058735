"""Checkpoints on disk: whole or not at all, never mixed, locked, and never without end."""

import json
import logging
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr import params
from cxr.training import checkpoint, fingerprint
from cxr.training.progress import Progress

SETTINGS = params.Checkpoint(every=1, minutes=10, gigabytes=1)
PARAMETERS = {"seed": 0, "systems": {"vgg": {"batch_size": 16}}}
INPUTS = {"tensors/64/images.npy": "0a", "tensors/64/index.csv": "0b"}


def made(**changes: Any) -> dict[str, Any]:
    """The fingerprint of a training, with changes."""
    given = {"parameters": PARAMETERS, "inputs": INPUTS, "policy": "float32"} | changes
    return fingerprint.fingerprint(**given)


def progress(epochs: int, size: int = 3) -> Progress:
    rows = [{"epoch": n + 1, "phase": "train", "loss": 1 / (n + 3)} for n in range(epochs)]
    return Progress(rows, [0.1] * epochs, 0.5, [np.full(size, epochs, "float32")])


def opened(root: Path, settings: params.Checkpoint = SETTINGS, **changes: Any):
    return checkpoint.opened("vgg", made(**changes), settings, root)


def saved(root: Path, epochs: int = 2, size: int = 3, **changes: Any) -> Path:
    """Save a checkpoint of a process that has ended; return its file."""
    with opened(root, **changes) as kept:
        kept.begin([{"id": "1", "started": "now"}])
        kept.save(progress(epochs, size))
    return kept.folder / checkpoint.PROGRESS


def epochs_of(root: Path, **changes: Any) -> int | None:
    """Return how many epochs a new process finds done; None without a checkpoint."""
    with opened(root, **changes) as kept:
        return kept.progress and len(kept.progress.rows)


class TestKept:
    def test_progress_and_sittings_of_the_killed_process_are_found(self, tmp_path):
        saved(tmp_path)
        with opened(tmp_path) as kept:
            assert kept.progress.rows == progress(2).rows
            np.testing.assert_array_equal(kept.progress.network[0], [2, 2, 2])
            assert kept.sittings == [{"id": "1", "started": "now"}]
            assert kept.seconds == 0.5

    def test_nothing_is_found_where_nothing_was_saved(self, tmp_path):
        assert epochs_of(tmp_path) is None

    def test_remove_leaves_nothing(self, tmp_path):
        with opened(tmp_path) as kept:
            kept.save(progress(1))
            kept.remove()
        assert list((tmp_path / checkpoint.FOLDER).iterdir()) == []

    def test_the_new_one_is_on_the_disk_before_it_replaces_the_old_one(self, tmp_path, monkeypatch):
        saved(tmp_path, 1)
        order = []
        fsync, replace = os.fsync, Path.replace
        monkeypatch.setattr(os, "fsync", lambda number: (order.append("fsync"), fsync(number)))

        def renamed(self, target):
            if Path(target).name == checkpoint.PROGRESS:
                with np.load(self) as whole:  # all of it has been written
                    assert len(whole.files) == 2
                order.append("rename")
            return replace(self, target)

        with opened(tmp_path) as kept:
            monkeypatch.setattr(Path, "replace", renamed)
            kept.save(progress(2))
        assert order == ["fsync", "rename", "fsync"]

    def test_a_process_killed_while_it_writes_leaves_the_old_one(self, tmp_path):
        path = saved(tmp_path, 1)
        (path.parent / f".999999999.part.{path.name}").write_bytes(path.read_bytes()[:100])
        assert epochs_of(tmp_path) == 1
        saved(tmp_path, 2)
        assert epochs_of(tmp_path) == 2
        assert not list(path.parent.glob(".*"))


class TestDamaged:
    @pytest.mark.parametrize("tenth", range(10))
    def test_one_cut_off_is_put_aside(self, tmp_path, tenth, caplog):
        path = saved(tmp_path, size=1000)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * tenth // 10])
        assert epochs_of(tmp_path) is None
        (message,) = caplog.messages
        assert "the checkpoint of vgg is damaged" in message
        (aside,) = path.parent.glob("damaged.*")
        assert aside.name in message
        assert aside.read_bytes() == whole[: len(whole) * tenth // 10]

    def test_no_flipped_bits_end_in_a_traceback_or_in_another_progress(self, tmp_path):
        path = saved(tmp_path)
        whole, draws = path.read_bytes(), np.random.default_rng(0)
        for _ in range(500):
            data = bytearray(whole)
            for place in draws.integers(len(data), size=3):
                data[place] ^= 1 << draws.integers(8)
            path.write_bytes(data)
            with opened(tmp_path) as kept:  # some bits of a zip, such as dates, mean nothing here
                if kept.progress is not None:
                    np.testing.assert_array_equal(kept.progress.network[0], [2, 2, 2])

    @pytest.mark.parametrize("text", [None, "", "{}", "[1]"])
    def test_without_its_sittings_it_still_resumes(self, tmp_path, text):
        path = saved(tmp_path).with_name(checkpoint.SITTINGS)
        path.unlink()
        if text is not None:
            path.write_text(text)
        with opened(tmp_path) as kept:
            assert len(kept.progress.rows) == 2
            assert kept.sittings == []

    def test_one_flipped_bit_is_found(self, tmp_path):
        path = saved(tmp_path, size=1000)
        with zipfile.ZipFile(path) as held:
            place = held.getinfo("network/0.npy").header_offset + 2000
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)
        assert epochs_of(tmp_path) is None

    def test_a_pickle_is_not_executed(self, tmp_path):
        path = saved(tmp_path)
        sign = tmp_path / "executed"

        class Payload:
            def __reduce__(self):
                return (Path.touch, (sign,))

        np.savez(path, about=np.array([Payload()], dtype=object))
        assert epochs_of(tmp_path) is None
        assert not sign.exists()


class TestFingerprint:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (
                {"parameters": {"seed": 0, "systems": {"vgg": {"batch_size": 8}}}},
                "systems.vgg.batch_size was 16, now 8",
            ),
            (
                {"inputs": INPUTS | {"tensors/64/index.csv": "0c"}},
                "tensors/64/index.csv has changed",
            ),
            ({"policy": "mixed_bfloat16"}, "policy was float32, now mixed_bfloat16"),
        ],
    )
    def test_another_training_does_not_go_on_and_says_why(self, tmp_path, changes, said, caplog):
        caplog.set_level(logging.INFO)
        path = saved(tmp_path)
        assert epochs_of(tmp_path, **changes) is None
        (message,) = caplog.messages
        assert said in message
        assert str(path.parent) in message
        assert epochs_of(tmp_path) == 2  # it is still there

    def test_other_code_does_not_go_on(self, tmp_path, monkeypatch, caplog):
        caplog.set_level(logging.INFO)
        saved(tmp_path)
        code = made()["code"] | {"cxr.augment": "other"}
        monkeypatch.setattr(fingerprint, "_code", lambda: code)
        assert epochs_of(tmp_path) is None
        assert "does not fit and stays where it is: cxr.augment has changed. T" in caplog.text

    def test_other_versions_do_not_go_on(self, tmp_path, monkeypatch, caplog):
        caplog.set_level(logging.INFO)
        saved(tmp_path)
        versions = made()["versions"] | {"keras": "4.0"}
        monkeypatch.setattr(fingerprint.machine, "versions", lambda _: versions)
        assert epochs_of(tmp_path) is None
        assert "now 4.0" in caplog.text

    def test_code_is_that_of_the_loaded_modules_that_results_depend_on(self):
        from cxr import mistakes, quiet
        from cxr.tracking import provenance
        from cxr.training import fit

        others = {module.__name__ for module in (mistakes, quiet, provenance)}
        assert {fit.__name__, *others} <= sys.modules.keys()
        code = made()["code"]
        assert {"cxr.training.fit", "cxr.augment", "cxr.models.network"} <= set(code)
        assert not {"cxr.params", *others} & set(code)

    def test_is_written_for_people(self, tmp_path):
        path = saved(tmp_path).with_name(checkpoint.FINGERPRINT)
        assert json.loads(path.read_text())["parameters"] == PARAMETERS


class TestLock:
    def test_a_second_process_trains_without_a_checkpoint(self, tmp_path, caplog):
        saved(tmp_path)
        with opened(tmp_path) as first:
            with opened(tmp_path) as second:
                assert second.progress is None
                second.save(progress(9))
                second.remove()
            assert len(first.progress.rows) == 2
        assert "another process is training vgg" in caplog.text
        assert epochs_of(tmp_path) == 2

    def test_one_in_use_is_not_removed_for_space(self, tmp_path):
        saved(tmp_path)
        settings = SETTINGS.model_copy(update={"gigabytes": 1e-9})
        with opened(tmp_path), opened(tmp_path, settings, policy="other"):
            pass
        assert epochs_of(tmp_path) == 2


class TestSpace:
    def test_the_oldest_are_removed_beyond_the_limit(self, tmp_path, caplog):
        for place, policy in enumerate(("oldest", "older", "old")):
            # Far larger than the fingerprint, whose size depends on the modules that are imported.
            folder = saved(tmp_path, size=100_000, policy=policy).parent
            os.utime(folder, (place, place))
        settings = SETTINGS.model_copy(update={"gigabytes": 1_000_000e-9})
        with opened(tmp_path, settings, policy="new"):
            pass
        assert [epochs_of(tmp_path, policy=p) for p in ("oldest", "older", "old")] == [None, 2, 2]
        assert "training.checkpoint.gigabytes, 0.001" in caplog.text

    def test_a_full_disk_is_a_warning_and_the_old_one_stays(self, tmp_path, monkeypatch, caplog):
        with opened(tmp_path) as kept:
            kept.save(progress(1))
            real = np.savez

            def full(stream, **arrays):
                stream.write(b"half")
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(np, "savez", full)
            kept.save(progress(2))
            kept.save(progress(3))
            assert caplog.text.count("No space left on device") == 1  # one line, not one per epoch
            monkeypatch.setattr(np, "savez", real)
        assert epochs_of(tmp_path) == 1
        assert not list(kept.folder.glob(".*"))

    def test_a_folder_that_cannot_be_written_is_a_warning(self, tmp_path, caplog):
        (tmp_path / checkpoint.FOLDER).write_text("a file")
        with opened(tmp_path) as kept:
            kept.begin([])
            kept.save(progress(1))
            kept.remove()
        assert "cannot write the checkpoint" in caplog.text
