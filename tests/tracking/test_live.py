"""The run of a training under way: its epochs, its end, and a server that is lost meanwhile."""

import logging
import subprocess
import sys

import mlflow
import pytest

from cxr.tracking import client, live
from tests.tracking.conftest import EPOCHS
from tests.tracking.test_client import epochs_of, only_run, runs


def test_each_epoch_is_sent_once_and_the_rest_at_the_end(project):
    started = project.start_training()
    with live.live(started) as run:
        run.epoch(1, EPOCHS[0])
    client.write(project.train(started=started))
    run_id = only_run()["run_id"]
    assert epochs_of(run_id) == [(1, 0.7), (2, 0.5)]
    assert epochs_of(run_id, "learning_rate") == [(1, 0.1), (2, 0.1)]


def test_metrics_that_were_not_sent_live_are_added(project):
    started = project.start_training()
    with live.live(started) as run:
        run.epoch(1, {"val_loss": 0.7})
    client.write(project.train(started=started))
    assert epochs_of(only_run()["run_id"], "learning_rate") == [(1, 0.1), (2, 0.1)]


def test_it_has_the_provenance_of_the_start_from_the_start(project, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "three")
    started = project.start_training()
    monkeypatch.setenv("DVC_EXP_NAME", "four")
    live.Live(started)
    run = only_run()
    assert run["tags.dvc.experiment"] == "three"
    assert run["tags.dvc.md5.tensors/64/images.npy"]
    assert run["status"] == "RUNNING"


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_interrupted_training_says_so_in_its_run(project, error, status):
    with pytest.raises(error), live.live(project.start_training()):
        raise error
    assert only_run()["status"] == status


def test_run_of_a_process_that_was_killed_is_ended_by_the_next(project):
    abandoned = live.Live(project.start_training())
    ended = subprocess.Popen([sys.executable, "-c", ""])  # its id belongs to no process any more
    ended.wait()
    host = only_run()["tags.cxr.process"].rpartition(" ")[0]
    mlflow.MlflowClient().set_tag(abandoned.run_id, live.PROCESS, f"{host} {ended.pid}")
    with live.live(project.start_training()):
        pass
    assert mlflow.get_run(abandoned.run_id).info.status == "KILLED"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["alive", "on another machine"])
def test_run_of_a_process_that_may_be_alive_goes_on(project, elsewhere):
    other = live.Live(project.start_training())
    if elsewhere:  # with the same server; no process here has this id
        mlflow.MlflowClient().set_tag(other.run_id, live.PROCESS, f"elsewhere {2**22 + 1}")
    live.Live(project.start_training())
    assert list(runs()["status"]) == ["RUNNING", "RUNNING"]


def test_unreachable_server_is_one_warning_and_training_goes_on(
    project, unreachable, monkeypatch, caplog
):
    started = project.start_training()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", unreachable)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING), live.live(started) as run:
        for number, row in enumerate(EPOCHS, start=1):
            run.epoch(number, row)
    (said,) = [r.getMessage() for r in caplog.records if r.name == "cxr.tracking.client"]
    assert unreachable in said
    assert "cxr sync" in said


def test_server_lost_between_epochs_is_one_warning_and_the_run_is_completed(
    project, monkeypatch, caplog
):
    started = project.start_training()
    with live.live(started) as run, monkeypatch.context() as lost:
        run.epoch(1, EPOCHS[0])

        def log_batch(*args, **kwargs):
            message = "lost"
            raise ConnectionError(message)

        lost.setattr(mlflow.MlflowClient, "log_batch", log_batch)
        run.epoch(2, EPOCHS[1])
        run.epoch(3, EPOCHS[1])
    assert len([r for r in caplog.records if r.name == "cxr.tracking.client"]) == 1
    client.write(project.train(started=started))
    run = only_run()
    assert run["status"] == "FINISHED"
    assert epochs_of(run["run_id"]) == [(1, 0.7), (2, 0.5)]
