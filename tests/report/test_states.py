"""How far each system got, from what its stages wrote."""

from pathlib import Path

import pytest

from cxr import files, params
from cxr.report.states import EVALUATED, NO_EVALUATION, NO_MODEL, NOT_RUN, states, unevaluated
from tests.report.fabricate import edit

NAME = "cnn"
INITIAL = f"weights/{NAME}/initial/weights.json"
TRAINED = f"models/{NAME}/model.weights.h5"


def state(root: Path, system: params.System) -> str:
    folders = [root / name for name in ("weights", "models", "evaluations")]
    return states({NAME: system}, *folders)[NAME]


@pytest.fixture
def system(settings: params.Params) -> params.System:
    return settings.systems[NAME]


@pytest.fixture
def complete(tmp_path: Path, system: params.System) -> Path:
    """A project in which all stages of the system have run."""
    own = system.model_dump(mode="json")
    some = {key: own[key] for key in ("backbone", "weights")}
    for folder, parameters, inputs, outputs in (
        ("weights", {"systems": {NAME: some}}, {}, {INITIAL: "1"}),
        ("models", {"seed": 0, "systems": {NAME: own}}, {INITIAL: "1", "x": "2"}, {TRAINED: "3"}),
        ("evaluations", {"seed": 0}, {TRAINED: "3", "x": "2"}, {"y": "4"}),
    ):
        note = {"parameters": parameters, "inputs": inputs, "outputs": outputs}
        files.write_json(tmp_path / folder / NAME / "provenance.json", note)
    return tmp_path


def test_a_system_of_which_there_is_nothing_was_not_run(
    tmp_path: Path, system: params.System
) -> None:
    assert state(tmp_path, system) == NOT_RUN


def test_empty_folders_as_dvc_makes_them_are_nothing(tmp_path: Path, system: params.System) -> None:
    for stage in ("weights", "models", "evaluations"):
        (tmp_path / stage / NAME).mkdir(parents=True)
    assert state(tmp_path, system) == NOT_RUN
    (tmp_path / "weights" / NAME / "initial").mkdir()  # the stage began, and failed
    assert state(tmp_path, system) == NO_MODEL


def test_a_complete_system_is_evaluated(complete: Path, system: params.System) -> None:
    assert state(complete, system) == EVALUATED


@pytest.mark.parametrize(
    ("stage", "found"),
    [("weights", NO_MODEL), ("models", NO_MODEL), ("evaluations", NO_EVALUATION)],
)
def test_a_stage_that_failed_leaves_outputs_after_it_that_do_not_count(
    complete: Path, system: params.System, stage: str, found: str
) -> None:
    (complete / stage / NAME / "provenance.json").unlink()
    assert state(complete, system) == found


@pytest.mark.parametrize(
    ("stage", "output", "found"),
    [("weights", INITIAL, NO_MODEL), ("models", TRAINED, NO_EVALUATION)],
)
def test_neither_do_those_of_earlier_inputs(
    complete: Path, system: params.System, stage: str, output: str, found: str
) -> None:
    edit(
        complete / stage / NAME / "provenance.json",
        lambda note: note["outputs"].update({output: "another"}),
    )
    assert state(complete, system) == found


def test_nor_a_model_of_other_settings(complete: Path, system: params.System) -> None:
    assert state(complete, system.model_copy(update={"batch_size": 3})) == NO_MODEL


def test_those_that_were_started_without_being_evaluated() -> None:
    found = {"a": EVALUATED, "b": NO_MODEL, "c": NOT_RUN, "d": NO_EVALUATION}
    assert unevaluated(found) == {"b": NO_MODEL, "d": NO_EVALUATION}
