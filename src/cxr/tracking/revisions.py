"""What DVC keeps: the revisions of this repository, and the stages' outputs in each.

Read through DVC's cache and its remotes; the workspace does not change.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo
from dvc.repo.experiments.utils import exp_refs, exp_refs_by_baseline
from dvc.scm import NoSCM, RevError, resolve_rev
from dvc_data.index import DataIndexDirError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cxr.errors import InputError
from cxr.tracking.provenance import NAME
from cxr.tracking.records import UNREAD

WORKSPACE = "workspace"

# The stages' output folders in pipeline order, so that training is logged before its evaluation.
FOLDERS = (
    "raw", "splits", "tensors/*", "weights/*", "features/*", "shifted/*", "audits", "models/*",
    "externals/*", "shifts/*", "evaluations/*", "ensembles/*", "reports",
)  # fmt: skip


class MissingError(Exception):
    """An output that neither DVC's cache nor a remote has."""


@dataclass
class Revision:
    """The outputs of the stages at one commit, or in the workspace.

    Attributes:
        names: for example ``workspace``, ``branch main``, ``experiment three``, ``commit 22a0139``.
        sha: of the commit; None for the workspace.
        outputs: MD5 of each output by its path, from dvc.lock.
        repository: that it belongs to.
    """

    names: list[str]
    sha: str | None
    outputs: Mapping[str, str]
    repository: "Repository" = field(repr=False)

    @property
    def name(self) -> str:
        """The name that says most."""
        return self.names[0]

    def folders(self) -> list[str]:
        """Return the folders with a provenance.json, in pipeline order."""
        found = [str(PurePosixPath(p).parent) for p in self.outputs if p.endswith(f"/{NAME}")]
        ranked = {
            folder: rank for folder in found for rank, pattern in enumerate(FOLDERS)
            if PurePosixPath(folder).match(pattern)
        }  # fmt: skip
        return sorted(ranked, key=lambda folder: (ranked[folder], folder))

    def provenance(self, folder: str) -> dict[str, Any]:
        """Read a stage's provenance.json.

        Raises:
            MissingError: neither the cache nor a remote has it.
            InputError: it is not a JSON object.
        """
        path = f"{folder}/{NAME}"
        try:
            return dict(json.loads(self.read(path)))
        except (ValueError, TypeError) as error:
            message = f"{path} is not a JSON object ({error})"
            raise InputError(message) from error

    def read(self, path: str) -> bytes:
        """Read a file that git tracks, or an output.

        Raises:
            MissingError: git does not track it, and neither the cache nor a remote has it.
        """
        content = self.repository.read(self._files.read_bytes, path, md5=self.outputs.get(path))
        return bytes(content)

    def copy(self, folder: str, root: Path) -> None:
        """Copy the outputs in a folder that records read to the same folder below ``root``.

        Raises:
            MissingError: neither the cache nor a remote has one of them.
        """
        inside = [path for path in self.outputs if path.startswith(f"{folder}/")]
        for path in inside:
            known = self.outputs[path]
            # The files of an output that is a folder.
            found = self.repository.read(self._files.find, path, md5=known)
            for name in found or [path]:
                target = root / name
                if target.exists() or any(PurePosixPath(name).match(p) for p in UNREAD):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                md5 = known if name == path else None
                self.repository.read(self._files.get_file, name, str(target), md5=md5)

    @cached_property
    def _files(self) -> DVCFileSystem:
        # With the configuration of today: remotes may have moved since the revision was committed.
        repository = self.repository.dvc
        config = {key: dict(repository.config[key]) for key in ("core", "remote", "cache")}
        return DVCFileSystem(repo=repository.root_dir, rev=self.sha, config=config)


