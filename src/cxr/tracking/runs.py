"""``cxr runs``: a revision -> its MLflow runs, and a run -> what git and DVC know of it."""

import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run, ViewType
from tabulate import tabulate

from cxr import files
from cxr.errors import InputError
from cxr.tracking import metrics, rebuilding, records, revisions, server
from cxr.tracking.provenance import NAME, title
from cxr.tracking.revisions import MissingError, Repository, Revision

RUN_ID = re.compile(r"[0-9a-f]{4,32}")
STAGES = (
    "download", "split", "preprocess", "weights", "features", "shifted", "audit", "train",
    "external", "shift", "evaluate", "ensemble", "compare",
)  # fmt: skip
SYNC = "`cxr sync --all` logs them from the outputs"


def describe(name: str) -> str:
    """Return the MLflow runs of a revision, or the origin of an MLflow run.

    Args:
        name: ``workspace``, a commit, branch, tag or DVC experiment; or the id of an MLflow run, of
            which the first four or more characters are enough.

    Raises:
        InputError: nothing has this name, more than one thing has, or MLflow cannot be reached.
    """
    with server.answering(), revisions.repository() as repository:
        client = server.connect()
        revision = repository.find(name)
        run = _run(client, name) if RUN_ID.fullmatch(name) else None
        if revision is not None and run is not None:
            message = (
                f"{name} is both {revision.name} and MLflow run {run.info.run_id}: give more "
                "characters of the one you mean"
            )
            raise InputError(message)
        if run is not None:
            return "\n".join(_origin(client, run, repository))
        if revision is not None:
            return "\n".join(_of_revision(client, revision))
    message = (
        f"no commit, branch, tag, DVC experiment or MLflow run at {server.address()} is named "
        f"{name}: `git log`, `dvc exp list --all` and `cxr ui` list them"
    )
    raise InputError(message)


def _of_revision(client: mlflow.MlflowClient, revision: Revision) -> Iterator[str]:
    """List the runs of a revision, and the stages that have none."""
    yield f"{', '.join(revision.names)}: MLflow runs at {server.address()}"
    if not revision.folders():
        yield "dvc.lock there names no provenance.json: another version of this project wrote it"
        return
    table, lacking, missing = [], [], []
    trained: dict[str, str] = {}
    for folder in revision.folders():
        try:
            provenance = revision.provenance(folder)
        except MissingError:
            missing.append(folder)
            continue
        stage, item = provenance["stage"], provenance["item"] or ""
        experiment = provenance["dvc"]["experiment"] or ""
        if stage == "train":
            trained[item] = provenance["id"]
        nothing = records.nothing(provenance)
        if nothing is not None:
            table.append((stage, item, f"none: {nothing}", "", experiment))
            continue
        run = holding(client, provenance, trained.get(item))
        if run is None:
            lacking.append(title(provenance))
            table.append((stage, item, "missing", "", experiment))
        else:
            status = _status(run, provenance)
            table.append((stage, item, run.info.run_id, status, experiment))
            lacking += [title(provenance)] if "incomplete" in status else []
    yield ""
    yield tabulate(table, ("stage", "of", "run id", "status", "DVC experiment"))
    if lacking:
        yield ""
        named = ", ".join(lacking)
        yield f"MLflow lacks {len(lacking)} of them, whole or in part ({named}): {SYNC}"
    if missing:
        yield ""
        yield (
            f"neither DVC's cache nor a remote has the outputs of {', '.join(missing)}: get them "
            "with `dvc fetch --all-commits`, or let whoever ran them `dvc push`"
        )


def holding(
    client: mlflow.MlflowClient, provenance: Mapping[str, Any], training: str | None
) -> Run | None:
    """Return the run that holds a stage; an evaluation's is that of its training, if both fit."""
    named = f"tags.`{server.id_tag(provenance['stage'])}` = '{provenance['id']}'"
    every = [e.experiment_id for e in client.search_experiments(ViewType.ALL)]
    runs = client.search_runs(every, named, ViewType.ALL) if every else []

    def rank(run: Run) -> tuple[bool, bool]:
        beside = run.data.tags.get(server.id_tag("train")) == training
        return run.info.lifecycle_stage == "active", beside

    return max(runs, key=rank, default=None)


def _status(run: Run, provenance: Mapping[str, Any]) -> str:
    if run.info.lifecycle_stage != "active":
        return "deleted in MLflow"
    complete = run.data.tags.get(server.complete_tag(provenance["stage"])) == provenance["id"]
    return run.info.status if complete else f"{run.info.status}, incomplete"


def _run(client: mlflow.MlflowClient, prefix: str) -> Run | None:
    """Return the run whose id begins with ``prefix``.

    Raises:
        InputError: several do.
    """
    every = [e.experiment_id for e in client.search_experiments(ViewType.ALL)]
    if not every:
        return None
    runs = client.search_runs(every, f"attributes.run_id LIKE '{prefix}%'", ViewType.ALL, 10)
    if len(runs) > 1:
        named = ", ".join(run.info.run_id for run in runs)
        message = f"{prefix} begins the ids of several MLflow runs ({named}): give more characters"
        raise InputError(message)
    return runs[0] if runs else None


