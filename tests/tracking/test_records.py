"""Records: made from a stage's folder, and from nothing of the present."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cxr import files
from cxr.errors import InputError
from cxr.tracking import metrics, records
from tests.tracking.conftest import Project


def test_split_has_its_parameters_figures_and_files(project):
    record = records.of(project.split(images=30))
    assert record.params["seed"] == "0"
    assert record.params["split.protocol"] == "grouped"
    assert record.params["rejected"] == "2"
    assert record.metrics == {}  # counts are no figures to compare
    assert record.datasets[0].profile == {"num_rows": 30, "NORMAL": 30, "PNEUMONIA": 0}
    assert record.artifacts == ["summary.json", "manifest.csv", "rejected.csv", "provenance.json"]
    assert record.tags["dvc.md5.raw/xrays.zip"] == files.file_md5("raw/xrays.zip")


def test_nothing_of_the_present_enters(project, monkeypatch):
    folder = project.split()
    Project.change(
        folder,
        git={"commit": "c" * 40, "changed": ["src/cxr/files.py"]},
        dvc={"experiment": "then", "baseline": None},
        mlflow_experiment="old",
        versions={"keras": "3.0.0"},
        device="a CPU",
        cores=64,
        parameters={"seed": 7},
        started="2020-01-02T03:04:05+00:00",
        user="Ada",
    )
    before = records.of(folder)
    monkeypatch.setenv("DVC_EXP_NAME", "now")
    Path("params.yaml").write_text("seed: 8\n")
    Path("dvc.lock").write_text("stages: {}\n")
    files.write_text("raw/xrays.zip", "another zip")
    record = records.of(folder)
    assert record == before
    assert record.experiment == "old"
    assert record.params == {"seed": "7", "rejected": "2"}
    assert record.started == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp() * 1000
    expected = {
        "mlflow.source.git.commit": "c" * 40, "git.changed": "true", "dvc.experiment": "then",
        "version.keras": "3.0.0", "device": "a CPU", "cores": "64", "mlflow.user": "Ada",
        "mlflow.source.name": "stages/split.py", "mlflow.source.type": "LOCAL",
    }  # fmt: skip
    assert {k: v for k, v in record.tags.items() if not k.startswith("dvc.md5.")} == expected


def test_training_has_epochs_with_the_times_of_their_ends(project):
    record = records.of(project.train())
    ends, rows = zip(*record.epochs, strict=True)
    assert [end - record.started for end in ends] == [4000, 6500]
    assert [row["epoch/val_loss"] for row in rows] == [0.7, 0.5]
    assert record.params["freeze_blocks"] == "4"
    assert record.params["head.pool"] == "average"
    assert record.params["policy"] == "float32"
    assert record.metrics["seconds_per_epoch"] == 3.25
    assert record.tags["device"] == "a GPU"
    assert "phases/index.json" in record.artifacts
    assert record.weights == f"vgg:{files.file_md5('models/vgg/model.weights.h5')}"


def test_model_requires_the_backend_that_trained_it(project):
    folder = project.train()
    training = files.read_json(folder / "provenance.json")["training"]
    versions = {"keras": "3.15.1", "tensorflow": "2.21.0", "jax": "0.7.0", "numpy": "2.0.0"}
    Project.change(folder, versions=versions, training=training | {"backend": "jax"})
    assert records.of(folder).requirements == ["keras==3.15.1", "jax==0.7.0"]


def test_evaluation_names_its_training(project):
    project.train()
    record = records.of(project.evaluate(threshold=0.6, auc=0.9))
    assert record.params == {"evaluate.threshold": "0.6", "evaluate.seed": "0"}
    assert record.metrics == {"test/auc": 0.9, "threshold": 0.6, "calibration/ece": 0.1}
    assert record.training == records.of(Path("models/vgg"))
    assert record.weights == record.training.weights
    # The prefix tells its tags from those of the training, in the same run.
    assert all(name.startswith("evaluate.") for name in record.tags if name != "system")


def test_evaluation_has_two_figures_of_its_explanations(project):
    project.train()
    folder = project.evaluate(auc=0.9)
    written = files.read_json(folder / "metrics.json")
    explained = {"centre_share": 0.7, "centre_share_even": 0.64, "randomised_correlation": None}
    files.write_json(folder / "metrics.json", written | {"explanations": explained})
    found = records.of(folder).metrics
    assert found["explanations/centre_share"] == 0.7
    assert "explanations/randomised_correlation" not in found


def test_evaluation_of_a_model_that_was_trained_again_has_no_training(project):
    project.train("weights")
    folder = project.evaluate()
    project.train("other weights")
    record = records.of(folder)
    assert record.training is None
    assert record.weights != records.of(Path("models/vgg")).weights


@pytest.mark.parametrize(("sha256", "logged"), [(None, False), ("ab", True)])
def test_random_weights_have_no_record(project, sha256, logged):
    from cxr.tracking import provenance

    started = provenance.start("weights", project.settings, {}, [], "vgg")
    note = {"backbone": "vgg16", "weights": sha256 and "imagenet", "sha256": sha256}
    files.write_json("weights/vgg/initial/weights.json", note)
    provenance.finish(started, Path("weights/vgg"))
    assert (records.of(Path("weights/vgg")) is not None) == logged


@pytest.mark.parametrize("computed", [False, True])
def test_features_have_a_record_where_there_are_some(project, computed):
    from cxr.tracking import provenance

    folder = Path("features/vgg")
    started = provenance.start("features", project.settings, {"seed": 0}, [], "vgg")
    about = {"layer": "pool", "views": 3, "policy": "float32", "dtype": "float16", "sha256": "ab"}
    note = {"phases": {"head": "pool.clean.npy"}, "files": {"pool.clean.npy": about}}
    if computed:
        files.write_text(folder / "frozen/pool.clean.npy", "features")
    files.write_json(folder / "frozen/features.json", note if computed else {"phases": {}})
    provenance.finish(started, folder)
    record = records.of(folder)
    why = records.nothing(files.read_json(folder / "provenance.json"))
    assert why == (None if computed else "no frozen features")
    assert (record is not None) == computed
    if record is not None:
        wanted = {"features.head.layer": "pool", "features.head.views": "3"}
        assert wanted.items() <= record.params.items()
        assert record.tags["system"] == "vgg"
        assert record.artifacts == ["frozen/features.json", "provenance.json"]


@pytest.mark.parametrize("wanted", [False, True])
def test_shifted_images_have_a_record_where_there_are_some(project, wanted):
    from cxr.tracking import provenance

    folder = Path("shifted/vgg")
    started = provenance.start("shifted", project.settings, {"seed": 0}, [], "vgg")
    files.write_text(folder / "validation/index.csv", "id,label\n" + wanted * "a,0\na,0\n")
    if wanted:
        files.write_text(folder / "validation/images.npy", "images")
    provenance.finish(started, folder)
    record = records.of(folder)
    why = records.nothing(files.read_json(folder / "provenance.json"))
    assert why == (None if wanted else "no shifted images")
    assert (record is not None) == wanted
    if record is not None:
        assert record.params == {"seed": "0", "images": "2"}
        assert record.tags["system"] == "vgg"
        assert record.artifacts == ["validation/index.csv", "provenance.json"]


def test_an_archive_of_another_hospital_has_its_counts(project):
    from cxr.tracking import provenance

    folder = Path("externals/clinic")
    started = provenance.start("external", project.settings, {}, [], "clinic")
    about = {"counts": {"NORMAL": 2, "PNEUMONIA": 3}, "splits": {"external": 5}, "rejected": 0}
    files.write_json(folder / "source.json", about | {"sha256": "ab"})
    for name in ("xrays.zip", "images.csv", "rejected.csv"):
        files.write_text(folder / name, name)
    provenance.finish(started, folder)
    record = records.of(folder)
    wanted = {"images.PNEUMONIA": "3", "splits.external": "5", "rejected": "0"}
    assert record.params == wanted | {"images.NORMAL": "2"}
    assert record.tags["source.sha256"] == "ab" and record.name == "external clinic"
    assert record.artifacts == ["source.json", "images.csv", "rejected.csv", "provenance.json"]


def test_shifted_predictions_are_logged_and_their_figures_with_the_evaluation(project):
    from cxr.tracking import provenance

    folder = Path("shifts/vgg")
    started = provenance.start("shift", project.settings, {"shift": {"images": 9}}, [], "vgg")
    files.write_text(folder / "predictions.csv", "set")
    files.write_text(folder / "samples.png", "picture")
    provenance.finish(started, folder)
    record = records.of(folder)
    assert record.metrics == {} and record.params == {"shift.images": "9"}
    assert record.tags["system"] == "vgg" and record.weights is None
    assert record.artifacts == ["predictions.csv", "samples.png", "provenance.json"]

    project.train()
    evaluated = project.evaluate(auc=0.9)
    figures = files.read_json(evaluated / "metrics.json")
    figures["shift"] = {
        "validation": {"auc": 0.99, "shifted_auc": 0.8}, "curve": {"shifted_auc": None},
        "masked": {"centre": {"auc": 0.6}}, "external": {"clinic": {"auc": 0.7, "n": 9}},
    }  # fmt: skip
    files.write_json(evaluated / "metrics.json", figures)
    assert records.of(evaluated).metrics == {
        "test/auc": 0.9, "shift/val_auc": 0.8, "shift/lungs_masked_auc": 0.6,
        "shift/external_clinic_auc": 0.7, "threshold": 0.5, "calibration/ece": 0.1,
    }  # fmt: skip


def test_an_ensemble_has_the_figures_of_a_system_and_names_its_members(project):
    from cxr.tracking import provenance

    project.split()
    project.train()
    figures = files.read_json(project.evaluate(auc=0.9) / "metrics.json")
    del figures["explanations"]  # there is no network
    figures["test"] |= {"auc_low": 0.85, "auc_high": 0.95, "accuracy": 0.8}
    figures["shift"] = {"curve": {"shifted_auc": 0.7}}
    folder = Path("ensembles/pair")
    used = {"seed": 0, "evaluate": {"threshold": {"sensitivity": 0.95}}}
    used["ensembles"] = {"pair": ["vgg", "cnn"]}
    inputs = [Path("splits/manifest.csv")]
    started = provenance.start("ensemble", project.settings, used, inputs, "pair")
    files.write_json(folder / "metrics.json", figures | {"members": ["vgg", "cnn"]})
    provenance.finish(started, folder)
    record = records.of(folder)
    assert record.metrics == {
        "test/auc": 0.9, "test/auc_low": 0.85, "test/auc_high": 0.95, "test/accuracy": 0.8,
        "shift/test_auc": 0.7, "threshold": 0.5, "calibration/ece": 0.1,
    }  # fmt: skip
    assert record.params == {
        "seed": "0", "evaluate.threshold": "sensitivity: 0.95", "ensembles.pair": "vgg, cnn"
    }  # fmt: skip
    assert record.name == "ensemble pair" and record.tags["system"] == "pair"
    assert record.weights is None and not record.has_model
    assert record.artifacts == ["metrics.json", "provenance.json"]
    assert record.note.startswith("Mean of vgg, cnn\n")
    assert "AUC 0.900 (0.850 to 0.950)" in record.note
    assert "dvc repro ensemble@pair" in record.note
    assert [d.name for d in record.datasets] == ["X-rays, test"]


def test_audit_has_its_figures_and_what_it_could_not_assess(project):
    record = records.of(project.audit())
    assert record.metrics == {
        "patients_in_two_splits": 0, "duplicates/exact": 2, "duplicates/near": 1,
        "duplicates_in_test_and_rest": 0, "image_level_leak": 21.5, "suspects": 3,
        "shortcuts/picture/val": 0.8,
    }  # fmt: skip
    assert record.params == {"seed": "0", "alarm": "True", "not_assessable": "jpeg"}
    assert record.artifacts == ["audit.json", "provenance.json", "suspects.csv"]
    assert "audit" in record.note


def test_audit_of_which_nothing_can_be_assessed_has_counts_alone(project):
    record = records.of(project.audit(assessable=False))
    assert record.metrics == {
        "duplicates/exact": 2, "duplicates/near": 1, "duplicates_in_test_and_rest": 0
    }  # fmt: skip
    assert record.params["not_assessable"] == "geometry, jpeg"


def test_records_are_read_from_another_folder(project, tmp_path):
    project.train()
    before = records.of(project.evaluate())
    elsewhere = tmp_path / "elsewhere"
    for name in ("models", "evaluations"):
        shutil.copytree(name, elsewhere / name)
        shutil.rmtree(name)
    after = records.of(elsewhere / "evaluations/vgg")
    assert after.weights == before.weights
    assert after.training.weights == after.weights
    assert after.training.epochs == before.training.epochs


def test_training_has_the_curves_that_people_compare_and_counts_are_no_metrics(project):
    record = records.of(project.train())
    assert set(record.metrics) == {"epochs", "seconds", "seconds_per_epoch"}
    row = dict.fromkeys(("learning_rate", "loss", "auc", "val_auc", "recall", "val_precision"), 0.5)
    row |= {"shifted_loss": 0.5}
    assert set(metrics.of_epoch(row)) == {
        "schedule/learning_rate", "epoch/loss", "epoch/auc", "epoch/val_auc", "epoch/shifted_loss",
    }  # fmt: skip
    assert record.params["parameters.total"] == "10"
    assert [(d.name, d.counts) for d in record.datasets] == [
        ("X-rays 64 x 64, train", {"NORMAL": 3}), ("X-rays 64 x 64, val", {"NORMAL": 1})
    ]  # fmt: skip
    assert {d.md5 for d in record.datasets} == {files.file_md5("tensors/64/index.csv")}


def test_evaluation_has_the_test_images_with_counts_from_its_figures(project):
    project.train()
    (images,) = records.of(project.evaluate()).datasets
    assert images.name == "X-rays 64 x 64, test"
    assert images.counts == {"NORMAL": 5, "PNEUMONIA": 5}  # tn + fp, tp + fn


def test_description_says_what_on_what_with_which_result_and_how_to_rebuild_it(project):
    folder = project.train()
    Project.change(
        folder,
        git={"commit": "c" * 40, "changed": ["src/cxr/files.py"]},
        dvc={"experiment": "three", "baseline": None},
        user="Ada",
    )
    note = records.of(folder).note
    for said in (
        "Training of vgg: vgg16 from random weights, 4 blocks frozen", "best epoch: train 2",
        "train 3 NORMAL", files.file_md5("tensors/64/index.csv"), "on a GPU, by Ada",
        f"git checkout {'c' * 40}\ndvc exp apply three\ndvc repro train@vgg",
        "uncommitted changes in `src/cxr/files.py`",
    ):  # fmt: skip
        assert said in note
    assert "AUC 0.900 (undefined to undefined)" in records.of(project.evaluate()).note


def test_description_of_a_logistic_regression_has_its_strength(project):
    folder = project.train()
    about = files.read_json(folder / "train.json")
    about["phases"] = {"probe": {"best_epoch": 1, "strength": 300.0}}
    files.write_json(folder / "train.json", about)
    assert "result: probe: logistic regression, strength 300\n" in records.of(folder).note
    about["phases"]["finetune"] = {"best_epoch": 2}
    files.write_json(folder / "train.json", about)
    assert (
        "result: probe: logistic regression, strength 300; 2 epochs; best epoch: finetune 2\n"
        in records.of(folder).note
    )


def test_a_rule_for_the_threshold_is_one_parameter(project):
    project.train()
    record = records.of(project.evaluate(threshold={"sensitivity": 0.95}))
    assert record.params["evaluate.threshold"] == "sensitivity: 0.95"


def test_an_epoch_without_a_learning_rate_has_no_metric_of_it(project):
    folder = project.train()
    history = files.read_csv(folder / "history.csv").assign(learning_rate=float("nan"))
    files.write_csv(folder / "history.csv", history)
    for _, epoch in records.of(folder).epochs:
        assert "schedule/learning_rate" not in epoch
        assert "epoch/val_loss" in epoch


def test_a_folder_of_thousands_of_inputs_gives_no_tags(project):
    folder = project.split()
    Project.change(folder, inputs={f"xrays/{n}.jpeg": "0a" for n in range(101)})
    assert not any(name.startswith("dvc.md5.") for name in records.of(folder).tags)


def test_values_that_are_not_numbers_are_left_out():
    values = {"a": {"b": 1, "c": None, "d": float("nan"), "e": "text"}}
    assert metrics.numbers(values) == {"a/b": 1.0}


def test_missing_file_and_files_of_another_version_are_named(project):
    folder = project.train()
    (folder / "provenance.json").write_text(json.dumps({"id": "1", "stage": "train"}))
    with pytest.raises(InputError, match="models/vgg was written by another version"):
        records.of(folder)
    project.train()
    seconds = files.read_json(folder / "provenance.json")["training"] | {"seconds_per_epoch": [1]}
    Project.change(folder, training=seconds)  # history.csv has two epochs
    with pytest.raises(InputError, match="models/vgg was written by another version"):
        records.of(folder)
    (folder / "train.json").unlink()
    with pytest.raises(InputError, match=r"train.json is missing"):
        records.of(folder)
