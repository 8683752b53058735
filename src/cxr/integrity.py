"""Whether the files that DVC keeps are still what it wrote: its cache, and the outputs here.

DVC trusts a file whose size and time are unchanged, and an object of its cache that is read-only.
It does not notice a bad disk, or an edit that kept both.
"""

import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo
from tqdm import tqdm

from cxr import files
from cxr.errors import InputError

OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")  # DVC's temporary files have other names

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expected:
    """A file and the MD5 that it should have.

    Attributes:
        path: of the file, which may be missing.
        md5: of its content; None if the output's folder should not hold the file.
        output: of the pipeline, for a file of the workspace; None for an object of the cache.
    """

    path: Path
    md5: str | None
    output: str | None


def check(root: Path) -> None:
    """Read every object of DVC's cache and every output in the workspace, and compare their MD5s.

    Each damaged or changed file is logged, with the outputs that it belongs to and what to do.

    Args:
        root: the repository's root.

    Raises:
        InputError: a file is damaged or changed, or ``root`` is not a DVC repository.
    """
    try:
        repo = Repo(str(root))
    except NotDvcRepoError as error:
        message = f"{root.absolute()} is not a DVC repository: run from the repository's root"
        raise InputError(message) from error
    with repo:
        cache = Path(repo.cache.local.path)
        stored = list(_stored(cache))
        here = list(_here(repo, cache))
        wrong = _wrong([*stored, *here])
        damaged = [expected for expected in wrong if expected.output is None]
        changed = [expected for expected in wrong if expected.output is not None]
        owners = _owners(repo, cache, {_oid(expected.path) for expected in damaged})
    whole = {expected.md5 for expected in here} - {expected.md5 for expected in changed}
    for expected in damaged:
        oid = _oid(expected.path)
        advice = "`dvc commit` stores it again, from the output here, which is whole"
        if oid not in whole:
            advice = "`dvc fetch` gets it from your remote, or `dvc repro` makes it again"
        log.error(
            "%s is damaged. It belongs to %s. Remove it; then %s", _shown(expected.path, root),
            owners.get(oid, "no output of a commit or an experiment"), advice,
        )  # fmt: skip
    for expected in changed:
        log.error(
            "%s has changed since DVC wrote it. Remove it; then `dvc checkout %s` restores it",
            _shown(expected.path, root), expected.output,
        )  # fmt: skip
    if wrong:
        message = (
            f"{len(damaged)} of {len(stored)} objects in DVC's cache are damaged, and "
            f"{len(changed)} of {len(here)} files of the outputs have changed: see above. Begin "
            "with the damaged ones"
        )
        raise InputError(message)
    log.info(
        "%d objects in DVC's cache (%s) and %d files of the outputs are what DVC wrote",
        len(stored), cache, len(here),
    )  # fmt: skip


def _stored(cache: Path) -> Iterator[Expected]:
    """Yield the objects of DVC's cache, each with the MD5 that is its name."""
    for path in sorted(cache.glob("??/*")):
        if OBJECT.fullmatch(_oid(path)):
            yield Expected(path, _oid(path).removesuffix(".dir"), None)


def _here(repo: Any, cache: Path) -> Iterator[Expected]:
    """Yield the files of the outputs in the workspace that dvc.lock and .dvc files describe."""
    for out in repo.index.outs:
        path, oid = Path(out.fs_path), out.hash_info.value
        # An output that never ran, has not been pulled, or is in git.
        if oid is None or not out.use_cache or not path.exists():
            continue
        if not oid.endswith(".dir"):
            yield Expected(path, oid, str(out))
            continue
        listed = _listed(cache, oid)
        if listed is None:
            log.warning(
                "%s cannot be checked: its list of files, %s, is not in the cache", out, oid
            )
            continue
        for name, md5 in listed.items():
            yield Expected(path / name, md5, str(out))
        for found in repo.dvcignore.find(out.fs, out.fs_path):
            if Path(found).relative_to(path).as_posix() not in listed:
                yield Expected(Path(found), None, str(out))


def _wrong(everything: list[Expected]) -> list[Expected]:
    """Return the files whose content is not the expected one."""
    sizes = {e: e.path.stat().st_size if e.path.is_file() else 0 for e in everything}
    wrong = []
    with tqdm(total=sum(sizes.values()), unit="B", unit_scale=True, disable=None) as progress:
        for expected, size in sizes.items():
            try:
                right = files.file_md5(expected.path) == expected.md5
            except OSError:  # missing, or a bad sector
                right = False
            if not right:
                wrong.append(expected)
            progress.update(size)
    return wrong


def _owners(repo: Any, cache: Path, oids: set[str]) -> Mapping[str, str]:
    """Return the outputs of each object: of the workspace, otherwise of the first revision."""
    owners: dict[str, str] = {}
    for revision in repo.brancher(all_commits=True, all_experiments=True) if oids else ():
        where = "" if revision in ("", "workspace") else f" (of {revision[:9]})"
        names = defaultdict(list)
        for out in repo.index.outs:
            oid = out.hash_info.value
            if oid is None:
                continue
            names[oid].append(str(out))
            for name, md5 in (_listed(cache, oid) or {}).items() if oid.endswith(".dir") else ():
                names[md5].append(f"{out}/{name}")
        for oid in (oids & names.keys()) - owners.keys():
            owners[oid] = ", ".join(names[oid]) + where
    return owners


def _listed(cache: Path, oid: str) -> dict[str, str] | None:
    """Return the MD5 of each file of a folder, by name; None if the cache cannot tell."""
    try:
        entries = json.loads((cache / oid[:2] / oid[2:]).read_bytes())
        return {entry["relpath"]: entry["md5"] for entry in entries}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _oid(path: Path) -> str:
    return path.parent.name + path.name


def _shown(path: Path, root: Path) -> str:
    here = root.absolute()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
