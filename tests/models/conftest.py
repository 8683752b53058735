import os
from pathlib import Path

import pytest

from cxr.models import backbones
from tests.small import TINY


@pytest.fixture
def tiny(monkeypatch):
    """Register the tiny backbone."""
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY)
    return TINY


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """MobileNetV2's ImageNet weights without its top, as a file."""
    given = os.environ.get("CXR_TEST_WEIGHTS")
    if not given:
        pytest.skip("CXR_TEST_WEIGHTS is not set: give it the path of MobileNetV2's .weights.h5")
    return Path(given)
