"""A recorded run (tools.results.record) has the test AUC that MLflow has."""

from pathlib import Path

import pytest

from cxr import files
from cxr.errors import InputError
from cxr.tracking import client
from tests.tracking.conftest import Project
from tools.results import record

MODEL = Path("models/vgg")


@pytest.fixture
def logged(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(client, "_log_model", lambda *_: None)
    project.train()
    client.write(project.evaluate(auc=0.8))
    return project


def test_run_of_training_and_evaluation_is_named(logged: Project):
    trained = files.read_json(MODEL / "provenance.json")
    found = record._logged(trained, {"test": {"auc": 0.8}})
    assert found["name"] == "train vgg"
    assert found["test/auc"] == 0.8


def test_another_auc_is_refused(logged: Project):
    trained = files.read_json(MODEL / "provenance.json")
    with pytest.raises(InputError, match=r"has test/auc 0.8, and metrics.json 0.7"):
        record._logged(trained, {"test": {"auc": 0.7}})


def test_missing_run_is_refused(logged: Project):
    trained = files.read_json(MODEL / "provenance.json") | {"id": "f" * 32}
    with pytest.raises(InputError, match="lacks the run of train"):
        record._logged(trained, {"test": {"auc": 0.8}})
