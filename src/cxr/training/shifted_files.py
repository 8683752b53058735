"""The files of shifted validation images that the stage ``shifted`` writes, without Keras.

``shifted/<system>/validation/`` holds ``images.npy`` and ``index.csv`` if a phase of the system
restores an epoch by :data:`LOSS`; otherwise the index alone, without rows. Training reads these
files and imports nothing of ``cxr.shifts``, so an edit there that gives equal images retrains
nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr import files, params
from cxr.data import cache

FOLDER = "validation"  # in shifted/<system>; training depends on it as a whole
LOSS = "shifted_loss"  # in a phase's restore, and the column of history.csv


@dataclass(frozen=True)
class Shifted:
    """Validation images under shifts.

    Attributes:
        images: uint8 [n, size, size].
        labels: [n], 0 or 1.
        kinds: [n], the kind of shift of each.
    """

    images: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray


def wanted(system: params.System) -> bool:
    """Return whether a phase of the system restores an epoch by its loss under shift."""
    return any(getattr(phase, "restore", None) == LOSS for phase in system.phases.values())


def write_none(folder: Path) -> None:
    """Write the folder of a system that wants no shifted images."""
    files.write_text(folder / "index.csv", "id,label,kind,strength\n")


def opened(folder: Path) -> Shifted:
    """Open the shifted images of a system, memory-mapped.

    Args:
        folder: ``shifted/<system>/validation``.

    Raises:
        InputError: a file is missing or damaged, or they do not belong together.
    """
    images, index = cache.open_cache(folder, f"shifted@{folder.parent.name}")
    return Shifted(images, index["label"].to_numpy(), index["kind"].to_numpy())
