"""Kill the train stage again and again, at random moments, and compare what it ends with.

    python -m benchmarks.soak --kills 200

It works in a temporary copy of the project, on the embedded sample, with the small CNN: two phases,
plateau, early stopping and dropout. One training runs undisturbed. Then the stage is started and
killed (SIGKILL) after a random time, at most as long as that training took, until there have been
so many kills. Every training that ends must leave the same bytes, and in MLflow one finished run
with each epoch once.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from ruamel.yaml import YAML
from tqdm import tqdm

from cxr import files, machine

ROOT = Path(__file__).resolve().parents[1]
SYSTEM, SIZE = "cnn", 48
MODEL = Path("models") / SYSTEM
OF_EACH_RUN = "provenance.json"


def prepare(copy: Path) -> None:
    """Copy the code, and run the stages before training with a small system."""
    for name in ("src", "stages", "sources"):
        shutil.copytree(ROOT / name, copy / name)
    yaml = YAML()
    settings, demo = (yaml.load(ROOT / name) for name in ("params.yaml", "tools/demo.yaml"))
    settings["source"] = str(ROOT / demo["source"])
    settings["split"] |= demo["split"]
    system = settings["systems"][SYSTEM]
    system |= {"image_size": SIZE, "batch_size": 16}
    clean, perturbed = system["phases"]["clean"], system["phases"]["perturbed"]
    clean |= {"epochs": 14, "steps_per_epoch": None}
    clean["plateau"]["patience"] = 1
    clean["early_stopping"]["patience"] = 8
    perturbed |= {"epochs": 8, "steps_per_epoch": None}
    with (copy / "params.yaml").open("w", encoding="utf-8") as stream:
        yaml.dump(settings, stream)
    stages = [("download",), ("split",), ("preprocess", str(SIZE))]
    stages += [("weights", SYSTEM), ("features", SYSTEM)]
    for stage in stages:
        if start(copy, *stage).wait():
            sys.exit((copy / "log.txt").read_text(encoding="utf-8")[-2000:])


def start(copy: Path, stage: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a stage in the copy; what it prints goes to log.txt there."""
    environment = os.environ | {"DVC_ROOT": str(copy), "CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (copy / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", f"stages.{stage}", *arguments]
        return subprocess.Popen(command, cwd=copy, env=environment, stdout=log, stderr=log)


def train(copy: Path, limit: float | None = None) -> bool:
    """Train, for at most ``limit`` seconds; return whether the stage was killed."""
    process = start(copy, "train", SYSTEM, "--perturbed")
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    if code:
        sys.exit((copy / "log.txt").read_text(encoding="utf-8")[-2000:])
    return False


def is_complete(copy: Path) -> bool:
    """Return whether a training has ended: its outputs are there and its checkpoint is gone.

    A process that is killed while it exits has ended its training.
    """
    return (copy / MODEL / OF_EACH_RUN).exists() and not (copy / "checkpoints" / SYSTEM).exists()


def outputs(copy: Path) -> dict[str, str]:
    """Return the hash of every output that must be equal, and remove the outputs, as DVC does."""
    found = {
        path.relative_to(copy).as_posix(): files.file_sha256(path)
        for path in sorted((copy / MODEL).rglob("*"))
        if path.is_file() and path.name != OF_EACH_RUN
    }
    shutil.rmtree(copy / MODEL)
    return found


def check_runs(copy: Path, trainings: int, epochs: int) -> None:
    """Check that MLflow has a finished run of each training, with each epoch once."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{copy}/mlflow.db")
    client = mlflow.MlflowClient()
    runs = client.search_runs(
        [e.experiment_id for e in client.search_experiments()],
        "tags.stage = 'train' and attributes.status = 'FINISHED'",
    )
    assert len(runs) == trainings, f"{len(runs)} finished runs of {trainings} trainings"
    for run in runs:
        steps = [m.step for m in client.get_metric_history(run.info.run_id, "epoch/val_loss")]
        assert sorted(steps) == list(range(1, epochs + 1)), f"{run.info.run_id}: {sorted(steps)}"


def main() -> None:
    """Kill, compare, and print one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="at least this many (200)")
    parser.add_argument("--seed", type=int, default=None, help="of the random moments")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        copy = Path(folder)
        prepare(copy)
        began = time.perf_counter()
        train(copy)
        length = time.perf_counter() - began
        epochs = len(files.read_csv(copy / MODEL / "history.csv"))
        expected, kills, trainings = outputs(copy), 0, 1
        with tqdm(total=arguments.kills, unit="kill", disable=None) as bar:
            while kills < arguments.kills:
                while not is_complete(copy):
                    if train(copy, chance.uniform(0, length)):
                        kills += 1
                        bar.update()
                trainings += 1
                found = outputs(copy)
                assert found == expected, f"training {trainings}: {found}, not {expected}"
        check_runs(copy, trainings, epochs)
        left = [path.name for path in (copy / "checkpoints").rglob("*")]
        assert not left, left
    print(
        f"{kills} kills in {trainings - 1} trainings of {epochs} epochs: all outputs equal, each "
        f"epoch once in MLflow ({machine.cpu_name()}, {datetime.now(UTC):%Y-%m-%d})"
    )


if __name__ == "__main__":
    main()
