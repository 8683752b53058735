"""Record a DVC experiment in results/<name>/: what DVC and MLflow know of it, without the pixels.

The experiment must have run from a commit, without changed files. Its outputs are read from DVC's
cache, so the workspace may have moved on. Then run `make results`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import pandas as pd

from cxr import files
from cxr.errors import InputError, reported
from cxr.evaluation import metrics as evaluated
from cxr.evaluation.evaluation import HALF
from cxr.tracking import metrics, rebuilding, revisions, runs, server
from cxr.tracking.provenance import NAME
from cxr.tracking.revisions import Repository, Revision
from tools.results import records

STAGES = {"download", "split", "preprocess", "weights", "features", "train", "shift", "evaluate"}
AT_HALF = ("auc", "accuracy", "precision", "recall", "specificity", "tp", "tn", "fp", "fn")
AUC = "test/auc"  # MLflow's name of it
EVALUATED = ("metrics.json", "shift.csv")  # copied from the evaluation
TRAINED = ("train.json", "history.csv")  # copied from the training; an ensemble has none


def main(argv: Sequence[str] | None = None) -> int:
    """Record an experiment and return 0.

    Args:
        argv: arguments; the process's own where None.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.results.record", description=__doc__)
    parser.add_argument("experiment", help="name of a DVC experiment, and of the record")
    parser.add_argument("system", help="the system or the ensemble that it evaluated")
    parser.add_argument(
        "--repository", default=".", help="the clone that has the experiment (default: this one)"
    )
    given = parser.parse_args(argv)
    folder = records.FOLDER.resolve() / given.experiment
    with reported(), chdir(given.repository), revisions.repository() as repository:
        copy(repository, given.experiment, given.system, folder)
        print(f"{folder.relative_to(records.ROOT)}: recorded. `make results` renews the documents")
    return 0


def copy(repository: Repository, experiment: str, system: str, folder: Path) -> None:
    """Write the record of an experiment's system, or of its ensemble, to a folder.

    Raises:
        InputError: there is no such experiment, it has not evaluated the system, its outputs do not
            belong together, or files were changed when it ran.
    """
    revision = repository.find(experiment)
    if revision is None:
        message = f"no DVC experiment is named {experiment}: `dvc exp list --all` shows them"
        raise InputError(message)
    place = _evaluated(revision, system)
    evaluation = revision.provenance(place)
    figures = json.loads(revision.read(f"{place}/metrics.json"))
    members = figures.get("members", [])
    systems = members or [system]
    made = rebuilding.chain(evaluation, [], [revision])
    _check(experiment, made)
    trained = [revision.provenance(f"models/{name}") for name in systems]
    source = json.loads(revision.read("raw/source.json"))
    initial = {
        name: json.loads(revision.read(f"weights/{name}/initial/weights.json")) for name in systems
    }
    there = metrics.flat(rebuilding.params_of(repository, evaluation["git"]["commit"]))
    changed = rebuilding.overrides(rebuilding.parameters(made), there)
    # These name files of one machine; the record has their hashes.
    local = {"source", *map(records.weights_key, systems)}
    outputs = {path: md5 for stage in made for path, md5 in stage["outputs"].items()}
    kept = [
        *(f"models/{name}/model.weights.h5" for name in systems),
        f"{place}/predictions.csv",
    ]
    seconds: dict[str, float] = {}
    for stage in reversed(made):
        seconds[stage["stage"]] = round(seconds.get(stage["stage"], 0) + stage["seconds"], 1)
    record = {
        "experiment": experiment,
        "system": system,
        "members": members,
        "commit": evaluation["git"]["commit"],
        "settings": {key: value for key, value in changed.items() if key not in local},
        "archive": {"name": source["origin"], "sha256": source["sha256"]},
        "weights": {
            name: {"name": weights["weights"], "sha256": weights["sha256"]}
            for name, weights in initial.items()
            if weights["weights"]
        },
        "finished": evaluation["ended"],
        "machine": {"device": trained[0]["device"], "cores": trained[0]["cores"]},
        "versions": trained[0]["versions"],
        "seconds": seconds,
        "md5": {path: outputs[path] for path in kept},
        "at_half": _at_half(_table(revision, f"{place}/predictions.csv")),
        "mlflow": _logged(evaluation if members else trained[0], figures),
    }
    copied = [f"{place}/{name}" for name in EVALUATED]
    copied += [] if members else [f"models/{system}/{name}" for name in TRAINED]
    for path in copied:
        files.write_text(folder / Path(path).name, revision.read(path).decode())
    files.write_csv(folder / "predictions.csv", _predictions(revision, place))
    files.write_json(folder / "record.json", record)


