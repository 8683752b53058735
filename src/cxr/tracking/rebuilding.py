"""What a stage was run with beyond its commit: its parameters, as ``dvc exp run -S`` reads them."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from cxr.tracking import metrics
from cxr.tracking.revisions import MissingError, Repository, Revision


def chain(
    provenance: Mapping[str, Any], beside: Sequence[Mapping[str, Any]], every: Sequence[Revision]
) -> list[Mapping[str, Any]]:
    """Return the provenance of a stage, and of each stage that its inputs come from.

    Args:
        provenance: of the stage.
        beside: provenance of the other stages in its run, which may be in no revision.
        every: the revisions in which the stages that made the inputs are looked for, by hash.
    """
    found: dict[str, Mapping[str, Any]] = {}
    waiting = [provenance]
    while waiting:
        one = waiting.pop()
        if one["id"] in found:
            continue
        found[one["id"]] = one
        for path, md5 in one["inputs"].items():
            makers = (other for other in beside if other["outputs"].get(path) == md5)
            maker = next(makers, None) or _maker(path, md5, every)
            waiting += [maker] if maker else []
    return list(found.values())


def parameters(stages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the parameters of the stages of :func:`chain`, by dotted key."""
    used: dict[str, Any] = {}
    for stage in stages:
        used |= {k: v for k, v in metrics.flat(stage["parameters"]).items() if k not in used}
    return used


def params_of(repository: Repository, commit: str) -> dict[str, Any]:
    """Return params.yaml of a commit; empty if it has none."""
    for _ in repository.dvc.brancher(revs=[commit], workspace=False, sha_only=True):
        fs = repository.dvc.fs
        path = fs.join(repository.dvc.root_dir, "params.yaml")
        if fs.exists(path):
            return dict(YAML(typ="safe", pure=True).load(fs.read_text(path)))
    return {}


def overrides(used: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, str]:
    """Return what differs from a commit's params.yaml, as `dvc exp run -S` reads it.

    Args:
        used: settings by dotted key.
        there: the same of params.yaml.
    """
    found = {}
    for key, value in used.items():
        if there.get(key) == value:
            continue
        parts = key.split(".")
        above = [a for a in (".".join(parts[:n]) for n in range(1, len(parts))) if a in there]
        if above:  # {sensitivity: 0.95}, where params.yaml has a plain value
            found[above[0]] = f"{{{key.removeprefix(f'{above[0]}.')}: {value_text(value)}}}"
        elif key in there or any(other.startswith(f"{key}.") for other in there):
            found[key] = value_text(value)
        else:  # DVC wants a plus before a key that params.yaml lacks
            found[f"+{key}"] = value_text(value)
    return found


def value_text(value: Any) -> str:
    """Return a parameter's value as `dvc exp run -S` reads it."""
    words = ("null", "true", "false", "nan", "inf")
    plain = isinstance(value, str) and re.fullmatch(r"[a-zA-Z/][\w./-]*", value)
    if plain and value.lower() not in words:
        return str(value)
    return json.dumps(value)


def _maker(path: str, md5: str, every: Sequence[Revision]) -> Mapping[str, Any] | None:
    """Return the provenance of the stage that made a file, from a revision that has it."""
    for revision in every:
        for folder in revision.folders():
            if path.startswith(f"{folder}/") and revision.outputs.get(path, md5) == md5:
                try:
                    provenance = revision.provenance(folder)
                except MissingError:
                    continue
                if provenance["outputs"].get(path) == md5:
                    return provenance
    return None