class Repository:
    """DVC's repository around the current folder; close it after use.

    Attributes:
        dvc: the repository as DVC's library shows it.
        unreachable: why the remote could not be reached; it is not tried again.
    """

    def __init__(self) -> None:
        self.unreachable = ""
        try:
            self.dvc = Repo()
        except NotDvcRepoError as error:
            message = f"{Path.cwd()} is not in a DVC repository: run from the repository's root"
            raise InputError(message) from error
        except DvcException as error:  # for example .dvc/config cannot be read
            raise InputError(str(error)) from error

    def revisions(
        self, progress: Callable[[Iterable[str]], Iterable[str]] = iter
    ) -> list[Revision]:
        """Return the workspace, and the commits of experiments, branches, tags and their history.

        Revisions with equal outputs are one, with all their names. Without git there is the
        workspace alone.

        Args:
            progress: wraps the loop over the commits, for example tqdm.
        """
        every = {"all_branches": True, "all_tags": True, "all_commits": True}
        every |= {"all_experiments": True, "sha_only": True}
        if isinstance(self.dvc.scm, NoSCM):
            every = {}
        named = self._names()
        found: dict[str, Revision] = {}
        for rev in progress(self.dvc.brancher(**every)):
            sha = None if rev in ("", WORKSPACE) else rev
            text = self._lock()
            if text is None:
                continue
            names = [WORKSPACE] if sha is None else named.get(sha, [f"commit {sha[:7]}"])
            if text in found:
                found[text].names.extend(names)
                # Read from the cache: a stage that runs now may be replacing the workspace's files.
                found[text].sha = found[text].sha or sha
            else:
                found[text] = Revision(names, sha, _outputs(text), self)
        return list(found.values())

    def of_head(self) -> list[Revision]:
        """Return the workspace, HEAD, and the experiments that started from HEAD, by their names.

        Those without a dvc.lock are left out.
        """
        scm = self.dvc.scm
        found = [(WORKSPACE, WORKSPACE)]
        if not isinstance(scm, NoSCM):
            head = scm.get_rev()
            experiments = exp_refs_by_baseline(scm, {head}).get(head, [])
            found += [("HEAD", head)]
            found += sorted((ref.name, resolve_rev(scm, str(ref))) for ref in experiments)
        known = []
        for name, rev in found:
            try:
                revision = self.find(rev)
            except InputError:  # no stage had run there
                continue
            if revision is not None:
                revision.names = [name]
                known.append(revision)
        return known

    def find(self, name: str) -> Revision | None:
        """Return the branch, tag, commit, experiment or ``workspace`` with this name, or None.

        Raises:
            InputError: dvc.lock is missing there, or several experiments have the name.
        """
        sha = None
        if name != WORKSPACE:
            sha = self.resolve(name)
            if sha is None:
                return None
        for rev in self.dvc.brancher(revs=[sha] if sha else None, workspace=False, sha_only=True):
            text = self._lock()
            if text is None:
                message = f"{name} has no dvc.lock: no stage had run there; see `dvc exp show`"
                raise InputError(message)
            names = [WORKSPACE] if sha is None else self._names().get(rev, [f"commit {rev[:7]}"])
            return Revision(names, sha, _outputs(text), self)
        return None

    def resolve(self, name: str) -> str | None:
        """Return the commit of a branch, tag, commit or DVC experiment; None if there is none."""
        try:
            return str(resolve_rev(self.dvc.scm, name))
        except RevError as error:
            if "ambiguous" in str(error):
                message = f"{name} is ambiguous: give the commit that `dvc exp show` has for it"
                raise InputError(message) from error
            return None
        except (DvcException, NotImplementedError):  # no git
            return None

    def experiments(self) -> set[str]:
        """Return the names of the DVC experiments in this clone."""
        scm = self.dvc.scm
        return set() if isinstance(scm, NoSCM) else {ref.name for ref in exp_refs(scm)}

    def read(self, how: Callable[..., Any], *arguments: str, md5: str | None) -> Any:
        """Read an output; a remote that cannot be reached is not tried again.

        Args:
            how: the function that reads.
            *arguments: its arguments.
            md5: of the output, to look for in the cache if the remote is unreachable.

        Raises:
            MissingError: neither the cache nor a remote has it.
            InputError: DVC cannot read the revision, for example its dvc.yaml.
        """
        if self.unreachable and md5 is not None and not self.dvc.cache.local.exists(md5):
            raise MissingError
        try:
            return how(*arguments)
        except DvcException as error:
            raise InputError(str(error)) from error
        except Exception as error:  # each kind of remote has errors of its own
            cause = error.__cause__ if isinstance(error, DataIndexDirError) else error
            if not isinstance(cause, FileNotFoundError):
                self.unreachable = self.unreachable or f"{type(cause).__name__}: {cause}"
            raise MissingError from error

    def close(self) -> None:
        """Close the repository and its cached indexes."""
        self.dvc.close()

    def _lock(self) -> str | None:
        path = self.dvc.fs.join(self.dvc.root_dir, "dvc.lock")
        return self.dvc.fs.read_text(path) if self.dvc.fs.exists(path) else None

    def _names(self) -> dict[str, list[str]]:
        """Return the names of each named commit: branches first, then tags and experiments."""
        scm = self.dvc.scm
        if isinstance(scm, NoSCM):
            return {}
        named: dict[str, list[str]] = {}
        entries = [("branch", name, f"refs/heads/{name}") for name in scm.list_branches()]
        entries += [("tag", name, f"refs/tags/{name}") for name in scm.list_tags()]
        entries += [("experiment", ref.name, str(ref)) for ref in exp_refs(scm)]
        for kind, name, ref in entries:
            named.setdefault(resolve_rev(scm, ref), []).append(f"{kind} {name}")
        return named


@contextmanager
def repository() -> Iterator[Repository]:
    """Open the DVC repository around the current folder, and close it after the block."""
    logging.getLogger("dvc").setLevel(logging.ERROR)
    opened = Repository()
    try:
        yield opened
    finally:
        opened.close()


def _outputs(lock: str) -> dict[str, str]:
    """Return the MD5 of each output by its path; nothing from a dvc.lock of another format."""
    try:
        stages = YAML(typ="safe", pure=True).load(lock)["stages"]
        return {
            out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])
        }
    except (YAMLError, KeyError, TypeError, AttributeError):
        return {}
