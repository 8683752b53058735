"""How far each system got: one that failed has a row in the report, and the others stand."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from cxr import files, params

EVALUATED, NOT_RUN = "evaluated", "not run"
# Of the other states, what the report says after "not evaluated".
NO_MODEL = "no model with these settings; a stage up to its training failed or did not run"
NO_EVALUATION = "trained, but a stage up to its evaluation failed or did not run"


def states(
    systems: Mapping[str, params.System], weights: Path, models: Path, evaluations: Path
) -> dict[str, str]:
    """Return the state of each system: EVALUATED, NO_EVALUATION, NO_MODEL or NOT_RUN.

    What an earlier run left where a stage has failed since does not count: DVC removes a stage's
    outputs before it runs, but not those of the stages after it. A stage writes
    ``provenance.json``, with its settings, inputs and outputs, when it is complete.

    Args:
        systems: of params.yaml, by name.
        weights: folder of the initial weights.
        models: folder of the trained models.
        evaluations: folder of the evaluations.
    """
    folders = (weights, models, evaluations)
    return {
        name: _state(name, system.model_dump(mode="json"), [folder / name for folder in folders])
        for name, system in systems.items()
    }


def unevaluated(states: Mapping[str, str]) -> dict[str, str]:
    """Return the systems that were started but have no evaluation, and what is known of why."""
    return {name: state for name, state in states.items() if state not in (EVALUATED, NOT_RUN)}


def _state(name: str, settings: Mapping[str, object], folders: Iterable[Path]) -> str:
    """Return the state of a system from the folders of its stages, the first stage first."""
    found = list(folders)
    # DVC makes empty folders for outputs that are not in its cache; a stage leaves more than that.
    if not any(folder.is_dir() and any(folder.iterdir()) for folder in found):
        return NOT_RUN
    made: dict[str, str] = {}
    for folder, state in zip(found, (NO_MODEL, NO_MODEL, NO_EVALUATION), strict=True):
        if not (folder / "provenance.json").is_file():
            return state
        note = files.read_json(folder / "provenance.json")
        used = note["parameters"].get("systems", {}).get(name, {})
        same = all(made.get(path, md5) == md5 for path, md5 in note["inputs"].items())
        if not (same and used.items() <= settings.items()):
            return state
        made |= note["outputs"]
    return EVALUATED
