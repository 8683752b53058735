"""``cxr seeds``: run the pipeline with several seeds, and collect the test metrics of each."""

import json
import logging
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from cxr import params, sweep
from cxr.errors import InputError
from cxr.tracking import revisions
from cxr.tracking.provenance import NAME
from cxr.tracking.revisions import MissingError, Revision

log = logging.getLogger(__name__)

ORIGIN = "raw/source.json"


def run(seeds: Sequence[int], targets: Sequence[str]) -> None:
    """Run one DVC experiment per seed, one after the other: ``seed-0``, ``seed-1`` and so on.

    What an earlier sweep has computed is restored from DVC's run cache.

    Args:
        seeds: values of ``seed`` in params.yaml.
        targets: stages, for example ``evaluate@probe``; none for the whole pipeline.

    Raises:
        InputError: an experiment failed.
    """
    for number, seed in enumerate(seeds, start=1):
        name = f"seed-{seed}"
        log.info("seed %d, experiment %s (%d of %d)", seed, name, number, len(seeds))
        # DVC refuses a name that is taken. The outputs of the experiment stay in its cache.
        remove = ["dvc", "exp", "remove", "--quiet", name]
        subprocess.run(remove, check=False, stderr=subprocess.DEVNULL)
        command = ["dvc", "exp", "run", "--temp", "--name", name]
        command += ["--set-param", f"seed={seed}", *targets]
        if subprocess.run(command, check=False).returncode:
            message = (
                f"the experiment {name} failed, for the reason above. What has been computed is "
                "kept: repeat the command when it is mended"
            )
            raise InputError(message)


def collect() -> pd.DataFrame:
    """Collect the test metrics of the workspace and of the experiments that started from HEAD.

    Experiments count whose params.yaml differs from the workspace's in the seed alone, however they
    were made: by :func:`run`, or by ``dvc exp run --queue -S seed=0,1,2``.

    Returns:
        One row per system and seed, with the columns of :data:`cxr.sweep.COLUMNS`.

    Raises:
        InputError: params.yaml is wrong, or the folder is not a DVC repository.
    """
    settings = params.load()
    with revisions.repository() as repository:
        rows = [row for found in repository.of_head() for row in _rows(found, settings)]
    table = pd.DataFrame(rows, columns=list(sweep.COLUMNS))
    table = table.drop_duplicates(["system", "seed", "settings"])
    place = {name: rank for rank, name in enumerate(settings.systems)}
    by_place = {"system": table["system"].map(place)}
    return table.assign(**by_place).sort_values(["system", "seed"]).assign(system=table["system"])


def _rows(revision: Revision, settings: params.Params) -> Iterator[dict[str, object]]:
    """Yield a row per system of a revision that has these settings, whatever its archive."""
    theirs = _settings(revision)
    if theirs is None or ORIGIN not in revision.outputs:
        return
    for system in sorted(theirs.systems.keys() & settings.systems.keys()):
        path = f"evaluations/{system}/metrics.json"
        if path not in revision.outputs:
            continue
        try:
            archive = json.loads(revision.read(ORIGIN))["sha256"]
            own = sweep.settings_hash(theirs, system, archive)
            wanted = sweep.settings_hash(settings, system, archive)
            if own != wanted or not _is_current(revision, system, theirs):
                continue
            test = json.loads(revision.read(path))["test"]
            commit = revision.provenance(f"evaluations/{system}")["git"]["commit"]
        except MissingError:
            log.warning("%s of %s is not in DVC's cache: left out", path, revision.name)
            continue
        figures = {name: test.get(name) for name in sweep.FIGURES}
        yield {
            "system": system, "seed": theirs.seed, **figures, "settings": own, "commit": commit,
        }  # fmt: skip


def _is_current(revision: Revision, system: str, settings: params.Params) -> bool:
    """Return whether an evaluation and what it was made from have these settings.

    An experiment with targets leaves the outputs of other stages as they were, under a params.yaml
    that has changed.
    """
    size = settings.systems[system].image_size
    everything = settings.model_dump(mode="json")
    for folder in ("raw", "splits", f"tensors/{size}", f"models/{system}", f"evaluations/{system}"):
        if f"{folder}/{NAME}" not in revision.outputs:
            return False
        made = revision.provenance(folder)
        inputs = {path: md5 for path, md5 in made["inputs"].items() if path in revision.outputs}
        if any(revision.outputs[path] != md5 for path, md5 in inputs.items()):
            return False
        if not _within(made["parameters"], everything):
            return False
    return True


def _within(part: object, whole: object) -> bool:
    """Return whether every value of nested mappings is in the other ones too."""
    if isinstance(part, Mapping) and isinstance(whole, Mapping):
        return all(key in whole and _within(value, whole[key]) for key, value in part.items())
    return part == whole


def _settings(revision: Revision) -> params.Params | None:
    """Return a revision's params.yaml; None if it has another version's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_bytes(revision.read("params.yaml"))
        try:
            return params.load(path)
        except InputError:
            return None