def _evaluated(revision: Revision, system: str) -> str:
    """Return the folder with the evaluation of a system or an ensemble."""
    found = [name for name in revision.folders() if name.startswith(("evaluations/", "ensembles/"))]
    for folder in found:
        if folder.split("/")[1] == system and f"{folder}/{NAME}" in revision.outputs:
            return folder
    named = ", ".join(sorted(folder.split("/")[1] for folder in found))
    message = (
        f"{revision.name} has no evaluation of {system}: it has those of {named or 'no system'}"
    )
    raise InputError(message)


def _check(experiment: str, made: Sequence[Mapping[str, Any]]) -> None:
    """Check that all stages are there, ran from one commit, and had no changed files.

    Raises:
        InputError: otherwise.
    """
    lacking = sorted(STAGES - {stage["stage"] for stage in made})
    if lacking:
        message = (
            f"the outputs of {experiment} do not belong together: no {', '.join(lacking)} in its "
            "dvc.lock made the inputs of its evaluation. Run the experiment again"
        )
        raise InputError(message)
    for stage in made:
        if stage["git"]["changed"] or not stage["git"]["commit"]:
            message = (
                f"{stage['stage']} of {experiment} ran with changed files "
                f"({', '.join(stage['git']['changed']) or 'outside of git'}): commit them, and run "
                "it again from a clean checkout"
            )
            raise InputError(message)


def _logged(stage: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the MLflow run of a training and its evaluation, or of an ensemble.

    Raises:
        InputError: MLflow lacks it, or has another test AUC than metrics.json.
    """
    with server.answering():
        run = runs.holding(server.connect(), stage, None)
    if run is None:
        message = (
            f"MLflow at {server.address()} lacks the run of {stage['stage']}: `cxr sync --all` "
            "logs it"
        )
        raise InputError(message)
    logged, auc = run.data.metrics.get(AUC), metrics["test"]["auc"]
    if logged is None or abs(logged - auc) > 1e-9:
        message = (
            f"MLflow run {run.info.run_id} has {AUC} {logged}, and metrics.json {auc}: "
            "`cxr sync --all` completes a run"
        )
        raise InputError(message)
    return {"run": run.info.run_id, "name": run.info.run_name, AUC: logged}


def _predictions(revision: Revision, place: str) -> pd.DataFrame:
    """Return the test set's predictions after the last phase, with the patient of each image."""
    phases = _table(revision, f"{place}/phases.csv")
    patients = _table(revision, "splits/manifest.csv").set_index("id")["patient"]
    last = phases[phases["phase"] == phases["phase"].iloc[-1]].drop(columns="phase")
    return last.assign(patient=last["id"].map(patients))


def _at_half(predictions: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the metrics of each split at a threshold of 0.5, where the articles have theirs."""
    return {
        str(split): {
            name: value
            for name, value in evaluated.summarise(
                rows["label"].to_numpy(), rows["probability"].to_numpy(), HALF, evaluated.EVEN
            ).items()
            if name in AT_HALF
        }
        for split, rows in predictions.groupby("split", sort=False)
    }


def _table(revision: Revision, path: str) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as folder:  # files.read_csv knows which columns are text
        copied = Path(folder) / Path(path).name
        copied.write_bytes(revision.read(path))
        return files.read_csv(copied)


if __name__ == "__main__":
    sys.exit(main())
