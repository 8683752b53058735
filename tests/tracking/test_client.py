"""MLflow runs made from records: found again, never duplicated, and no failure ends a stage."""

import fcntl
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from cxr import files
from cxr.errors import InputError
from cxr.tracking import client, live, records, server
from tests.tracking.conftest import EPOCHS, Project

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = "imagenet-to-xray"  # tracking.experiment of params.yaml


def runs() -> pd.DataFrame:
    mlflow.set_tracking_uri(server.uri())
    return mlflow.search_runs(experiment_names=[EXPERIMENT])


def only_run() -> pd.Series:
    ((_, run),) = runs().iterrows()
    return run


def epochs_of(run_id: str, name: str = "epoch/val_loss") -> list[tuple[int, float]]:
    history = mlflow.MlflowClient().get_metric_history(run_id, name)
    return [(metric.step, metric.value) for metric in history]


def sync(*folders: Path) -> int:
    """Send the records of folders; return how many were missing."""
    return sum(client.send(records.of(folder)) for folder in folders)


class LostError(OSError):
    """A connection that breaks while a run is sent."""


@pytest.fixture
def break_at(monkeypatch):
    """Make the n-th call of a method of MLflow's client fail, and no later one."""

    def arm(method: str, number: int = 1) -> None:
        whole, calls = getattr(mlflow.MlflowClient, method), []

        def breaking(self, *args, **kwargs):
            calls.append(method)
            if len(calls) == number:
                raise LostError(f"lost at {method}")
            return whole(self, *args, **kwargs)

        monkeypatch.setattr(mlflow.MlflowClient, method, breaking)

    return arm


