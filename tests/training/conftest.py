import pytest

from cxr.models import backbones
from tests.small import TINY


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Register the tiny backbone."""
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY)
