"""The command `cxr`: the runs it sends, its messages, and its exit."""

import logging
import os
import sys
from pathlib import Path

import mlflow
import pytest

from cxr import cli
from cxr.errors import InputError
from cxr.tracking import client, server
from tests.tracking.conftest import Project, empty_database, project, store

__all__ = ["empty_database", "project", "store"]  # fixtures


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def outputs(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two stages of a pipeline, and a model that needs no Keras; there is no params.yaml."""
    project.split()
    project.train()
    monkeypatch.setattr(client, "_log_model", lambda *_: None)
    monkeypatch.setattr(cli, "_load", lambda _: None)
    return project


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["cxr", *arguments])
    cli.main()


def test_sync_says_how_many_were_missing(outputs, messages, monkeypatch):
    call(monkeypatch, "sync")
    call(monkeypatch, "sync")
    said = [r.getMessage() for r in messages.records if r.name == "cxr.tracking.sync"]
    assert "2 of 2 stages were missing in MLflow at sqlite:///" in said[0]
    assert "0 of 2 stages were missing" in said[1]


def test_sync_files_runs_under_the_experiment_of_their_time(outputs):
    Project.change(Path("splits"), mlflow_experiment="demo")
    cli.sync(False)
    assert list(mlflow.search_runs(experiment_names=["demo"])["tags.stage"]) == ["split"]


def test_sync_sends_the_rest_where_one_run_cannot_be_made(outputs):
    outputs.evaluate()
    (Path("splits") / "summary.json").unlink()
    with pytest.raises(InputError, match=r"1 cannot be logged: splits/summary.json is missing"):
        cli.sync(False)
    (run,) = mlflow.search_runs(experiment_names=["imagenet-to-xray"])["metrics.test/auc"]
    assert run == 0.9


def test_sync_without_outputs_says_where_to_run_it(store, monkeypatch):
    with pytest.raises(SystemExit, match=r"error: no provenance.json in raw, .* repository's root"):
        call(monkeypatch, "sync")


def test_sync_with_an_unreachable_server_is_one_line(outputs, unreachable, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", unreachable)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SystemExit, match=f"error: MLflow at {unreachable} does not answer"):
        call(monkeypatch, "sync")


def test_sync_all_outside_of_a_repository_says_where_to_run_it(outputs, monkeypatch):
    with pytest.raises(
        SystemExit, match=r"error: .* is not in a DVC repository: run from the repo"
    ):
        call(monkeypatch, "sync", "--all")


def test_runs_shows_the_workspace_by_default(messages, monkeypatch):
    from cxr.tracking import runs

    monkeypatch.setattr(runs, "describe", lambda name: f"all about {name}")
    call(monkeypatch, "runs")
    call(monkeypatch, "runs", "three")
    assert [r.getMessage() for r in messages.records] == ["all about workspace", "all about three"]


def test_password_of_a_server_is_in_no_message(outputs, unreachable, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", unreachable.replace("//", "//ada:secret@"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, "sync")
    shown = unreachable.replace("//", "//***@")
    assert f"MLflow at {shown} does not answer" in str(end.value)
    assert "secret" not in str(end.value)


def test_ui_prints_the_tables_and_starts_the_server(outputs, messages, monkeypatch):
    cli.sync(False)
    started = []
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "")
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "")  # so that it is as before after the test
    monkeypatch.setattr(cli.os, "execvp", lambda _, command: started.append(command))
    call(monkeypatch, "ui", "--port", "5050")
    assert "http://127.0.0.1:5050/#/experiments/" in messages.text
    assert started[0][:2] == ["mlflow", "server"]
    # Where other users of the machine do not see it.
    assert server.uri() not in started[0]
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == server.uri()


def test_ui_starts_nothing_where_there_is_a_server(outputs, messages, monkeypatch):
    monkeypatch.setattr(server, "pages", lambda: {"demo": "#/experiments/1"})
    monkeypatch.setattr(cli.os, "execvp", lambda *_: pytest.fail("a UI was started"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000/")
    call(monkeypatch, "ui")
    assert "http://example.org:5000/#/experiments/1" in messages.text


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sync", "--all"),
        ("runs", "DVC experiment"),
        ("ui", "MLFLOW_TRACKING_URI"),
        ("check", "DVC's cache"),
    ],
)
def test_help_says_what_a_command_does(monkeypatch, capsys, command, says):
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, command, "--help")
    assert end.value.code == 0
    assert says in capsys.readouterr().out
