"""MLflow runs made from records: found again, never twice, never in the way of a result."""

import logging
import shutil

import mlflow
import pytest

from cxr import params
from cxr.tracking import client

SETTINGS = params.Tracking(experiment="test")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """Make the tables once: it takes MLflow longer than all that a test does with them."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    mlflow.MlflowClient().search_experiments()
    return path


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch, empty_database):
    """Give each test a repository root and a database of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def runs(**tags):
    found = mlflow.search_runs(experiment_names=["test"])
    for name, value in tags.items():
        found = found[found[f"tags.{name}"] == value]
    return found


def trained(**changes):
    record = {
        "stage": "train", "system": "vgg", "identity": "abc", "params": {"freeze_blocks": 4},
        "metrics": {"epochs": 2}, "steps": [{"val_loss": 0.7}, {"val_loss": 0.5}],
    }  # fmt: skip
    return client.Record(**record | changes)


def judged(threshold=0.5, before=None, auc=0.9):
    return client.Record(
        stage="evaluate", system="vgg", identity="abc", before=before or trained(),
        params={"evaluate": {"threshold": threshold}}, metrics={"test": {"auc": auc}},
    )  # fmt: skip


def test_default_store_is_at_the_root_that_dvc_names(store):
    assert client.uri() == f"sqlite:///{store}/mlflow.db"


def test_tracking_uri_of_the_environment_wins(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")
    assert client.uri() == "http://example.org:5000"


def test_artifacts_lie_at_the_root_and_not_in_the_working_folder(store, monkeypatch):
    copy = store / "copy"
    copy.mkdir()
    (copy / "params.yaml").write_text("seed: 0\n")
    (copy / "figure.txt").write_text("1")
    monkeypatch.chdir(copy)
    client.write(SETTINGS, trained(artifacts=[copy / "figure.txt"]))
    assert len(list(store.glob("mlartifacts/*/artifacts/train/figure.txt"))) == 1
    assert not (copy / "mlruns").exists()


def test_training_and_evaluation_of_a_model_are_one_run():
    client.write(SETTINGS, trained())
    client.write(SETTINGS, judged())
    ((_, run),) = runs(system="vgg").iterrows()
    assert run["tags.stage"] == "train"
    assert run["params.freeze_blocks"] == "4"
    assert run["metrics.test/auc"] == 0.9
    assert run["metrics.val_loss"] == 0.5


def test_evaluation_of_a_restored_training_brings_the_training_along():
    client.write(SETTINGS, judged())
    ((_, run),) = runs(system="vgg").iterrows()
    assert (run["params.freeze_blocks"], run["metrics.test/auc"]) == ("4", 0.9)


def test_evaluation_at_another_threshold_is_a_run_of_its_own():
    client.write(SETTINGS, judged(0.5))
    client.write(SETTINGS, judged(0.6, auc=0.8))
    found = runs(system="vgg")
    assert sorted(found["params.evaluate.threshold"]) == ["0.5", "0.6"]
    assert set(found["params.freeze_blocks"]) == {"4"}


def test_the_same_record_again_makes_no_second_run():
    client.write(SETTINGS, trained())
    client.write(SETTINGS, trained())
    assert len(runs(system="vgg")) == 1
    history = mlflow.MlflowClient().get_metric_history(
        runs(system="vgg").run_id.iloc[0], "val_loss"
    )
    assert [(m.step, m.value) for m in history] == [(1, 0.7), (2, 0.5)]


def test_live_run_gets_each_epoch_once_and_the_rest_at_the_end():
    with client.live(SETTINGS, "vgg") as live:
        live.epoch(1, {"val_loss": 0.7})
        client.write(SETTINGS, trained(), live)
    run_id = runs(system="vgg").run_id.iloc[0]
    history = mlflow.MlflowClient().get_metric_history(run_id, "val_loss")
    assert [(m.step, m.value) for m in history] == [(1, 0.7), (2, 0.5)]


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_interrupted_training_says_so_in_its_run(error, status):
    with pytest.raises(error), client.live(SETTINGS, "vgg"):
        raise error
    assert list(runs(system="vgg")["status"]) == [status]


def test_run_of_a_process_that_was_killed_is_ended_by_the_next():
    client.Live(SETTINGS, "vgg")  # and then nothing: kill -9
    client.write(SETTINGS, trained(), client.Live(SETTINGS, "vgg"))
    assert sorted(runs(system="vgg")["status"]) == ["FINISHED", "KILLED"]


def test_runs_of_one_rebuild_share_a_parent_and_other_parameters_make_another(store):
    client.write(SETTINGS, trained())
    client.write(SETTINGS, trained(stage="split", system=None))
    (store / "params.yaml").write_text("seed: 1\n")
    client.write(SETTINGS, trained(stage="split", system=None))
    children = runs()
    children = children[children["tags.stage"] != "rebuild"]
    assert children["tags.mlflow.parentRunId"].nunique() == 2
    assert len(runs(stage="rebuild")) == 2


def test_experiment_of_dvc_names_the_parent_and_tags_every_run(monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "three")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0123abc")
    client.write(SETTINGS, trained())
    assert set(runs()["tags.dvc.experiment"]) == {"three"}
    assert set(runs()["tags.dvc.baseline"]) == {"0123abc"}
    assert list(runs(stage="rebuild")["tags.mlflow.runName"]) == ["three"]


def test_inputs_carry_their_md5_from_dvc_lock(store):
    (store / "dvc.lock").write_text(
        "stages:\n  split:\n    outs:\n    - path: splits/manifest.csv\n      md5: 0a1b\n"
    )
    client.write(SETTINGS, trained(inputs=["splits/manifest.csv", "unknown.csv"]))
    assert list(runs(system="vgg")["tags.dvc.md5.splits/manifest.csv"]) == ["0a1b"]


def test_figures_that_are_no_numbers_are_left_out():
    client.write(SETTINGS, trained(metrics={"a": {"b": 1, "c": None, "d": float("nan")}}))
    run = mlflow.get_run(runs(system="vgg").run_id.iloc[0])
    assert {k for k in run.data.metrics if k.startswith("a/")} == {"a/b"}


def test_unreachable_server_is_one_warning_and_training_goes_on(monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING), client.live(SETTINGS, "vgg") as live:
        live.epoch(1, {"val_loss": 0.7})
        live.epoch(2, {"val_loss": 0.5})
    warnings = [r.getMessage() for r in caplog.records if r.name == "cxr.tracking.client"]
    assert len(warnings) == 1
    assert "http://127.0.0.1:9" in warnings[0]
    assert "make sync" in warnings[0]


def test_sync_sends_what_is_missing_and_nothing_twice():
    records = [trained(), judged(before=trained())]
    client.write(SETTINGS, trained())
    assert client.write_missing(SETTINGS, records) == 1
    assert client.write_missing(SETTINGS, records) == 0
    assert list(runs(system="vgg")["metrics.test/auc"]) == [0.9]


def test_experiment_opens_with_the_table_of_models():
    client.write(SETTINGS, trained())
    assert "viewStateShareKey=systems" in client.pages()["test"]
