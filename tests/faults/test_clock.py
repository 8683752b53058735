"""The clock is set back while a stage runs: durations and the order of times stay right."""

import time
from datetime import datetime, timedelta
from pathlib import Path

import mlflow
import pytest

from cxr import files
from cxr.models import backbones
from cxr.tracking import client, live, provenance, records
from cxr.training import batches
from tests.small import TINY, phase, system
from tests.tracking.conftest import EPOCHS, empty_database, project, store
from tests.trained import train

__all__ = ["empty_database", "project", "store"]  # fixtures


@pytest.fixture
def set_back(monkeypatch):
    """Set the wall clock back by a day, for the code of this project and its libraries."""

    def change() -> None:
        whole = time.time

        class Earlier(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) - timedelta(days=1)

        monkeypatch.setattr(provenance, "datetime", Earlier)
        monkeypatch.setattr(time, "time", lambda: whole() - 86_400)

    return change


def test_a_stage_ends_after_it_starts(project, set_back):
    used = {"seed": 0}
    files.write_text("raw/xrays.zip", "a zip")
    started = provenance.start("split", project.settings, used, [Path("raw/xrays.zip")])
    set_back()
    files.write_text("splits/a.csv", "made")
    provenance.finish(started, Path("splits"))
    note = files.read_json("splits/provenance.json")
    assert note["ended"] >= note["started"]
    assert note["seconds"] >= 0


def test_a_training_that_goes_on_after_it_ends_after_all_its_seconds(project, set_back):
    first = project.start_training()
    sittings = [provenance.sitting(first, "a CPU")]
    set_back()
    second = project.start_training()
    assert second.provenance["started"] < first.provenance["started"]
    resumed = provenance.resumed(second, [*sittings, provenance.sitting(second, "a CPU")], 600)
    folder = project.train(started=resumed)
    note = files.read_json(folder / "provenance.json")
    begun, ended = (datetime.fromisoformat(note[key]) for key in ("started", "ended"))
    assert note["seconds"] >= 600
    assert (ended - begun).total_seconds() >= 600 - 1  # both are rounded down to seconds


def test_mlflow_has_no_negative_duration_and_every_epoch_once(project, set_back):
    started = project.start_training()
    with live.live(started) as run:
        run.epoch(1, EPOCHS[0])
        set_back()
        run.epoch(2, EPOCHS[1])
    client.write(project.train(started=started))
    ((_, row),) = mlflow.search_runs(experiment_names=["imagenet-to-xray"]).iterrows()
    assert row["end_time"] >= row["start_time"]
    history = mlflow.MlflowClient().get_metric_history(row["run_id"], "epoch/val_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.7), (2, 0.5)]
    record = records.of(Path("models/vgg"))
    assert record.started <= record.epochs[0][0] <= record.epochs[1][0]


def test_epochs_have_positive_seconds(set_back, monkeypatch):
    """Keras's progress line uses the wall clock; nothing that is kept does."""
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY)
    whole = batches.Shuffled.__getitem__
    monkeypatch.setattr(  # in the middle of an epoch
        batches.Shuffled, "__getitem__", lambda self, step: set_back() or whole(self, step)
    )
    trained = train(system(phases={"train": phase(epochs=2)}))
    assert all(0 <= seconds < 3600 for seconds in trained.training["seconds_per_epoch"])
    assert 0 <= trained.training["seconds"] < 3600
