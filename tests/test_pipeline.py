"""The whole pipeline through DVC, in a clone, on a tiny sample: what runs and what is kept.

Stages are forked from one process that has TensorFlow imported (stages/prefork.py), as those of the
demo are, but where a test says PLAIN.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import mlflow
import pandas as pd
import pytest
import yaml

from cxr.models import backbones
from tools import phantom

ROOT = Path(__file__).resolve().parents[1]
PLAIN = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
COUNTS = {"NORMAL": 3, "PNEUMONIA": 6}
# Of the repository's systems those that show all that DVC can do with them: freeze_blocks, its
# control, and phases on clean and perturbed films; and the smallest size they can bear, or so.
SIZES = {"vgg16_transfer": 32, "vgg16_scratch": 32, "cnn": 48}
SYSTEMS = tuple(SIZES)
EVERY_STAGE = {
    "download",
    "split",
    "preprocess@32",
    "preprocess@48",
    "compare",
    *(f"{stage}@{system}" for stage in ("weights", "train", "evaluate") for system in SYSTEMS),
}
TINY = {
    "source": "tiny.zip",
    **{f"split.{side}.{name}": n for side in ("val", "test") for name, n in COUNTS.items()},
    **{f"systems.{system}.image_size": size for system, size in SIZES.items()},
    **{f"systems.{system}.batch_size": 4 for system in SYSTEMS},
    "systems.vgg16_transfer.weights": "null",
    "systems.cnn.weights": "cnn.weights.h5",  # its own random ones, from a file
    "systems.vgg16_transfer.phases.train.epochs": 1,
    "systems.vgg16_scratch.phases.train.epochs": 1,
    **{f"systems.cnn.phases.{phase}.epochs": 1 for phase in ("clean", "perturbed")},
    **{f"systems.cnn.phases.{phase}.steps_per_epoch": 2 for phase in ("clean", "perturbed")},
}


@dataclass
class Clone:
    """A clone of this repository as it lies here, with DVC and git of its own."""

    root: Path
    path: str  # PATH of what it runs

    def call(self, *command: str, fails: bool = False, **env: str) -> str:
        """Run a command in the clone and return all that it printed."""
        done = subprocess.run(
            command, cwd=self.root, env=environment(PATH=self.path) | env,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, said
        return said

    def stages(self, *command: str, **env: str) -> set[str]:
        """Run DVC and return the names of the stages that it ran (not: restored or skipped)."""
        return set(re.findall(r"Running stage '(.+?)'", self.call("dvc", *command, **env)))

    def runs(self, database: str = "mlflow.db") -> pd.DataFrame:
        """Return MLflow's runs from a database at the clone's root."""
        mlflow.set_tracking_uri(f"sqlite:///{self.root}/{database}")
        return mlflow.search_runs(search_all_experiments=True)

    def json(self, path: str) -> dict:
        return json.loads((self.root / path).read_text())


def environment(**env: str) -> dict[str, str]:
    """Return this process's environment without what would decide for DVC, Python or MLflow."""
    without = ("MLFLOW_", "DVC_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "GIT_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(without)}
    return kept | {"DVC_NO_ANALYTICS": "1"} | env


def overrides(values: dict) -> list[str]:
    return [part for key, value in values.items() for part in ("-S", f"{key}={value}")]


def leave_out_systems(root: Path) -> None:
    """Take all but SYSTEMS out of params.yaml and dvc.yaml, as a person may."""
    settings = yaml.safe_load((root / "params.yaml").read_text())
    settings["systems"] = {name: settings["systems"][name] for name in SYSTEMS}
    (root / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    pipeline = yaml.safe_load((root / "dvc.yaml").read_text())
    trained, cached = pipeline["stages"]["train"], pipeline["stages"]["preprocess"]
    trained["foreach"] = {name: trained["foreach"][name] for name in SYSTEMS}
    cached["foreach"] = [f"${{systems.{name}.image_size}}" for name in SYSTEMS]
    (root / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))


@pytest.fixture(scope="module")
def forking_path() -> Iterator[str]:
    """A PATH whose `python` has its stages forked, for as long as the tests take."""
    tell = ["sh", "-c", "echo $PATH; cat"]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "stages/prefork.py"), *tell],
        env=environment(PATH=PLAIN), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        yield server.stdout.readline().strip()
        server.stdin.close()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, forking_path: str) -> Clone:
    """Clone the files that git would take, commit them, and run everything once."""
    root = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    leave_out_systems(root)
    made = Clone(root, forking_path)
    phantom.write_archive(root / "tiny.zip", seed=1, images=40, size_range=(40, 64))
    image = keras.Input((None, None, 3))
    backbone = keras.Model(image, backbones.BACKBONES["cnn"].apply(image))
    backbone.save_weights(root / "cnn.weights.h5")
    made.call("git", "init", "--quiet")
    made.call("git", "config", "user.name", "test")
    made.call("git", "config", "user.email", "test@example.org")
    (root / ".git/info/exclude").write_text("/tiny.zip\n/cnn.weights.h5\n")
    made.call("git", "add", ".")
    made.call("git", "commit", "--quiet", "-m", "as it lies here")
    made.call("dvc", "pull", "--remote", "sample", "data.dvc")  # as `make setup` does
    assert made.stages("exp", "run", "-n", "first", *overrides(TINY)) == EVERY_STAGE
    made.call("git", "add", ".")
    made.call("git", "commit", "--quiet", "-m", "tiny")
    return made


