"""Networks: backbone, initial weights, head, the layers that a phase trains, and storage."""

from pathlib import Path
from typing import Any


def load(folder: str | Path, phase: str | None = None) -> Any:
    """Load a trained model; see :func:`cxr.models.store.load`."""
    from cxr.models import store  # here, so that importing this package does not import Keras

    return store.load(folder, phase)
