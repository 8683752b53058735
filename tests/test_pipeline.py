"""The whole pipeline through DVC, in a clone, on a tiny sample: its reruns and its records."""

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from cxr.tracking import provenance
from tests.clone import ENSEMBLE, EVERY_STAGE, SYSTEMS, Clone, environment
from tools import phantom


@pytest.fixture(scope="module")
def three(clone: Clone) -> tuple[set[str], str]:
    """Run an experiment in a copy; return its stages, and git's status before it."""
    before = clone.call("git", "status", "--porcelain")
    ran = clone.stages(
        "exp", "run", "--temp", "-n", "three", "-S", "freeze_blocks=3",
        "-S", f"source='{clone.root}/tiny.zip'",
    )  # fmt: skip
    return ran, before


class TestOutputs:
    def test_every_promised_file_is_there(self, clone):
        for name in SYSTEMS:
            trained = {"architecture.json", "model.weights.h5", "phases", "history.csv"}
            assert {p.name for p in (clone.root / "models" / name).glob("*")} >= trained
            evaluated = {p.name for p in (clone.root / "evaluations" / name).glob("*")}
            assert evaluated >= {"metrics.json", "predictions.csv", "phases.csv", "perturbed.png"}
            assert evaluated >= {"reliability.csv", "decision.csv"}
            assert evaluated >= {"shift.csv", "gallery.png", "gallery.csv"}
            shifted = {p.name for p in (clone.root / "shifts" / name).glob("*")}
            assert shifted == {"predictions.csv", "samples.png", "provenance.json"}
        averaged = {p.name for p in (clone.root / "ensembles" / ENSEMBLE).glob("*")}
        assert averaged >= {"metrics.json", "predictions.csv", "phases.csv", "shift.csv", "roc.csv"}
        audited = {p.name for p in (clone.root / "audits").glob("*")}
        assert audited >= {"audit.json", "duplicates.csv", "suspects.png", "shortcuts.csv"}
        assert (clone.root / "reports/index.html").stat().st_size > 10_000

    def test_comparison_holds_every_system_and_the_published_figure(self, clone):
        table = pd.read_csv(clone.root / "reports/comparison.csv").set_index("system")
        assert list(table.index) == list(SYSTEMS)
        assert table.loc["vgg16_transfer", "published_auc"] == 0.9895

    def test_thresholds_are_chosen_on_validation_and_every_pair_is_compared(self, clone):
        table = pd.read_csv(clone.root / "reports/comparison.csv").set_index("system")
        for name in SYSTEMS:
            found = clone.json(f"evaluations/{name}/metrics.json")
            assert found["threshold_rule"] == "youden"
            assert table.loc[name, "threshold"] == found["threshold"]
        pairs = pd.read_csv(clone.root / "reports/comparisons.csv")
        assert pairs[["one", "other"]].drop_duplicates().values.tolist() == [list(SYSTEMS)]

    def test_outputs_name_neither_this_machine_nor_a_date(self, clone):
        for path in [*clone.root.glob("models/*/*.json"), *clone.root.glob("*/*.json")]:
            if path.name != provenance.NAME:
                assert str(clone.root) not in path.read_text(), path
                assert not re.search(r"20\d\d-\d\d-\d\d", path.read_text()), path

    def test_predictions_hold_every_image_once_with_its_split(self, clone):
        manifest = pd.read_csv(clone.root / "splits/manifest.csv").set_index("id")
        predictions = pd.read_csv(clone.root / "evaluations/cnn/predictions.csv")
        assert set(predictions["id"]) == set(manifest.index)
        assert (manifest.loc[predictions["id"], "split"].to_numpy() == predictions["split"]).all()

    def test_the_ensemble_is_the_mean_of_its_members_and_stands_in_the_report(self, clone):
        for path in ("predictions.csv", "phases.csv"):
            tables = [pd.read_csv(clone.root / "evaluations" / n / path) for n in SYSTEMS]
            last = [t[t["phase"] == t["phase"].iloc[-1]] if "phase" in t else t for t in tables]
            mean = pd.read_csv(clone.root / "ensembles" / ENSEMBLE / path)
            for column in mean.columns.intersection(["probability", "perturbed_probability"]):
                expected = np.mean([t[column].to_numpy() for t in last], axis=0)
                np.testing.assert_allclose(mean[column], expected, atol=1e-7)
        found = clone.json(f"ensembles/{ENSEMBLE}/metrics.json")
        assert found["members"] == list(SYSTEMS)
        assert found["shift"]["curve"]["shifted_auc"] is not None
        page = (clone.root / "reports/index.html").read_text(encoding="utf-8")
        assert 'id="ensembles"' in page and f"{found['test']['auc']:.3f}" in page

    def test_plots_show_gives_a_page(self, clone):
        clone.call("dvc", "plots", "show")
        assert "ROC on test" in (clone.root / "dvc_plots/index.html").read_text(encoding="utf-8")


