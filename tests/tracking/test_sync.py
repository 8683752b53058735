"""`cxr sync --all`: the runs of every revision of DVC, once; the workspace does not change."""

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from cxr import files
from cxr.errors import InputError
from cxr.tracking import client, revisions, sync
from tests.tracking.kept import cached, git, workspace
from tests.tracking.test_client import epochs_of, runs


def synced(caplog) -> list[str]:
    """Sync, and return what the command says of the revisions, after its line on the workspace."""
    caplog.clear()
    caplog.set_level("INFO")
    sync.everything(Path(), lambda _: None)
    return [r.getMessage() for r in caplog.records if r.name == "cxr.tracking.sync"][1:]


def by_experiment() -> dict:
    trained = runs().query("`tags.stage` == 'train'").fillna({"tags.dvc.experiment": "none"})
    named = trained.get("tags.dvc.experiment", ["none"] * len(trained))
    return dict(zip(named, trained["metrics.test/auc"], strict=True))


def test_repository_without_outputs_says_so(store):
    git("init", "--quiet")
    Repo.init().close()
    with pytest.raises(InputError, match=r"nothing to log: no revision has a dvc\.lock"):
        sync.everything(Path(), lambda _: None)


def test_runs_of_the_commit_and_the_experiment_are_logged_once(kept, caplog):
    before = workspace()
    said = synced(caplog)
    # The two share the split. Training and evaluation share a run.
    assert said[0].startswith("2 revisions with different outputs: 2 runs logged, 3 were in MLflow")
    assert by_experiment() == {"none": 0.9, "three": 0.8}
    assert sorted(runs()["tags.stage"]) == ["split", "train", "train"]
    assert {tuple(epochs_of(run)) for run in runs().query("`tags.stage` == 'train'")["run_id"]} == {
        ((1, 0.7), (2, 0.5))
    }
    assert synced(caplog)[0].startswith("2 revisions with different outputs: 0 runs logged, 5 were")
    assert len(runs()) == 3
    assert workspace().equals(before)
    assert git("status", "--porcelain") == ""
    assert not list(Path(".dvc/tmp").glob("cxr-sync-*"))


def test_older_commits_and_branches_are_logged_too(kept, caplog):
    git("checkout", "--quiet", "-b", "side")
    kept.project.train("on the branch")
    kept.commit("second")
    git("checkout", "--quiet", "-")
    kept.back()
    assert synced(caplog)[0].startswith("3 revisions with different outputs: 4 runs logged")


def test_workspace_without_a_cache_is_logged_from_its_files(kept, caplog):
    shutil.rmtree(".dvc/cache")
    said = synced(caplog)
    assert by_experiment() == {"none": 0.9}
    assert said[1].startswith("2 not logged")
    assert "workspace" not in said[1]


def test_model_is_logged_from_the_outputs_of_its_own_revision(kept, monkeypatch, caplog):
    loaded = []
    monkeypatch.setattr(client, "_log_model", lambda _, model, __: loaded.append(model))
    sync.everything(Path(), lambda folder: (folder / "model.weights.h5").read_text())
    assert sorted(loaded) == ["other weights", "weights"]


def test_outputs_come_from_a_remote_and_those_that_nobody_has_are_counted(kept, caplog, tmp_path):
    remote = tmp_path.parent / f"{tmp_path.name}-remote"
    setting = f"[core]\n  remote = r\n['remote \"r\"']\n  url = {remote}\n"
    files.write_text(".dvc/config.local", setting)
    with Repo() as repo:
        repo.push(all_commits=True, revs=["three"])
    # No commit has it: the remotes are those of today, also for an older revision.
    Path(".dvc/config.local").rename(".dvc/config")
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("models")
    shutil.rmtree("evaluations")
    assert "4 runs logged" in synced(caplog)[0]
    assert by_experiment() == {"none": 0.9, "three": 0.8}
    assert not Path("models").exists()


@pytest.mark.parametrize("output", ["model.weights.h5", "phases", "provenance.json"])
def test_outputs_that_nobody_has_are_counted_with_what_to_do(kept, caplog, output):
    folder = kept.project.train("third")
    files.write_text(folder / "phases/one.weights.h5", "of this revision alone")
    kept.project.evaluate()
    kept.save("four")
    with revisions.repository() as opened, Repo() as repo:
        lost = opened.find("four").outputs[f"models/vgg/{output}"]
        Path(repo.cache.local.oid_to_path(lost)).unlink()
    said = synced(caplog)
    assert "2 runs logged" in said[0]
    assert said[1].startswith("2 not logged, because neither the cache nor a remote has their outp")
    assert "experiment four: models/vgg, experiment four: evaluations/vgg" in said[1]
    assert "`dvc fetch --all-commits`" in said[1]


def test_large_outputs_that_no_record_reads_are_left_where_they_are(kept, monkeypatch, tmp_path):
    monkeypatch.setattr(revisions, "UNREAD", ("models/*/phases/*", "models/*/train.json"))
    with revisions.repository() as repository:
        repository.find("three").copy("models/vgg", tmp_path / "copy")
    copied = {path.name for path in (tmp_path / "copy/models/vgg").rglob("*")}
    assert copied == {"architecture.json", "model.weights.h5", "history.csv", "provenance.json"}
    assert (tmp_path / "copy/models/vgg/model.weights.h5").read_text() == "other weights"


def test_a_remote_that_cannot_be_reached_is_tried_once(kept, monkeypatch, caplog):
    cached("models/vgg/provenance.json").unlink()
    cached("evaluations/vgg/provenance.json").unlink()
    shutil.rmtree("models")
    shutil.rmtree("evaluations")
    whole, tried = revisions.DVCFileSystem.read_bytes, []

    def read(self, path, *args, **kwargs):
        try:
            return whole(self, path, *args, **kwargs)
        except FileNotFoundError as error:
            tried.append(path)
            message = "no route to host"
            raise ConnectionError(message) from error

    monkeypatch.setattr(revisions.DVCFileSystem, "read_bytes", read)
    said = synced(caplog)
    assert len(tried) == 1
    assert "no route to host" in said[1]
    assert by_experiment() == {"three": 0.8}


def test_revision_of_another_version_is_one_line(kept, caplog):
    lock = "stages:\n  split:\n    outs:\n    - {path: splits/manifest.csv, md5: 0cc1}\n"
    files.write_text("dvc.lock", lock)
    git("add", ".")
    git("commit", "--quiet", "-m", "as it was once")
    (line,) = [text for text in synced(caplog) if "another version" in text]
    assert "1 revisions of another version" in line


def test_a_damaged_record_is_one_line_and_the_rest_is_logged(kept, caplog):
    folder = kept.project.train("third")
    kept.project.change(folder, training={})
    kept.project.evaluate()
    kept.save("four")
    said = synced(caplog)
    assert "2 runs logged" in said[0]
    assert by_experiment() == {"none": 0.9, "three": 0.8}
    (line,) = [text for text in said if "cannot be logged" in text]
    assert "experiment four: models/vgg" in line
    assert "models/vgg was written by another version" in line
    assert ".dvc/tmp" not in line  # the temporary folder
