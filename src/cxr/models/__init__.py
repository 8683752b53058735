"""Networks: backbone x weights x head, and which of their layers a phase trains.

:func:`build` makes a system's network, :func:`set_trainable` prepares it for a phase,
:func:`augmented` puts the augmentation in front of it, :func:`save` and :func:`load` keep it in a
folder.
"""

from cxr.models.network import (
    ARCHITECTURE,
    WEIGHTS,
    augmented,
    build,
    load,
    parameter_counts,
    save,
    set_trainable,
)

__all__ = [
    "ARCHITECTURE",
    "WEIGHTS",
    "augmented",
    "build",
    "load",
    "parameter_counts",
    "save",
    "set_trainable",
]