class TestProvenance:
    def test_every_stage_has_one(self, clone):
        assert set(clone.provenance()) == EVERY_STAGE

    def test_inputs_and_outputs_are_those_of_dvc_lock(self, clone):
        code = ("src/", "stages/")
        for stage, locked in clone.lock().items():
            note = clone.provenance()[stage]
            for side, listed in (("deps", note["inputs"]), ("outs", note["outputs"])):
                named = {
                    entry["path"]: entry["md5"]
                    for entry in locked.get(side, [])
                    if not entry["path"].startswith(code) and entry["path"] not in listed
                    and not entry["path"].endswith(provenance.NAME)
                }  # fmt: skip
                # An entry that is not listed is a folder, and its files are listed.
                assert all(md5.endswith(".dir") for md5 in named.values()), (stage, side, named)
                for entry in locked.get(side, []):
                    if entry["path"] in listed:
                        assert listed[entry["path"]] == entry["md5"], (stage, entry)
                known = [entry["path"] for entry in locked.get(side, [])]
                for path in listed:
                    assert any(path == k or path.startswith(f"{k}/") for k in known), (stage, path)
                    assert listed[path] == provenance.files.file_md5(clone.root / path)

    def test_parameters_are_those_of_dvc_lock(self, clone):
        for stage, locked in clone.lock().items():
            note = clone.provenance()[stage]
            for key, value in locked.get("params", {}).get("params.yaml", {}).items():
                used: Any = note["parameters"]
                for part in key.split("."):
                    used = used[part]
                assert used == value, (stage, key)

    def test_code_experiment_and_durations_are_recorded(self, clone):
        head = clone.call("git", "rev-parse", "HEAD~1").strip()
        for stage, note in clone.provenance().items():
            assert note["git"] == {"commit": head, "changed": []}, stage
            assert note["dvc"]["experiment"] == "first"
            assert note["started"] <= note["ended"]
        trained = clone.provenance()["train@cnn"]
        assert len(trained["training"]["seconds_per_epoch"]) == 2
        assert trained["parameters"]["systems"]["cnn"]["image_size"] == 48
        assert clone.provenance()["train@vgg16_transfer"]["parameters"]["freeze_blocks"] == 4


