"""An MLflow server is down, dies, hangs or comes back: training goes on, and each run is whole."""

import shutil
import socket
from collections.abc import Iterator

import mlflow
import pytest

from cxr.tracking import client, live, records
from cxr.tracking import server as server_module
from tests import servers
from tests.faults.server import Server
from tests.tracking.conftest import EPOCHS, Project, empty_database

__all__ = ["empty_database"]  # a fixture


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_database) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_database, folder / "mlflow.db")
    made = Server(folder)
    yield made
    made.kill()


@pytest.fixture
def project(tmp_path, monkeypatch, settings, server, request) -> Project:
    """A project that logs to the server, under an experiment of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking = settings.tracking.model_copy(update={"experiment": request.node.name})
    return Project(settings.model_copy(update={"tracking": tracking}))


def warnings(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "cxr.tracking.server"]


def assert_whole(project: Project) -> None:
    """There is one run, FINISHED, with each epoch once."""
    named = [project.settings.tracking.experiment]
    ((_, run),) = mlflow.search_runs(experiment_names=named).iterrows()
    assert run["status"] == "FINISHED"
    for name in ("epoch/val_loss", "epoch/loss"):
        history = mlflow.MlflowClient().get_metric_history(run["run_id"], name)
        assert [metric.step for metric in history] == [1, 2]
    artifacts = mlflow.MlflowClient().list_artifacts(run["run_id"], "train")
    assert "train/history.csv" in [file.path for file in artifacts]


def test_down_from_the_start_then_logged_whole_by_sync(project, server, caplog):
    server.kill()
    started = project.start_training()
    with live.live(started) as run:
        for number, row in enumerate(EPOCHS, start=1):
            run.epoch(number, row)
    folder = project.train(started=started)
    client.write(folder)
    first, last = warnings(caplog)  # one for the progress, one for the end
    assert server.url in first
    assert "`cxr sync` logs it later" in last
    server.start()
    assert client.send(records.of(folder))
    assert_whole(project)
    assert not client.send(records.of(folder))


def test_hangs_in_the_middle_and_wakes_up(project, server, caplog, monkeypatch):
    """It drops the epoch that it did not answer, or takes it now; the run has it once."""
    server.start()
    started = project.start_training()
    with monkeypatch.context() as impatient, live.live(started) as run:
        run.epoch(1, EPOCHS[0])
        impatient.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        impatient.setattr(server_module, "ANSWER_SECONDS", 1)
        with server.frozen():
            run.epoch(2, EPOCHS[1])
            run.epoch(3, EPOCHS[1])  # asks nobody
            assert len(warnings(caplog)) == 1
    servers.answers(f"{server.url}/health", seconds=60)()  # after the requests that waited
    client.write(project.train(started=started))
    assert_whole(project)


def test_dies_in_the_middle_and_comes_back(project, server, caplog):
    server.start()
    started = project.start_training()
    with live.live(started) as run:
        run.epoch(1, EPOCHS[0])
        server.kill()
        run.epoch(2, EPOCHS[1])
    assert len(warnings(caplog)) == 1
    server.start()
    client.write(project.train(started=started))
    assert_whole(project)
    assert len(warnings(caplog)) == 1


def test_a_server_that_never_answers_holds_up_a_training_twice_for_seconds(
    project, monkeypatch, caplog
):
    monkeypatch.setattr(server_module, "ANSWER_SECONDS", 0.2)
    asked = []
    whole = server_module.requests.get
    monkeypatch.setattr(
        server_module.requests,
        "get",
        lambda *a, **k: (asked.append(k["timeout"]), whole(*a, **k))[1],
    )
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{hanging.getsockname()[1]}")
        started = project.start_training()
        with live.live(started) as run:
            for number, row in enumerate(EPOCHS, start=1):
                run.epoch(number, row)
        client.write(project.train(started=started))
    assert asked == [0.2, 0.2]
    assert all("no answer in 0.2 seconds" in said for said in warnings(caplog))
    assert len(warnings(caplog)) == 2
