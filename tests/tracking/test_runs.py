"""`cxr runs`: from a revision to its MLflow runs, and from a run to what DVC knows of it."""

import hashlib
import re
from pathlib import Path

import mlflow
import pytest
from dvc.repo import Repo

from cxr import files
from cxr.errors import InputError
from cxr.tracking import client, live, runs, server, sync
from tests.tracking.conftest import Project
from tests.tracking.kept import git
from tests.tracking.test_client import runs as logged


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def log_all() -> None:
    sync.everything(Path(), lambda _: None)


def trained(experiment: str | None) -> str:
    """Return the id of the run of a training."""
    found = logged().query("`tags.stage` == 'train'")
    own = found["tags.dvc.experiment"]
    return found[own.isna() if experiment is None else own == experiment]["run_id"].iloc[0]


def rows(name: str) -> dict[str, list[str]]:
    """Return the table of a revision: by stage, the other columns."""
    lines = [re.split(r" {2,}", line.strip()) for line in runs.describe(name).split("\n")]
    return {line[0]: line[1:] for line in lines if line[0] in ("split", "train", "evaluate")}


class TestRevision:
    def test_each_stage_has_its_run_and_the_two_of_a_model_share_one(self, kept):
        log_all()
        for name, experiment in (("workspace", None), ("HEAD", None), ("three", "three")):
            table = rows(name)
            run = trained(experiment)
            assert table["train"] == ["vgg", run, "FINISHED", *filter(None, [experiment])]
            assert table["evaluate"] == table["train"]
        assert rows("three")["split"] == rows("HEAD")["split"]

    def test_evaluation_has_the_run_of_the_training_beside_it(self, kept):
        log_all()
        kept.project.train()  # again, with equal weights: DVC does not evaluate again
        kept.record()
        log_all()
        assert len(logged().query("`tags.stage` == 'train'")) == 3
        for name in ("workspace", "HEAD"):
            assert rows(name)["evaluate"][1] == rows(name)["train"][1]
        assert rows("workspace")["train"] != rows("HEAD")["train"]

    def test_stages_that_mlflow_lacks_are_named_with_what_to_do(self, kept):
        sync.workspace(Path(), lambda _: None)
        said = runs.describe("three")
        assert (
            "MLflow lacks 2 of them, whole or in part (train vgg, evaluate vgg): `cxr sync --all`"
            in said
        )
        assert rows("three")["train"] == ["vgg", "missing", "three"]
        assert "MLflow lacks" not in runs.describe("workspace")

    def test_incomplete_and_deleted_runs_are_no_complete_ones(self, kept):
        log_all()
        one, other = trained(None), trained("three")
        mlflow.MlflowClient().delete_tag(one, server.complete_tag("train"))
        mlflow.MlflowClient().delete_run(other)
        assert rows("workspace")["train"][2] == "FINISHED, incomplete"
        assert "in part (train vgg)" in runs.describe("workspace")
        assert rows("three")["train"][2] == "deleted in MLflow"

    def test_outputs_that_nobody_has_are_named(self, kept):
        log_all()
        Path(".dvc/cache").rename("elsewhere")
        said = runs.describe("three")
        assert "neither DVC's cache nor a remote has the outputs of splits, models/vgg" in said

    def test_branches_tags_and_shortened_commits_are_revisions(self, kept):
        git("tag", "v1")
        commit = git("rev-parse", "HEAD")
        for name in ("v1", git("branch", "--show-current"), commit, commit[:10]):
            assert rows(name)["train"][:2] == ["vgg", "missing"]

    def test_commit_before_the_first_run_says_so(self, kept):
        git("checkout", "--quiet", "--orphan", "empty")
        git("rm", "--quiet", "--cached", "dvc.lock")
        git("commit", "--quiet", "-m", "nothing ran")
        with pytest.raises(InputError, match=r"empty has no dvc.lock: no stage had run there"):
            runs.describe("empty")

    def test_unknown_name_is_one_line(self, kept):
        with pytest.raises(InputError, match="named nobody: `git log`, `dvc exp list --all`"):
            runs.describe("nobody")

    def test_outside_of_a_repository_it_says_where_to_run(self, store):
        with pytest.raises(InputError, match="is not in a DVC repository"):
            runs.describe("workspace")