class TestReruns:
    def test_second_repro_runs_nothing(self, clone):
        assert clone.stages("repro") == set()

    def test_equal_outputs_of_a_forced_stage_rerun_no_training(self, clone):
        # Each writes a new provenance.json; the report, a leaf, reads that of the models.
        before = clone.provenance()["download"]["id"]
        names = {"download", "weights@cnn", "train@cnn"}
        assert clone.stages("repro", "--force", "--single-item", *sorted(names)) == names
        assert clone.provenance()["download"]["id"] != before
        assert clone.stages("repro") == {"compare"}
        # Neither DVC's own files nor dvc.lock count as changed code.
        assert clone.provenance()["compare"]["git"]["changed"] == []
        # The evaluation did not run again, but the new training's run has its metrics.
        runs = clone.runs()
        training = clone.provenance()["train@cnn"]["id"]
        run = runs[runs["tags.cxr.train.id"] == training].iloc[0]
        metrics = clone.json("evaluations/cnn/metrics.json")
        assert run["metrics.test/auc"] == pytest.approx(metrics["test"]["auc"])
        clone.call("dvc", "exp", "apply", "first")

    def test_another_learning_rate_computes_no_frozen_features_again(self, clone):
        phase, seen = "systems.cnn.phases.clean", []
        for rate in (0.01, 0.02):
            settings = ("-S", f"{phase}.trainable=head", "-S", f"{phase}.learning_rate={rate}")
            targets = ("--single-item", "features@cnn", "train@cnn")
            seen.append(clone.stages("exp", "run", "--temp", *settings, *targets))
        assert seen == [{"features@cnn", "train@cnn"}, {"train@cnn"}]

    def test_shifted_images_retrain_the_systems_that_restore_by_them(self, clone):
        items = [f"{stage}@{name}" for stage in ("shifted", "train") for name in SYSTEMS]
        own = ("-S", "systems.cnn.phases.clean.restore=shifted_loss", "-S", "shift.images=4")
        run = ("exp", "run", "--temp", *own, "--single-item", *items)
        shifted = {f"shifted@{name}" for name in SYSTEMS}
        assert clone.stages(*run, "-n", "shifted") == shifted | {"train@cnn"}
        path = "models/cnn/history.csv"
        clone.call("dvc", "get", ".", path, "--rev", "shifted", "--out", "shifted.csv", "--force")
        history = pd.read_csv(clone.root / "shifted.csv").set_index("phase")["shifted_loss"]
        assert history["clean"] > 0 and np.isnan(history["perturbed"])
        (clone.root / "shifted.csv").unlink()
        code = clone.root / "src/cxr/shifts/kinds.py"
        before = code.read_text()
        try:
            code.write_text(f"{before}# other code, equal images\n")
            assert clone.stages(*run) == shifted
        finally:
            code.write_text(before)
        clone.call("dvc", "exp", "remove", "shifted")

    def test_an_archive_of_another_hospital_is_read_once_and_predicted(self, clone):
        archive = f"+evaluate.external.clinic='{clone.root}/tiny.zip'"
        targets = ("--single-item", "external@clinic", "shift@cnn")
        ran = clone.stages("exp", "run", "--temp", "-n", "clinic", "-S", archive, *targets)
        assert ran == {"external@clinic", "shift@cnn"}
        path = "shifts/cnn/predictions.csv"
        clone.call("dvc", "get", ".", path, "--rev", "clinic", "--out", "clinic.csv", "--force")
        table = pd.read_csv(clone.root / "clinic.csv")
        table = table[table["set"] == "external"]
        own = pd.read_csv(clone.root / "evaluations/cnn/predictions.csv").set_index("id")
        assert set(table["kind"]) == {"clinic"} and len(table) == len(own)
        # The same images, read and resized again.
        expected = own.loc[table["id"], "probability"].to_numpy()
        assert table["probability"].to_numpy() == pytest.approx(expected, abs=1e-5)
        (clone.root / "clinic.csv").unlink()
        clone.call("dvc", "exp", "remove", "clinic")

    def test_temporary_experiment_reruns_one_system_and_logs_to_the_root(self, clone, three):
        ran, before = three
        # The source's path is a parameter of the download, whose zip is the same.
        of_system = {
            f"{stage}@vgg16_transfer" for stage in ("features", "train", "shift", "evaluate")
        }
        assert ran - {"download"} == of_system | {f"ensemble@{ENSEMBLE}", "compare"}
        assert clone.call("git", "status", "--porcelain") == before
        runs = clone.runs()
        three = runs[(runs["tags.dvc.experiment"] == "three") & (runs["tags.stage"] == "train")]
        assert list(three["params.freeze_blocks"]) == ["3"]
        assert three["metrics.test/auc"].notna().all()
        assert set(three["tags.git.changed"]) == {"false"}
        artifacts = (clone.root / "mlartifacts").as_uri()
        assert all(uri.startswith(artifacts) for uri in runs["artifact_uri"])
        assert "three" in clone.call("dvc", "exp", "show", "--csv")
        assert "test.auc" in clone.call("dvc", "metrics", "diff", "--all", "HEAD", "three")


