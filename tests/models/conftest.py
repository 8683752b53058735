import pytest

from cxr.models import backbones
from tests.small import TINY


@pytest.fixture
def tiny(monkeypatch):
    """Register the tiny backbone."""
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY)
    return TINY
