"""``cxr sync``: log the runs that MLflow lacks, of the workspace or of every revision DVC has."""

import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import ViewType
from tqdm import tqdm

from cxr.errors import InputError
from cxr.tracking import client, records, revisions, server
from cxr.tracking.client import LoadModel
from cxr.tracking.provenance import NAME
from cxr.tracking.revisions import FOLDERS, WORKSPACE, MissingError, Revision

log = logging.getLogger(__name__)

SHOWN = 5  # names in a line of the summary


def workspace(root: Path, load: LoadModel) -> None:
    """Log the runs that MLflow lacks, from the outputs in a folder.

    Args:
        root: the folder with ``raw/``, ``models/`` and the other outputs.
        load: returns the Keras model of a folder.

    Raises:
        InputError: there are no outputs, MLflow cannot be reached, or a run cannot be built.
    """
    folders = _folders(root)
    if not folders:
        message = (
            f"no {NAME} in {', '.join(FOLDERS)}: run from the repository's root, after `dvc repro` "
            "or `dvc pull`"
        )
        raise InputError(message)
    _check(_send_folders(folders, load))


def _send_folders(folders: Iterable[Path], load: LoadModel) -> list[str]:
    """Log what MLflow lacks of folders, and return why some cannot be logged."""
    sent, loggable = 0, 0
    problems: list[str] = []
    with server.answering():
        for folder in tqdm(folders, unit="run", disable=None):
            try:
                record = records.of(folder)
                if record is not None:
                    loggable += 1
                    sent += client.send(record, load)
            except InputError as error:
                problems.append(str(error))
    log.info(
        "%d of %d stages were missing in MLflow at %s%s",
        sent, loggable, server.address(), " and have been logged" if sent else "",
    )  # fmt: skip
    return problems


def _check(problems: list[str]) -> None:
    """Raise an InputError if there are problems."""
    if problems:
        message = f"{len(problems)} cannot be logged: {'; '.join(problems)}"
        raise InputError(message)


@dataclass
class Summary:
    """What a sync of all revisions did; each list holds ``revision: folder``."""

    logged: int = 0
    known: int = 0
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def everything(root: Path, load: LoadModel) -> None:
    """Log the runs that MLflow lacks, of the workspace and of every revision that DVC has.

    A stage that several revisions share is logged once. The workspace does not change: outputs are
    copied from DVC's cache or a remote to a temporary folder.

    Args:
        root: the repository's root.
        load: returns the Keras model of a folder.

    Raises:
        InputError: this is not a DVC repository, MLflow cannot be reached, or a run of the
            workspace cannot be built.
    """
    # First what the workspace has; DVC may not have recorded all of it.
    folders = _folders(root)
    problems = _send_folders(folders, load)
    with revisions.repository() as repository:
        found = repository.revisions(lambda each: tqdm(each, unit=" commits", disable=None))
        if not found and not folders:
            message = "nothing to log: no revision has a dvc.lock; run `dvc repro`, or `git fetch`"
            raise InputError(message)
        with server.answering():
            summary = _send_all(found, root, load)
        _report(summary, found, repository.unreachable)
    _check(problems)


def _send_all(found: Iterable[Revision], root: Path, load: LoadModel) -> Summary:
    summary = Summary()
    complete = _complete(server.connect())
    seen = set()
    stages = []
    for revision in found:
        for folder in revision.folders():
            trained = _trained(revision, folder)
            key = tuple(revision.outputs[f"{part}/{NAME}"] for part in (folder, *trained))
            if key not in seen:
                seen.add(key)
                stages.append((revision, folder))
    for revision, folder in tqdm(stages, unit="run", disable=None):
        where = f"{revision.name}: {folder}"
        try:
            ids = {_mark(revision, part) for part in (folder, *_trained(revision, folder))}
            sent = None if any(ids <= run for run in complete) else _send(revision, folder, load)
            summary.logged += sent is True
            summary.known += sent is None
        except MissingError:
            if WORKSPACE not in revision.names or not (root / folder / NAME).is_file():
                summary.missing.append(where)
        except InputError as error:
            summary.problems.append(f"{where}: {error}")
    return summary


def _send(revision: Revision, folder: str, load: LoadModel) -> bool:
    """Copy a stage's outputs to a temporary folder, log them, and return whether MLflow lacked any.

    Random weights have no run.
    """
    # On the disk of DVC's cache: /tmp may be too small for the weights of a model.
    with tempfile.TemporaryDirectory(
        prefix="cxr-sync-", dir=revision.repository.dvc.tmp_dir
    ) as temporary:
        root = Path(temporary)
        for part in (*_trained(revision, folder), folder):
            revision.copy(part, root)
        try:
            record = records.of(root / folder)
            return record is not None and client.send(record, load)
        except InputError as error:
            message = str(error).replace(f"{root}/", "")
            raise InputError(message) from error


def _trained(revision: Revision, folder: str) -> tuple[str, ...]:
    """Return the folder of the model that an evaluation belongs to; empty for other stages."""
    model = folder.replace("evaluations/", "models/", 1)
    return (model,) if model != folder and f"{model}/{NAME}" in revision.outputs else ()


def _mark(revision: Revision, folder: str) -> tuple[str, str]:
    """Return the tag that a run has if it is complete."""
    provenance = revision.provenance(folder)
    try:
        return server.complete_tag(provenance["stage"]), provenance["id"]
    except KeyError as error:
        message = f"written by another version of this project ({error!r})"
        raise InputError(message) from error


def _complete(connected: mlflow.MlflowClient) -> list[set[tuple[str, str]]]:
    """Return the marks of the stages that each run holds, deleted runs included."""
    every = [e.experiment_id for e in connected.search_experiments(ViewType.ALL)]
    found, page = [], None
    while every:
        runs = connected.search_runs(every, "", ViewType.ALL, 1000, page_token=page)
        found += [
            {(tag, i) for tag, i in run.data.tags.items() if tag.endswith(".complete")}
            for run in runs
        ]  # fmt: skip
        page = runs.token
        if not page:
            break
    return [marks for marks in found if marks]


def _folders(root: Path) -> list[Path]:
    return [path.parent for pattern in FOLDERS for path in sorted(root.glob(f"{pattern}/{NAME}"))]


def _report(summary: Summary, found: list[Revision], unreachable: str) -> None:
    log.info(
        "%d revisions with different outputs: %d runs logged, %d were in MLflow at %s",
        len(found), summary.logged, summary.known, server.address(),
    )  # fmt: skip
    if unreachable:
        log.warning("the remote could not be read: %s", server.reason(unreachable))
    if summary.missing:
        log.warning(
            "%d not logged, because neither the cache nor a remote has their outputs (%s): get "
            "them with `dvc fetch --all-commits`, or let whoever ran them `dvc push`",
            len(summary.missing), _named(summary.missing),
        )  # fmt: skip
    old = [revision.name for revision in found if not revision.folders()]
    if old:
        log.warning(
            "%d revisions of another version of this project, without provenance.json, have "
            "nothing to log (%s)",
            len(old), _named(old),
        )  # fmt: skip
    if summary.problems:
        log.warning("%d cannot be logged (%s)", len(summary.problems), _named(summary.problems))


def _named(names: list[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