class TestMlflow:
    def first(self, clone: Clone) -> pd.DataFrame:
        runs = clone.runs()
        return runs[runs["tags.dvc.experiment"] == "first"]

    def test_each_model_has_one_run_with_training_and_test_metrics(self, clone):
        runs = self.first(clone)
        models = runs[runs["tags.stage"] == "train"].set_index("tags.system")
        assert sorted(models.index) == sorted(SYSTEMS)
        assert set(models["status"]) == {"FINISHED"}
        assert not (runs["tags.stage"] == "evaluate").any()
        transfer = models.loc["vgg16_transfer"]
        metrics = clone.json("evaluations/vgg16_transfer/metrics.json")
        assert transfer["params.freeze_blocks"] == "4"
        assert transfer["metrics.test/auc"] == pytest.approx(metrics["test"]["auc"])
        assert transfer["metrics.epoch/val_loss"] > 0

    def test_every_stage_has_a_run(self, clone):
        runs = self.first(clone)
        stages = {
            "download",
            "split",
            "preprocess",
            "weights",
            "train",
            "shift",
            "ensemble",
            "audit",
            "compare",
        }
        assert set(runs["tags.stage"]) == stages
        # Random weights have no record.
        assert runs.loc[runs["tags.stage"] == "weights", "tags.system"].tolist() == ["cnn"]

    def test_model_takes_raw_pixels_and_gives_the_same_probability(self, clone):
        runs = self.first(clone)
        run = runs[(runs["tags.stage"] == "train") & (runs["tags.system"] == "cnn")].iloc[0]
        logged = mlflow.search_logged_models(
            [run["experiment_id"]], f"source_run_id = '{run['run_id']}'", output_format="list"
        )
        model = mlflow.pyfunc.load_model(logged[0].model_uri)
        assert model.metadata.signature.inputs.inputs[0].shape == (-1, 48, 48, 1)
        images = np.load(clone.root / "tensors/48/images.npy")[:2, ..., None]
        predictions = pd.read_csv(clone.root / "evaluations/cnn/predictions.csv")
        assert model.predict(images)[:, 0] == pytest.approx(
            predictions["probability"][:2], abs=1e-5
        )

    def test_lost_database_is_rebuilt_as_it_was(self, clone):
        # Another name, not a deletion: this process still holds the first one open.
        other = {"MLFLOW_TRACKING_URI": f"sqlite:///{clone.root}/rebuilt.db"}
        assert "14 of 14 stages were missing" in clone.cxr("sync", **other)
        assert "0 of 14 stages were missing" in clone.cxr("sync", **other)
        before, after = self.first(clone), clone.runs("rebuilt.db")
        volatile = (
            r"tags.mlflow.(log-model|runName)|tags.cxr.process|run_id|artifact_uri|experiment"
            r"|metrics.system"  # of trainings over ten seconds, and in no output
        )
        for stage in ("download", "split", "train"):
            tables = []
            for runs in (before, after):
                of_stage = runs[runs["tags.stage"] == stage].set_index(f"tags.cxr.{stage}.id")
                columns = [c for c in of_stage if not re.search(volatile, c) and "_time" not in c]
                rows = of_stage[sorted(columns)].dropna(axis="columns", how="all")
                tables.append(rows.loc[rows.index.isin(after[f"tags.cxr.{stage}.id"])].sort_index())
            pd.testing.assert_frame_equal(*tables)

    def test_runs_of_every_revision_are_rebuilt_and_found_from_both_sides(self, clone, three):
        other = {"MLFLOW_TRACKING_URI": f"sqlite:///{clone.root}/all.db"}
        before = clone.call("git", "status", "--porcelain", "--untracked-files=no")
        said = clone.cxr("sync", "--all", **other)
        assert "not logged" not in said
        assert re.search(r"revisions with different outputs: [1-9]\d* runs logged", said)
        assert "outputs: 0 runs logged" in clone.cxr("sync", "--all", **other)
        assert clone.call("git", "status", "--porcelain", "--untracked-files=no") == before
        runs = clone.runs("all.db")
        logged = runs[runs["tags.dvc.experiment"] == "three"].set_index("tags.stage")
        assert set(logged.index) >= {"train", "compare"}
        transfer = logged.loc["train"]
        assert transfer["params.freeze_blocks"] == "3"
        assert transfer["metrics.test/auc"] > 0
        assert transfer["run_id"] in clone.cxr("runs", "three", **other)
        said = clone.cxr("runs", transfer["run_id"][:10], **other)
        assert said.count("  in              experiment three\n") == 2
        assert "dvc exp run -S freeze_blocks=3 train@vgg16_transfer" in said

    def test_unreachable_server_is_a_warning_and_the_results_are_there(self, clone, unreachable):
        said = clone.call("python", "-m", "stages.split", MLFLOW_TRACKING_URI=unreachable)
        assert f"MLflow at {unreachable} could not log splits" in said
        assert "cxr sync" in said
        assert (clone.root / "splits/summary.json").is_file()

    def test_input_hashes_are_right_after_a_second_rebuild(self, clone):
        archive = clone.root / "tiny.zip"
        before = archive.read_bytes()
        try:
            phantom.write_archive(archive, seed=2, images=40, size_range=(40, 64))
            assert clone.stages("repro", "split") == {"download", "split"}
            made = {out["path"]: out["md5"] for out in clone.lock()["download"]["outs"]}
            runs = clone.runs()
            newest = runs[runs["tags.stage"] == "split"].sort_values("start_time").iloc[-1]
            assert newest["tags.dvc.md5.raw/xrays.zip"] == made["raw/xrays.zip"]
        finally:
            archive.write_bytes(before)
            clone.call("git", "checkout", "dvc.lock")
            clone.call("dvc", "checkout", "--quiet", "--force")


