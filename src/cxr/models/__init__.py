"""Networks: backbone x weights x head, and which of their layers a phase trains.

:func:`build` makes a system's network, :func:`set_trainable` prepares it for a phase,
:func:`scores` is the part that is trained, :func:`split` cuts it where training begins,
:func:`warped` puts augmentation and perturbation in front of it, :func:`save` and :func:`load` keep
it in a folder, with what each of its phases kept (:func:`phases`, :func:`restore`).
"""

from cxr.models.network import (
    ARCHITECTURE,
    WEIGHTS,
    build,
    load,
    parameter_counts,
    phases,
    probability,
    restore,
    save,
    scores,
    set_trainable,
    split,
    warped,
)

__all__ = [
    "ARCHITECTURE",
    "WEIGHTS",
    "build",
    "load",
    "parameter_counts",
    "phases",
    "probability",
    "restore",
    "save",
    "scores",
    "set_trainable",
    "split",
    "warped",
]
