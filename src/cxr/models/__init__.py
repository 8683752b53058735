"""Networks: backbone x weights x head, which of their layers a phase trains, and their folders."""

from pathlib import Path
from typing import Any


def load(folder: str | Path, phase: str | None = None) -> Any:
    """Load a trained model; see :func:`cxr.models.store.load`."""
    from cxr.models import store  # imports Keras, which most users of this package do without

    return store.load(folder, phase)