class TestRun:
    def test_it_leads_to_commit_experiment_hashes_and_revision(self, kept):
        log_all()
        run = trained("three")
        said = runs.describe(run[:12])
        assert said.startswith(f"run {run} (train vgg, FINISHED)")
        assert f"commit          {git('rev-parse', 'HEAD')}" in said
        assert "DVC experiment  three (`dvc exp apply three` brings it to the workspace)" in said
        assert f"{md5(b'id')} tensors/64/index.csv" in said
        assert f"{md5(b'other weights')} models/vgg/model.weights.h5" in said
        assert said.count("  in              experiment three") == 2  # training and evaluation
        # The training of the commit has other weights; the split is in both.
        branch = f"branch {git('branch', '--show-current')}"
        assert f"  in              workspace, {branch}\n" in runs.describe(trained(None))
        split = logged().query("`tags.stage` == 'split'")["run_id"].iloc[0]
        assert f"  in              workspace, {branch}, experiment three" in runs.describe(split)

    def test_removed_experiment_leaves_a_run_that_says_so(self, kept):
        log_all()
        with Repo() as repo:
            repo.experiments.remove("three")
        said = runs.describe(trained("three"))
        assert "three (removed or renamed, or not in this clone" in said
        assert "in no revision: no dvc.lock in this clone has these outputs any more" in said

    def test_equal_outputs_of_another_execution_are_told_apart(self, kept):
        log_all()
        run = trained(None)
        kept.commit("again")
        branch = git("branch", "--show-current")
        said = runs.describe(run)
        assert f"equal outputs   workspace, branch {branch} (of another execution)" in said
        assert f"  in              commit {git('rev-parse', '--short=7', 'HEAD~1')}" in said

    def test_rebuild_gives_what_differs_from_the_commit_in_this_stage_and_before_it(self, kept):
        folder = kept.project.train("third", experiment="four")
        # The split's manifest is an input, so its parameters count too.
        inputs = {"splits/manifest.csv": files.file_md5("splits/manifest.csv")}
        changes = {"parameters": {"seed": 7, "freeze_blocks": 3}, "inputs": inputs}
        Project.change(folder, **changes)
        kept.project.evaluate(experiment="four")
        kept.save("four")
        log_all()
        with Repo() as repo:  # the run knows its own training, and the commit has the split
            repo.experiments.remove("four")
        said = runs.describe(trained("four"))
        train, evaluate = re.findall(r"dvc exp run (.+)", said)
        assert train.split(" -S ")[:2] == ["-S seed=7", "+freeze_blocks=3"]
        assert "-S split.protocol=grouped" in train
        assert train.endswith(" train@vgg")
        assert "-S +freeze_blocks=3" in evaluate
        assert evaluate.endswith(" evaluate@vgg")
        assert f"git checkout {git('rev-parse', 'HEAD')}" in said

    def test_changed_files_and_a_commit_of_another_clone_are_said(self, kept):
        folder = kept.project.train("third")
        Project.change(folder, git={"commit": "c" * 40, "changed": ["src/cxr/files.py"]})
        client.write(folder)
        said = runs.describe(logged()["run_id"].iloc[0])
        assert f"{'c' * 40} (not in this clone: `git fetch`)" in said
        assert "changed files   src/cxr/files.py" in said
        assert "rebuild" not in said.split("in no revision")[0]

    def test_training_under_way_shows_what_is_known(self, kept):
        run = live.Live(kept.project.start_training())
        said = runs.describe(run.run_id)
        assert "RUNNING" in said
        assert f"{md5(b'id')} tensors/64/index.csv" in said
        assert f"commit          {git('rev-parse', 'HEAD')}" in said

    def test_name_that_fits_several_is_refused(self, kept, monkeypatch):
        log_all()
        run, commit = trained(None), git("rev-parse", "HEAD")
        # As if an id began like the commit.
        whole = runs._run
        monkeypatch.setattr(runs, "_run", lambda client, _: whole(client, run))
        with pytest.raises(InputError, match=f"is both branch .* and MLflow run {run}"):
            runs.describe(commit[:8])

    def test_beginning_of_several_runs_is_refused(self, kept, monkeypatch):
        log_all()
        monkeypatch.setattr(runs, "RUN_ID", re.compile("[0-9a-f]*"))
        with pytest.raises(InputError, match="begins the ids of several MLflow runs"):
            runs._run(server.connect(), "")