def test_every_promised_file_is_there(clone):
    for name in SYSTEMS:
        trained = {"architecture.json", "model.weights.h5", "phases", "history.csv", "train.json"}
        assert {p.name for p in (clone.root / "models" / name).glob("*")} >= trained
        evaluated = {p.name for p in (clone.root / "evaluations" / name).glob("*")}
        assert evaluated >= {"metrics.json", "predictions.csv", "phases.csv", "perturbed.png"}
    assert (clone.root / "reports/index.html").stat().st_size > 10_000


def test_comparison_holds_every_system_and_the_published_figure(clone):
    table = pd.read_csv(clone.root / "reports/comparison.csv").set_index("system")
    assert list(table.index) == list(SYSTEMS)
    assert table.loc["vgg16_transfer", "published_auc"] == 0.9895


def test_second_repro_runs_nothing(clone):
    assert clone.stages("repro") == set()


def test_outputs_name_neither_this_machine_nor_a_date(clone):
    for path in [*clone.root.glob("models/*/*.json"), *clone.root.glob("*/*.json")]:
        if path.name != "timing.json":
            assert str(clone.root) not in path.read_text(), path
            assert not re.search(r"20\d\d-\d\d-\d\d", path.read_text()), path


def test_predictions_hold_every_image_once_with_its_split(clone):
    manifest = pd.read_csv(clone.root / "splits/manifest.csv").set_index("id")
    predictions = pd.read_csv(clone.root / "evaluations/vgg16_scratch/predictions.csv")
    assert set(predictions["id"]) == set(manifest.index)
    assert (manifest.loc[predictions["id"], "split"].to_numpy() == predictions["split"]).all()


def test_mlflow_has_one_run_a_model_with_training_and_test_figures(clone):
    runs = clone.runs()
    models = runs[runs["tags.stage"] == "train"]
    assert sorted(models["tags.system"]) == sorted(SYSTEMS)
    assert not (runs["tags.stage"] == "evaluate").any()
    transfer = models.set_index("tags.system").loc["vgg16_transfer"]
    metrics = clone.json("evaluations/vgg16_transfer/metrics.json")
    assert transfer["params.freeze_blocks"] == "4"
    assert transfer["metrics.test/auc"] == pytest.approx(metrics["test"]["auc"])
    assert transfer["metrics.val_loss"] > 0
    assert transfer["tags.dvc.experiment"] == "first"


def test_mlflow_has_a_run_of_every_stage_under_one_parent(clone):
    runs = clone.runs()
    first = runs[runs["tags.dvc.experiment"] == "first"]
    stages = {"download", "split", "preprocess", "weights", "train", "compare"}
    assert set(first["tags.stage"]) == stages | {"rebuild"}
    parents = first.loc[first["tags.stage"] != "rebuild", "tags.mlflow.parentRunId"]
    assert set(parents) == set(first.loc[first["tags.stage"] == "rebuild", "run_id"])
    # Of random weights there is nothing to log.
    assert first.loc[first["tags.stage"] == "weights", "tags.system"].tolist() == ["cnn"]
    saw_data = first[~first["tags.stage"].isin(["weights", "rebuild"])]
    assert set(saw_data["tags.source.sha256"]) == {clone.json("raw/source.json")["sha256"]}


def test_mlflow_has_the_inputs_md5_as_dvc_locked_it(clone):
    runs = clone.runs()
    run = runs[(runs["tags.stage"] == "train") & (runs["tags.system"] == "vgg16_scratch")].iloc[0]
    lock = (clone.root / "dvc.lock").read_text()
    md5 = run["tags.dvc.md5.tensors/32/images.npy"]
    assert re.search(rf"tensors/32/images.npy\n\s+hash: md5\n\s+md5: {md5}", lock)


def test_mlflow_model_takes_raw_pixels_and_gives_the_same_probability(clone):
    import numpy as np

    runs = clone.runs()
    run = runs[(runs["tags.stage"] == "train") & (runs["tags.system"] == "vgg16_scratch")].iloc[0]
    logged = mlflow.search_logged_models(
        [run["experiment_id"]], f"source_run_id = '{run['run_id']}'", output_format="list"
    )
    model = mlflow.pyfunc.load_model(logged[0].model_uri)
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 32, 32, 1)
    images = np.load(clone.root / "tensors/32/images.npy")[:2, ..., None]
    predictions = pd.read_csv(clone.root / "evaluations/vgg16_scratch/predictions.csv")
    assert model.predict(images)[:, 0] == pytest.approx(predictions["probability"][:2], abs=1e-5)


