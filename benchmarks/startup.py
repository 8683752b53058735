"""Fixed costs: each stage with almost nothing to do, and ``dvc repro`` with nothing at all.

    python -m benchmarks.startup

The stages run on 40 phantoms and one step a phase of ``cnn`` from random weights, in a copy of the
project, each in a process of its own. The imports of Keras and MLflow are part of their seconds; 0
where a stage does not import them. For ``dvc repro`` all stages of all systems have been run, with
small files for outputs: DVC hashes a file once, and later compares its time and size.
"""

import os
import re
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from benchmarks import measure, project
from tools import phantom

SYSTEM, SIZE, ROUNDS = "cnn", 48, 5
COUNTS = {"NORMAL": 3, "PNEUMONIA": 6}
NOTHING = "dvc repro with nothing to do"
COLUMNS = ("seconds", "CPU seconds", "of them Keras", "of them MLflow")
# A line of -X importtime: microseconds of the module alone, and with what it imports.
IMPORTED = re.compile(r"^import time:\s+\d+ \|\s+(\d+) \| (\s*)(keras|mlflow)$", re.MULTILINE)


def command(stage: str, body: dict[str, Any]) -> list[str]:
    """Return the arguments of ``python`` for a stage of dvc.yaml, for :data:`SYSTEM`."""
    values = {"key": SYSTEM, "item": str(SIZE)}
    items = body.get("foreach")
    if isinstance(items, dict):
        values["item.args"] = items[SYSTEM]["args"]
    text = body.get("do", body)["cmd"].replace(" probe", f" {SYSTEM}")  # that of the audit
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return shlex.split(text.removeprefix("python "))


def prepare(folder: Path) -> dict[str, list[str]]:
    """Make a copy of the project with tiny parameters, and return each stage's command."""
    settings = project.copy(folder)
    phantom.write_archive(folder / "xrays.zip", 1, 40, (40, 64))
    settings["source"] = "xrays.zip"
    settings["split"] |= {"val": COUNTS, "test": COUNTS}
    system = settings["systems"][SYSTEM]
    system |= {"image_size": SIZE, "batch_size": 4}
    for phase in system["phases"].values():
        phase |= {"epochs": 1, "steps_per_epoch": 1}
    project.save(folder, settings)
    pipeline = YAML(typ="safe", pure=True).load(folder / "dvc.yaml")["stages"]
    for stage in ("external", "ensemble"):  # they have no item: their parameters are empty
        del pipeline[stage]
    return {stage: command(stage, body) for stage, body in pipeline.items()}


def populate(folder: Path) -> int:
    """Make a copy in which DVC finds every output in place, and return the number of stages."""
    project.copy(folder)
    shutil.copyfile(project.ROOT / ".dvc/.gitignore", folder / ".dvc/.gitignore")
    settings = YAML().load(folder / "params.yaml") | {"source": "xrays.zip"}
    project.save(folder, settings)
    (folder / "xrays.zip").write_bytes(b"an archive")
    call(folder, "git", "init", "--quiet")
    listed = call(folder, sys.executable, "-c", OUTPUTS)
    stages, *outputs = listed.stdout.split("\n")
    for name in filter(None, outputs):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.write_text(f'{{"path": "{name}"}}\n', encoding="utf-8")
        else:
            path.mkdir()
            (path / "file").write_text(name, encoding="utf-8")
    call(folder, sys.executable, "-m", "dvc", "commit", "--force")
    return int(stages)


OUTPUTS = """\
from dvc.repo import Repo
with Repo(".") as repo:
    stages = repo.index.stages
    print(len(stages))
    for stage in stages:
        for out in stage.outs:
            print(out.def_path)
"""


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder.

    Raises:
        SystemExit: with the end of what it said, if it fails.
    """
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "PYTHONPATH"):
        environment.pop(name, None)
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit((done.stdout + done.stderr)[-2000:])  # a stage says on stdout what is wrong
    return done


def used(folder: Path, arguments: Sequence[str]) -> tuple[float, float, float, float]:
    """Run ``python`` with arguments and return the values of :data:`COLUMNS`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    said = call(folder, sys.executable, "-X", "importtime", *arguments).stderr
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    imports = {name: int(micro) / 1e6 for micro, _, name in IMPORTED.findall(said)}
    return seconds, cpu, imports.get("keras", 0.0), imports.get("mlflow", 0.0)


def main() -> None:
    """Run every stage in turn, several times."""
    arguments = measure.parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="startup-") as temporary:
        tiny, whole = Path(temporary) / "tiny", Path(temporary) / "whole"
        stages = prepare(tiny)
        count = populate(whole)
        runs = {name: (tiny, words) for name, words in stages.items()}
        runs[NOTHING] = (whole, ["-m", "dvc", "repro"])
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in runs}
        # The first round is not counted: it creates MLflow's database and Python's bytecode.
        for counts in [True] if arguments.toy else [False, *ROUNDS * [True]]:
            for name, (folder, words) in runs.items():
                seconds = used(folder, words)
                if counts:
                    found[name].append(seconds)
    rows = [
        {"command": name}
        | dict(zip(COLUMNS, map(statistics.median, zip(*each, strict=True)), strict=True))
        for name, each in found.items()
    ]
    measure.write(
        "startup", "Fixed costs", measure.command(), pd.DataFrame(rows),
        [f"dvc repro had {count} stages before it."],
        measure.bars({row["command"]: row["seconds"] for row in rows}, "seconds", NOTHING),
        arguments.toy,
    )  # fmt: skip


if __name__ == "__main__":
    main()
