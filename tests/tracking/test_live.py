"""The run of a training under way: its epochs, its end, and a server that is lost meanwhile."""

import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest

from cxr.tracking import client, live
from tests.tracking.conftest import EPOCHS
from tests.tracking.test_client import epochs_of, only_run, runs


def killed(run: live.Live) -> None:
    """Let a run be that of a process of this machine that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])  # its id belongs to no process any more
    ended.wait()
    host = live._process().rpartition(" ")[0]
    mlflow.MlflowClient().set_tag(run.run_id, live.PROCESS, f"{host} {ended.pid}")


def test_each_epoch_is_sent_once_and_the_rest_at_the_end(project):
    started = project.start_training()
    with live.live(started) as run:
        run.epoch(1, EPOCHS[0])
    client.write(project.train(started=started))
    run_id = only_run()["run_id"]
    assert epochs_of(run_id) == [(1, 0.7), (2, 0.5)]
    assert epochs_of(run_id, "schedule/learning_rate") == [(1, 0.1), (2, 0.1)]


def test_metrics_that_were_not_sent_live_are_added(project):
    started = project.start_training()
    with live.live(started) as run:
        run.epoch(1, {"val_loss": 0.7})
    client.write(project.train(started=started))
    assert epochs_of(only_run()["run_id"], "schedule/learning_rate") == [(1, 0.1), (2, 0.1)]


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
    killed(abandoned)
    with live.live(project.start_training()):
        pass
    assert mlflow.get_run(abandoned.run_id).info.status == "KILLED"


class TestResumed:
    """The next sitting of a training, with the id and start of its first."""

    @pytest.mark.parametrize("end", ["SIGKILL", KeyboardInterrupt, ValueError])
    def test_run_goes_on_without_doubled_or_missing_epochs(self, project, end):
        started = project.start_training()
        if end == "SIGKILL":
            live.Live(started).epoch(1, EPOCHS[0])
        else:
            with pytest.raises(end), live.live(started) as run:
                run.epoch(1, EPOCHS[0])
                raise end
        with live.live(started) as run:
            during = only_run()
            run.epoch(1, EPOCHS[0])  # logged after the last checkpoint, so trained again
            run.epoch(2, EPOCHS[1])
        assert (during["status"], during["run_id"]) == ("RUNNING", run.run_id)
        assert not mlflow.get_run(run.run_id).info.end_time
        assert epochs_of(run.run_id) == [(1, 0.7), (2, 0.5)]
        client.write(project.train(started=started))
        finished = only_run()
        assert (finished["run_id"], finished["status"]) == (run.run_id, "FINISHED")
        assert epochs_of(run.run_id) == [(1, 0.7), (2, 0.5)]
        assert epochs_of(run.run_id, "schedule/learning_rate") == [(1, 0.1), (2, 0.1)]

    def test_epochs_that_a_lost_server_missed_are_added_at_the_end(self, project):
        started = project.start_training()
        live.Live(started)
        live.Live(started).epoch(2, EPOCHS[1])  # the first sitting could not log epoch 1
        client.write(project.train(started=started))
        assert sorted(epochs_of(only_run()["run_id"])) == [(1, 0.7), (2, 0.5)]

    def test_training_that_had_ended_is_finished_again(self, project):
        started = project.start_training()  # killed between its end and that of the stage
        for _ in range(2):
            with live.live(started) as run:
                run.epoch(1, EPOCHS[0])
                run.epoch(2, EPOCHS[1])
                assert only_run()["status"] == "RUNNING"
            client.write(project.train(started=started))
            assert only_run()["status"] == "FINISHED"
        assert epochs_of(run.run_id) == [(1, 0.7), (2, 0.5)]

    def test_run_of_a_killed_process_is_taken_up_and_not_ended(self, project):
        started = project.start_training()
        killed(live.Live(started))
        live.Live(started)
        run = only_run()
        assert (run["status"], run["tags.cxr.process"]) == ("RUNNING", live._process())

    def test_steps_are_those_of_a_run_that_is_rebuilt_from_the_outputs(
        self, project, monkeypatch, empty_database
    ):
        def curves() -> dict:
            run_id = only_run()["run_id"]
            named = ("epoch/loss", "epoch/val_loss", "schedule/learning_rate")
            return {name: sorted(epochs_of(run_id, name)) for name in named}

        started = project.start_training()
        live.Live(started).epoch(1, EPOCHS[0])
        with live.live(started) as run:
            run.epoch(2, EPOCHS[1])
        folder = project.train(started=started)
        client.write(folder)
        resumed = curves()
        shutil.copyfile(empty_database, "rebuilt.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/rebuilt.db")
        client.write(folder)
        assert curves() == resumed


class TestLoad:
    """CPU and memory under "System metrics"."""

    @pytest.fixture(autouse=True)
    def often(self, monkeypatch):
        monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")

    def load(self, run: live.Live) -> list[int]:
        history = mlflow.MlflowClient().get_metric_history
        return [value.step for value in history(run.run_id, "system/cpu_utilization_percentage")]

    def wait(self, run: live.Live, count: int) -> None:
        end = time.monotonic() + 120
        while len(self.load(run)) < count:
            assert run.monitor._process.is_alive() and time.monotonic() < end
            time.sleep(0.01)

    def test_it_is_logged_until_the_training_ends_and_goes_on_with_it(self, project):
        started = project.start_training()
        with pytest.raises(ValueError, match="end"), live.live(started) as run:
            self.wait(run, 2)
            raise ValueError("end")
        assert run.monitor._process is None  # its thread has ended
        first = len(self.load(run))
        with live.live(started) as run:
            self.wait(run, first + 1)
        steps = self.load(run)
        assert steps == list(range(len(steps)))

    def test_failing_to_start_is_a_warning(self, project, monkeypatch, caplog):
        def broken(*_, **__):
            message = "no such interface"
            raise AttributeError(message)  # as psutil's in a container without a network

        monkeypatch.setattr(live, "SystemMetricsMonitor", broken)
        with live.live(project.start_training()) as run:
            run.epoch(1, EPOCHS[0])
        assert "no such interface" in caplog.text
        assert epochs_of(run.run_id) == [(1, 0.7)]


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
    (said,) = [r.getMessage() for r in caplog.records if r.name == "cxr.tracking.server"]
    assert unreachable in said
    assert "cxr sync" in said


@pytest.mark.parametrize("taken", [False, True], ids=["lost", "taken without an answer"])
def test_server_lost_between_epochs_is_one_warning_and_the_run_is_completed(
    project, monkeypatch, caplog, taken
):
    started = project.start_training()
    with live.live(started) as run, monkeypatch.context() as lost:
        run.epoch(1, EPOCHS[0])
        whole = mlflow.MlflowClient.log_batch

        def log_batch(*args, **kwargs):
            if taken:
                whole(*args, **kwargs)
            message = "lost"
            raise ConnectionError(message)

        lost.setattr(mlflow.MlflowClient, "log_batch", log_batch)
        run.epoch(2, EPOCHS[1])
        run.epoch(3, EPOCHS[1])
    assert len([r for r in caplog.records if r.name == "cxr.tracking.server"]) == 1
    client.write(project.train(started=started))
    run = only_run()
    assert run["status"] == "FINISHED"
    assert epochs_of(run["run_id"]) == [(1, 0.7), (2, 0.5)]