def _origin(client: mlflow.MlflowClient, run: Run, repository: Repository) -> Iterator[str]:
    """Describe where a run comes from: commit, experiment, inputs, outputs, and who has them."""
    status = run.info.status if run.info.lifecycle_stage == "active" else "deleted in MLflow"
    yield f"run {run.info.run_id} ({run.info.run_name}, {status}) at {server.address()}"
    stages = [stage for stage in STAGES if server.id_tag(stage) in run.data.tags]
    if not stages:
        yield "it has no tag of this project: something else logged it"
    every = repository.revisions()
    held = {stage: _provenance(client, run, stage) for stage in stages}
    for stage, (provenance, md5) in held.items():
        yield ""
        if provenance is None:
            yield from _from_tags(run, stage)
            continue
        yield from _from_provenance(provenance, repository)
        yield from _kept(provenance, md5, every)
        beside = [other for other, _ in held.values() if other]
        yield from _rebuild(provenance, beside, every, repository)


def _provenance(
    client: mlflow.MlflowClient, run: Run, stage: str
) -> tuple[dict[str, Any] | None, str]:
    """Return provenance.json of a stage as its run holds it, and its MD5; None if it has none."""
    path = f"{stage}/{NAME}"
    if not any(entry.path == path for entry in client.list_artifacts(run.info.run_id, stage)):
        return None, ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(client.download_artifacts(run.info.run_id, path, folder))
        return files.read_json(file), files.file_md5(file)


def _from_tags(run: Run, stage: str) -> Iterator[str]:
    """Describe a stage that has not ended, or whose run is incomplete."""
    prefix = "evaluate." if stage == "evaluate" else ""
    tags = {k.removeprefix(prefix): v for k, v in run.data.tags.items() if k.startswith(prefix)}
    yield f"{stage}: without {NAME}, because it has not ended, has failed, or was logged in part"
    yield f"  commit          {tags.get('mlflow.source.git.commit', 'none')}"
    yield f"  DVC experiment  {tags.get('dvc.experiment', 'none')}"
    hashes = {k.removeprefix("dvc.md5."): v for k, v in tags.items() if k.startswith("dvc.md5.")}
    yield from _hashes("inputs", hashes)
    yield f"  if it has ended, {SYNC}"


def _from_provenance(provenance: Mapping[str, Any], repository: Repository) -> Iterator[str]:
    git, experiment = provenance["git"], provenance["dvc"]["experiment"]
    when = f"{provenance['started']} to {provenance['ended']}"
    yield f"{title(provenance)}: {when}, {provenance['device']}"
    commit = git["commit"] or "none, outside of git"
    if git["commit"] and repository.resolve(git["commit"]) is None:
        commit += " (not in this clone: `git fetch`)"
    yield f"  commit          {commit}"
    yield f"  changed files   {', '.join(git['changed']) or 'none'}"
    yield f"  DVC experiment  {_experiment(experiment, repository)}"
    for sitting in (provenance.get("training") or {}).get("sittings", []):
        yield f"  sitting         {sitting['started']}, commit {sitting['commit']}"
    yield from _hashes("inputs", provenance["inputs"])
    yield from _hashes("outputs", provenance["outputs"])


def _experiment(name: str | None, repository: Repository) -> str:
    if name is None:
        return "none: it ran with `dvc repro` or by hand"
    if name in repository.experiments():
        return f"{name} (`dvc exp apply {name}` brings it to the workspace)"
    return f"{name} (removed or renamed, or not in this clone: `dvc exp list --all`)"


def _hashes(heading: str, hashes: Mapping[str, str]) -> Iterator[str]:
    for number, (path, md5) in enumerate(hashes.items()):
        yield f"  {heading if number == 0 else '':<15} {md5} {path}"


def _kept(provenance: Mapping[str, Any], md5: str, every: Sequence[Revision]) -> Iterator[str]:
    """Name the revisions that have the outputs: of this run, or equal ones of another."""
    outputs = provenance["outputs"]
    same, equal = [], []
    for revision in every:
        held = {path: revision.outputs[path] for path in outputs if path in revision.outputs}
        if md5 in revision.outputs.values():
            same += revision.names
        elif held and all(outputs[path] == md5 for path, md5 in held.items()):
            equal += revision.names
    if same:
        yield f"  in              {', '.join(same)}"
    if equal:
        yield f"  equal outputs   {', '.join(equal)} (of another execution)"
    if not same and not equal:
        yield (
            "  in no revision: no dvc.lock in this clone has these outputs any more (`dvc exp "
            "remove`, or another clone). DVC's cache keeps them until `dvc gc`; rebuild them, or "
            "delete the run in MLflow"
        )


def _rebuild(
    provenance: Mapping[str, Any],
    beside: Sequence[Mapping[str, Any]],
    every: Sequence[Revision],
    repository: Repository,
) -> Iterator[str]:
    """Give the commands that run a stage again: its commit, and what differs from params.yaml."""
    git = provenance["git"]
    if not git["commit"] or repository.resolve(git["commit"]) is None:
        return
    target = "@".join(filter(None, (provenance["stage"], provenance["item"])))
    made = rebuilding.chain(provenance, beside, every)
    there = metrics.flat(rebuilding.params_of(repository, git["commit"]))
    changed = rebuilding.overrides(rebuilding.parameters(made), there)
    override = "".join(f" -S {shlex.quote(f'{key}={text}')}" for key, text in changed.items())
    yield f"  rebuild         git checkout {git['commit']}"
    yield f"                  dvc {f'exp run{override}' if changed else 'repro'} {target}"
    if git["changed"]:
        yield "                  (the changed files are in no commit)"