def test_freeze_blocks_reruns_the_transfer_baseline_alone(clone):
    ran = clone.stages("exp", "run", "-S", "freeze_blocks=3", "-n", "three", PATH=PLAIN)
    assert ran == {"train@vgg16_transfer", "evaluate@vgg16_transfer", "compare"}
    runs = clone.runs()
    three = runs[(runs["tags.dvc.experiment"] == "three") & (runs["tags.stage"] == "train")]
    assert list(three["params.freeze_blocks"]) == ["3"]
    assert three["metrics.test/auc"].notna().all()
    shown = clone.call("dvc", "exp", "show", "--csv")
    assert "freeze_blocks" in shown
    assert "three" in shown
    assert "test.auc" in clone.call("dvc", "metrics", "diff", "--all", "HEAD", "three")
    clone.call("dvc", "exp", "apply", "first")


def test_perturbation_reruns_what_trains_on_it_and_every_evaluation(clone):
    ran = clone.stages("exp", "run", "-S", "perturbation.rotation=20", "-n", "milder")
    assert ran == {"train@cnn", *(f"evaluate@{name}" for name in SYSTEMS), "compare"}
    runs = clone.runs()
    milder = runs[(runs["tags.dvc.experiment"] == "milder") & (runs["tags.stage"] == "train")]
    assert set(milder["params.perturbation.rotation"]) == {"20.0"}
    clone.call("dvc", "exp", "apply", "first")


def test_temporary_experiment_logs_to_the_root_and_leaves_the_tree_as_it_was(clone):
    before = clone.call("git", "status", "--porcelain")
    ran = clone.stages("exp", "run", "--temp", "-n", "strict", "-S", "evaluate.threshold=0.6",
                       "-S", f"source={clone.root}/tiny.zip")  # fmt: skip
    assert {f"evaluate@{name}" for name in SYSTEMS} | {"compare"} <= ran
    assert not any(stage.startswith("train@") for stage in ran)
    assert clone.call("git", "status", "--porcelain") == before
    runs = clone.runs()
    strict = runs[(runs["tags.dvc.experiment"] == "strict") & (runs["tags.stage"] == "train")]
    assert sorted(strict["tags.system"]) == sorted(SYSTEMS)
    assert set(strict["params.evaluate.threshold"]) == {"0.6"}
    assert all(uri.startswith(f"file://{clone.root}/mlartifacts") for uri in runs["artifact_uri"])


def test_lost_database_is_rebuilt_from_the_outputs(clone):
    # Another name, not a deletion: this process still holds the first one open.
    other = {"MLFLOW_TRACKING_URI": f"sqlite:///{clone.root}/rebuilt.db"}
    assert "12 of 12 runs were missing" in clone.call("python", "-m", "stages.sync", **other)
    rebuilt = clone.runs("rebuilt.db")
    models = rebuilt[rebuilt["tags.stage"] == "train"]
    assert sorted(models["tags.system"]) == sorted(SYSTEMS)
    assert models["metrics.test/auc"].notna().all()
    assert models["metrics.val_loss"].notna().all()
    assert "0 of 12 runs were missing" in clone.call("python", "-m", "stages.sync", **other)


def test_plots_show_gives_a_page(clone):
    clone.call("dvc", "plots", "show")
    assert "ROC on test" in (clone.root / "dvc_plots/index.html").read_text()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("freeze_blocks=7", "freeze_blocks is 7"),
        ("systems.vgg16_scratch.image_size=16", "takes 32 x 32 pixels or more"),
        ("split.val.NORMAL=4000", "split.val.NORMAL 4000"),
        ("systems.vgg16_scratch.weights=nowhere.h5", "nowhere.h5 is not a file"),
        ("training.precision=float16", "training.precision is 'float16'"),
        (
            "systems.vgg16_scratch.phases.train.data=perturbed",
            'dvc.yaml args: "--perturbed" and also: perturbation',
        ),
    ],
)
def test_wrong_parameter_ends_in_one_clear_line_and_keeps_the_results(clone, override, says):
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


def test_unreachable_server_is_a_warning_and_the_results_are_there(clone):
    said = clone.call("python", "-m", "stages.split", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "MLflow at http://127.0.0.1:9 did not take the run of split" in said
    assert "make sync" in said
    assert (clone.root / "splits/summary.json").is_file()


@pytest.mark.parametrize("stage", ["download", "split", "preprocess", "weights", "train",
                                   "evaluate", "compare", "sync", "ui"])  # fmt: skip
def test_stage_explains_itself(clone, stage):
    assert "usage:" in clone.call("python", "-m", f"stages.{stage}", "--help")
