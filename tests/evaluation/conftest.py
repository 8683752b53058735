"""The folder of a trained model of two phases, its predictions, and the tiny backbone."""

from pathlib import Path

import pytest

from cxr.evaluation.predictions import Predictions
from cxr.models import backbones
from tests.evaluation.spot import MIDDLES, predict, write_model
from tests.small import TINY


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the trained model."""
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, MIDDLES)
    return folder


@pytest.fixture(scope="session")
def predicted(folder: Path) -> Predictions:
    return predict(folder)


@pytest.fixture
def tiny(monkeypatch):
    """Register the tiny backbone."""
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY)
