"""The folder of a trained model of two phases, and its predictions."""

from pathlib import Path

import pytest

from cxr.evaluation.predictions import Predictions
from tests.evaluation.spot import MIDDLES, predict, write_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the trained model."""
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, MIDDLES)
    return folder


@pytest.fixture(scope="session")
def predicted(folder: Path) -> Predictions:
    return predict(folder)
