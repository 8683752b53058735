"""A full disk: one line, nothing half-written, and the next run succeeds."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest

from cxr import errors, files
from cxr.data import manifest, split
from cxr.models import store
from cxr.tracking import client, records
from tests.faults.conftest import Disk, Tmpfs
from tests.paths import PYTHONPATH, ROOT
from tests.small import SIZE, tiny_layers
from tests.tracking.conftest import Project, empty_database
from tests.training.test_checkpoint import epochs_of, opened, progress

__all__ = ["empty_database"]  # a fixture

SAID = r"error: no space left for {} \((No space left on device|File too large)\): free some, then"


def names(folder: Path) -> set[str]:
    """Return the files below a folder, hidden ones too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def split_archive(disk: Disk, tiny_archive: Path, split_settings) -> Path:
    """A folder with the inputs of preprocess, which the disk has room for."""
    shutil.copyfile(ROOT / "params.yaml", disk.path / "params.yaml")
    (disk.path / "raw").mkdir()
    shutil.copyfile(tiny_archive, disk.path / "raw" / "xrays.zip")
    images, _ = manifest.build(tiny_archive, 0.0)
    images, _ = split.assign(images, split_settings(), 0)
    files.write_csv(disk.path / "splits" / "manifest.csv", images)
    return disk.path


def preprocess(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Run the stage, whose process a full disk used to kill (SIGBUS); ``url``: of MLflow."""
    env = os.environ | {"PYTHONPATH": PYTHONPATH, "MLFLOW_TRACKING_URI": url}
    env |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "DVC_ROOT": str(folder)}
    command = [sys.executable, "-m", "stages.preprocess", "128"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_preprocess_ends_in_one_line_and_runs_when_there_is_room(disk, split_archive, unreachable):
    with disk.full(left=300_000):  # the 40 images take 655,360 bytes
        done = preprocess(split_archive, unreachable)
    assert done.returncode == 1, done
    (said,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert re.match(SAID.format("tensors/128/images.npy"), said)
    assert "Traceback" not in done.stderr
    assert names(split_archive / "tensors") == set()

    done = preprocess(split_archive, unreachable)
    assert done.returncode == 0, done.stderr
    assert len(np.load(split_archive / "tensors/128/images.npy")) == 40


@pytest.fixture
def model() -> keras.Model:
    image = keras.Input((SIZE, SIZE, 3))
    wide = keras.layers.Dense(2000)(keras.layers.Flatten()(tiny_layers(image)))
    return keras.Model(image, keras.layers.Dense(1)(wide))


def test_saving_a_model_ends_in_one_line_and_leaves_the_model_before(disk, model):
    folder = disk.path / "models" / "tiny"
    architecture, arrays = model.to_json(), model.get_weights()
    store.save(architecture, {"train": arrays}, folder)
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    size = (folder / store.WEIGHTS).stat().st_size
    # HDF5 crashes the process if the disk is found full at the first byte or at the last one.
    for left in (1000, size // 2, size - 1000):
        with disk.full(left), pytest.raises(SystemExit) as end, errors.reported():
            store.write_weights(model, folder / store.WEIGHTS)
        assert "no space left for" in str(end.value)
        assert "model.weights.h5" in str(end.value)
        assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    with disk.full(left=size + 2**17):
        store.write_weights(model, folder / store.WEIGHTS)


@pytest.mark.parametrize("write", [files.write_text, files.write_json])
def test_a_text_leaves_the_one_before(disk, write):
    write(disk.path / "a", "before")
    before = (disk.path / "a").read_bytes()
    with disk.full(left=4096), pytest.raises(errors.InputError, match="no space left for"):
        write(disk.path / "a", "x" * 100_000)
    assert (disk.path / "a").read_bytes() == before
    assert names(disk.path) == {"a"}


def test_an_error_that_names_no_file_is_one_line_too():
    with pytest.raises(SystemExit, match=SAID.format("a file")), errors.reported():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_another_error_of_the_disk_is_no_matter_of_space():
    with pytest.raises(OSError, match="Input/output"), errors.reported():
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_checkpoint_is_one_warning_and_the_one_before_stays(disk, caplog):
    size = 100_000  # four bytes each
    with opened(disk.path) as kept:
        kept.save(progress(1, size))
        with disk.full(left=50_000):
            for epochs in (2, 3):
                kept.save(progress(epochs, size))
    (said,) = [record.getMessage() for record in caplog.records]
    assert "cannot write the checkpoint" in said
    assert "no space left for" in said
    assert epochs_of(disk.path) == 1  # as the next sitting finds it
    with opened(disk.path) as kept:
        kept.save(progress(4, size))
    assert epochs_of(disk.path) == 4


class TestLogging:
    @pytest.fixture
    def project(self, tmpfs: Tmpfs, empty_database, monkeypatch, settings) -> Project:
        """A project with its database on the disk that will be full."""
        monkeypatch.chdir(tmpfs.path)
        shutil.copyfile(empty_database, tmpfs.path / "mlflow.db")
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.setenv("DVC_ROOT", str(tmpfs.path))
        return Project(settings)

    # Without any room the database fails; with some, the copy of an artifact does.
    @pytest.mark.parametrize("left", [0, 300_000])
    def test_it_is_one_warning_and_the_run_is_completed_later(self, tmpfs, project, caplog, left):
        folder = project.split()
        files.write_text(folder / "manifest.csv", "x" * 1_000_000)
        with tmpfs.full(left):
            client.write(folder)
        (said,) = [r.getMessage() for r in caplog.records if r.name == "cxr.tracking.server"]
        assert "could not log splits" in said
        assert "full" in said or "No space left" in said
        assert client.send(records.of(folder))
        runs = mlflow.search_runs(experiment_names=["imagenet-to-xray"])
        assert list(runs["status"]) == ["FINISHED"]
        assert not client.send(records.of(folder))