class TestStore:
    def test_default_is_at_the_root_that_dvc_names(self, store):
        assert server.uri() == f"sqlite:///{store}/mlflow.db"

    def test_tracking_uri_of_the_environment_wins(self, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org:5000")
        assert server.uri() == "http://example.org:5000"

    def test_artifacts_are_at_the_root_and_not_in_the_working_folder(self, project, monkeypatch):
        copy = Path("copy").absolute()
        copy.mkdir()
        monkeypatch.chdir(copy)
        client.write(project.split())
        found = list(copy.parent.glob("mlartifacts/*/artifacts/split/summary.json"))
        assert len(found) == 1
        assert not (copy / "mlruns").exists()

    def test_experiment_opens_with_the_table_of_models(self, project):
        client.write(project.split())
        assert "viewStateShareKey=systems" in server.pages()[EXPERIMENT]

    def test_experiment_that_another_process_has_just_created_is_taken(self, project, monkeypatch):
        folder = project.split()
        server.connect().create_experiment(EXPERIMENT)
        # As the slower process sees it: not there yet, then there.
        whole, asked = mlflow.MlflowClient.get_experiment_by_name, []

        def late(self, name):
            asked.append(name)
            return None if len(asked) == 1 else whole(self, name)

        monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", late)
        assert sync(folder) == 1
        assert len(asked) == 2

    def test_processes_that_start_together_share_a_new_database(self, project):
        folder = project.split()
        code = f"from pathlib import Path; from cxr.tracking import client; " \
               f"client.write(Path({str(folder)!r}))"  # fmt: skip
        env = os.environ | {
            "PYTHONPATH": str(ROOT / "src"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{Path.cwd()}/new.db",
        }
        started = [
            subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE)
            for _ in range(3)
        ]
        said = [process.communicate()[1].decode() for process in started]
        assert not any("could not log" in text or "Traceback" in text for text in said), said
        found = mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/new.db").search_experiments()
        assert [e.name for e in found].count(EXPERIMENT) == 1


class TestOneRun:
    def test_training_and_evaluation_of_a_model_share_it(self, project):
        client.write(project.train())
        client.write(project.evaluate(auc=0.9))
        run = only_run()
        assert (run["tags.stage"], run["status"]) == ("train", "FINISHED")
        assert run["params.freeze_blocks"] == "4"
        assert run["metrics.test/auc"] == 0.9
        assert run["metrics.epoch/val_loss"] == 0.5

    def test_it_starts_and_ends_when_the_training_did(self, project):
        folder = project.train()
        Project.change(
            folder, started="2020-01-02T03:04:05+00:00", ended="2020-01-02T03:04:15+00:00"
        )
        client.write(folder)
        run = only_run()
        assert run["start_time"] == pd.Timestamp("2020-01-02T03:04:05Z")
        assert run["end_time"] == pd.Timestamp("2020-01-02T03:04:15Z")

    def test_evaluation_sends_a_missing_training_as_it_was(self, project):
        folder = project.train()
        Project.change(
            folder,
            git={"commit": "c" * 40, "changed": []},
            dvc={"experiment": "then", "baseline": None},
            versions={"keras": "3.0.0"},
        )
        client.write(project.evaluate())
        run = only_run()
        assert (run["tags.mlflow.source.git.commit"], run["tags.git.changed"]) == (
            "c" * 40,
            "false",
        )
        assert (run["tags.dvc.experiment"], run["tags.version.keras"]) == ("then", "3.0.0")
        assert run["params.freeze_blocks"] == "4"
        assert epochs_of(run["run_id"]) == [(1, 0.7), (2, 0.5)]
        assert run["metrics.test/auc"] == 0.9

    def test_evaluation_completes_the_run_that_its_training_began(self, project):
        started = project.start_training()
        live.Live(started)
        project.train(started=started)  # whose run is never completed: the server was lost
        client.write(project.evaluate())
        run = only_run()
        assert (run["status"], run["metrics.test/auc"]) == ("FINISHED", 0.9)

    def test_evaluation_with_other_parameters_has_its_own_with_the_training_in_it(self, project):
        client.write(project.train())
        client.write(project.evaluate(0.5))
        folder = project.evaluate(0.6, auc=0.8)
        client.write(folder)
        found = runs().set_index("params.evaluate.threshold")
        assert found["metrics.test/auc"].to_dict() == {"0.5": 0.9, "0.6": 0.8}
        assert set(found["params.freeze_blocks"]) == {"4"}
        assert set(found["metrics.epoch/val_loss"]) == {0.5}
        assert sync(Path("models/vgg"), folder) == 0
        assert len(runs()) == 2

    def test_evaluation_again_with_equal_results_stays_in_it(self, project):
        client.write(project.train())
        client.write(project.evaluate())
        folder = project.evaluate()
        client.write(folder)
        assert (
            only_run()["tags.cxr.evaluate.id"] == files.read_json(folder / "provenance.json")["id"]
        )

    def test_a_second_training_with_equal_weights_gets_the_evaluation_too(self, project):
        folder = project.train()
        Project.change(folder, started="2035-01-01T00:00:00+00:00")  # on a clock that is wrong
        client.write(folder)
        client.write(project.evaluate())
        client.write(project.train())
        assert len(runs()) == 2
        # DVC does not evaluate again: the weights are the same.
        assert sync(Path("models/vgg"), Path("evaluations/vgg")) == 1
        assert list(runs()["metrics.test/auc"]) == [0.9, 0.9]

    def test_metrics_never_go_into_the_run_of_another_model(self, project):
        client.write(project.train("first"))
        folder = project.evaluate(auc=0.9)
        client.write(project.train("second"))
        client.write(folder)
        found = runs().dropna(subset="metrics.test/auc")
        assert list(found["tags.weights.sha256"]) == [files.bytes_sha256(b"first")]

    def test_evaluation_of_an_unknown_model_says_so(self, project):
        project.train("first")
        folder = project.evaluate()
        project.train("second")
        with pytest.raises(InputError, match="neither in MLflow nor in models/"):
            sync(folder)


class TestShown:
    """What the UI shows of a run, besides parameters and metrics."""

    def test_datasets_are_the_splits_with_the_hash_of_their_table(self, project):
        client.write(project.train())
        client.write(project.evaluate())
        run = mlflow.get_run(only_run()["run_id"])
        shown = {
            one.tags[0].value: (
                one.dataset.name,
                one.dataset.digest,
                json.loads(one.dataset.profile),
            )
            for one in run.inputs.dataset_inputs
        }
        md5 = files.file_md5("tensors/64/index.csv")
        assert shown == {
            "train": ("X-rays 64 x 64, train", md5, {"num_rows": 3, "NORMAL": 3}),
            "val": ("X-rays 64 x 64, val", md5, {"num_rows": 1, "NORMAL": 1}),
            "test": ("X-rays 64 x 64, test", md5, {"num_rows": 10, "NORMAL": 5, "PNEUMONIA": 5}),
        }

    def test_datasets_are_read_by_mlflow(self, project):
        client.write(project.train())
        run = mlflow.get_run(only_run()["run_id"])
        source = mlflow.data.get_source(run.inputs.dataset_inputs[0])
        assert source.to_dict() == {"uri": "tensors/64/index.csv"}

    def test_user_and_source_are_those_of_the_training(self, project):
        folder = project.train()
        Project.change(folder, user="Ada")
        client.write(folder)
        client.write(project.evaluate())
        run = mlflow.get_run(only_run()["run_id"])
        assert run.info.user_id == "Ada"
        assert run.data.tags["mlflow.source.name"] == "stages/train.py"

    def test_description_opens_with_the_newest_evaluation_and_keeps_a_users_text(self, project):
        client.write(project.train())
        run_id = only_run()["run_id"]
        note = only_run()[f"tags.{client.NOTE}"]
        mlflow.MlflowClient().set_tag(run_id, client.NOTE, f"Mine.\n\n{note}\n\nAlso mine.")
        client.write(project.evaluate())
        client.write(project.evaluate())  # again, with an equal result
        said = only_run()[f"tags.{client.NOTE}"]
        parts = ("Mine.", "### Evaluation of vgg", "### Training of vgg", "Also mine.")
        places = [said.index(part) for part in parts]
        assert places == sorted(places)
        assert said.count("### Evaluation") == said.count("### Training") == 1

    def test_description_that_a_user_wrote_during_training_stays(self, project):
        started = project.start_training()
        run_id = live.Live(started).run_id
        mlflow.MlflowClient().set_tag(run_id, client.NOTE, "Mine.")
        client.write(project.train(started=started))
        assert only_run()[f"tags.{client.NOTE}"] == "Mine."


class TestSync:
    def test_deleted_run_stays_deleted(self, project):
        folders = [project.train(), project.evaluate()]
        sync(*folders)
        mlflow.MlflowClient().delete_run(only_run()["run_id"])
        assert sync(*folders) == 0
        assert runs().empty

    def test_deleted_experiment_is_named_with_what_to_do(self, project):
        folder = project.split()
        sync(folder)
        experiment = mlflow.get_experiment_by_name(EXPERIMENT).experiment_id
        mlflow.MlflowClient().delete_experiment(experiment)
        with pytest.raises(InputError, match=f"restore --experiment-id {experiment}"):
            sync(folder)

    def test_no_other_process_sends_meanwhile(self, project, monkeypatch):
        # It would find no run of this record, as `cxr sync` beside a stage that ends.
        whole, refused = mlflow.MlflowClient.create_run, []

        def watched(self, *args, **kwargs):
            with Path("mlflow.db-sending").open("wb") as lock:
                with pytest.raises(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                refused.append(lock)
            return whole(self, *args, **kwargs)

        monkeypatch.setattr(mlflow.MlflowClient, "create_run", watched)
        sync(project.train())
        assert len(refused) == 1

    def test_sends_what_is_missing_and_nothing_twice(self, project):
        folders = [project.split(), project.train(), project.evaluate()]
        client.write(folders[1])
        assert sync(*folders) == 2
        assert sync(*folders) == 0
        assert len(runs()) == 2
        assert epochs_of(runs().set_index("tags.stage").loc["train", "run_id"]) == [
            (1, 0.7), (2, 0.5)
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("method", "number"),
        [("log_batch", 1), ("log_artifact", 2), ("set_terminated", 1), ("set_tag", 1)],
    )
    def test_half_sent_run_is_completed_in_place(self, project, break_at, method, number):
        folder = project.train()
        break_at(method, number)
        with pytest.raises(LostError):
            sync(folder)
        assert sync(folder) == 1
        run = only_run()
        assert run["status"] == "FINISHED"
        assert run["params.freeze_blocks"] == "4"
        assert run["metrics.epochs"] == 2
        assert epochs_of(run["run_id"]) == [(1, 0.7), (2, 0.5)]
        names = {f.path for f in mlflow.MlflowClient().list_artifacts(run["run_id"], "train")}
        assert {"train/train.json", "train/provenance.json", "train/phases"} <= names
        assert sync(folder) == 0

    @pytest.mark.parametrize("method", ["log_batch", "log_artifact", "set_tag"])
    def test_half_sent_evaluation_is_completed_in_place(self, project, break_at, method):
        client.write(project.train())
        folder = project.evaluate()
        break_at(method)
        with pytest.raises(LostError):
            sync(folder)
        assert sync(Path("models/vgg"), folder) == 1
        run = only_run()
        assert (run["status"], run["metrics.test/auc"]) == ("FINISHED", 0.9)
        assert [value for _, value in epochs_of(run["run_id"], "test/auc")] == [0.9]

    def test_half_sent_run_of_another_evaluation_is_completed_in_place(self, project, break_at):
        client.write(project.train())
        client.write(project.evaluate(0.5))
        folder = project.evaluate(0.6)
        break_at("log_batch")
        with pytest.raises(LostError):
            sync(folder)
        assert sync(folder) == 1
        assert sorted(runs()["params.evaluate.threshold"]) == ["0.5", "0.6"]
        assert set(runs()["status"]) == {"FINISHED"}

    def test_long_training_is_sent_in_batches(self, project, monkeypatch):
        monkeypatch.setattr(server, "MAX_ENTRIES", 3)
        monkeypatch.setattr(server, "MAX_METRICS", 7)
        assert sync(project.train()) == 1
        run = only_run()
        assert epochs_of(run["run_id"]) == [(1, 0.7), (2, 0.5)]
        assert (run["params.policy"], run["tags.weights.sha256"][:2]) == ("float32", "9a")


class TestModel:
    """The Keras model of a training, replaced by an empty logged model."""

    @pytest.fixture
    def logged(self, monkeypatch):
        loaded = []

        def log_model(run, model, requirements):
            server = mlflow.MlflowClient()
            info = run.info
            made = server.create_logged_model(
                info.experiment_id, "model", source_run_id=info.run_id
            )
            server.finalize_logged_model(made.model_id, "READY")
            loaded.append(model)

        monkeypatch.setattr(client, "_log_model", log_model)
        return loaded

    def test_it_is_loaded_from_the_folder(self, project, logged):
        client.send(records.of(project.train()), str)
        assert logged == ["models/vgg"]

    def test_it_is_logged_once_where_the_run_is_completed(self, project, logged, break_at):
        record = records.of(project.train())
        break_at("set_tag")
        with pytest.raises(LostError):
            client.send(record, str)
        assert client.send(record, str)
        assert logged == ["models/vgg"]

    def test_it_is_logged_where_the_run_was_lost_before(self, project, logged, break_at):
        record = records.of(project.train())
        break_at("log_artifact")
        with pytest.raises(LostError):
            client.send(record, str)
        assert client.send(record, str)
        assert logged == ["models/vgg"]


class TestOptional:
    def test_unreachable_server_is_one_warning(self, project, unreachable, monkeypatch, caplog):
        folder = project.split()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", unreachable)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with caplog.at_level(logging.WARNING):
            client.write(folder)
        (said,) = [r.getMessage() for r in caplog.records if r.name == "cxr.tracking.server"]
        assert f"{unreachable} could not log splits" in said
        assert "`cxr sync` logs it later" in said

    def test_unreadable_database_is_a_warning(self, project, monkeypatch, caplog):
        folder = project.split()
        files.write_text("broken.db", "this is no database " * 100)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/broken.db")
        client.write(folder)
        assert "could not log splits" in caplog.text

    @pytest.mark.parametrize("name", ["history.csv", "train.json", "provenance.json"])
    def test_missing_file_of_the_record_is_a_warning(self, project, caplog, name):
        folder = project.train()
        (folder / name).unlink()
        client.write(folder)
        assert f"{name} is missing" in caplog.text

    def test_training_needs_no_raw_data(self, project, caplog):
        # As on a machine that has pulled the tensors alone.
        started = project.start_training()
        with live.live(started) as run:
            for number, row in enumerate(EPOCHS, start=1):
                run.epoch(number, row)
        client.write(project.train(started=started))
        assert not caplog.records
        assert only_run()["status"] == "FINISHED"