@pytest.mark.parametrize(
    ("override", "says"),
    [("freeze_blocks=7", "freeze_blocks is 7"), ("split.val.NORMAL=4000", "split.val.NORMAL 4000")],
)
def test_wrong_parameter_ends_in_one_clear_line_and_leaves_the_results(clone, override, says):
    before = (clone.root / "reports/comparison.csv").read_bytes()
    said = clone.call("dvc", "exp", "run", "-S", override, fails=True)
    assert says in said
    assert "Traceback" not in said
    clone.call("git", "checkout", "params.yaml", "dvc.lock")
    clone.call("dvc", "checkout", "--quiet")
    assert (clone.root / "reports/comparison.csv").read_bytes() == before


def test_misspelt_parameter_is_refused_by_dvc(clone):
    said = clone.call("dvc", "exp", "run", "-S", "freeze_block=3", fails=True)
    assert "freeze_block" in said


class TestKilled:
    def test_a_killed_experiment_goes_on_in_its_next_copy(self, clone):
        command = (
            "dvc", "exp", "run", "--temp", "-n", "killed", "--single-item",
            "-S", "systems.cnn.phases.clean.epochs=40", "train@cnn",
        )  # fmt: skip
        first = subprocess.Popen(
            command, cwd=clone.root, env=environment(**clone.settings), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        checkpoints = clone.root / "checkpoints" / "cnn"
        try:
            while not list(checkpoints.glob("*/progress.npz")):
                assert first.poll() is None  # DVC and the stage are killed long before their end
                time.sleep(0.05)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(first.pid, signal.SIGKILL)
            first.wait()
            # What docs/TROUBLESHOOTING.md says to remove: the killed experiment's copy.
            kept = clone.root / ".dvc/tmp/exps"
            for left in [*kept.glob("standalone/tmp*"), kept / "run"]:
                shutil.rmtree(left, ignore_errors=True)
        assert "resuming cnn at phase clean, epoch " in clone.call(*command)
        assert not checkpoints.exists()
        runs = clone.runs()
        ((_, run),) = runs[runs["tags.dvc.experiment"] == "killed"].iterrows()
        assert run["status"] == "FINISHED"
        logged = mlflow.MlflowClient().get_metric_history(run["run_id"], "epoch/loss")
        steps = sorted(metric.step for metric in logged)
        assert steps == list(range(1, len(steps) + 1))
        clone.call("dvc", "exp", "remove", "killed")
