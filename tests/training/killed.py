"""A training that other processes kill: two phases with plateau, early stopping and dropout."""

import os
from collections.abc import Callable
from pathlib import Path

from cxr import files, params
from cxr.models import backbones
from cxr.training import checkpoint, fit
from tests.small import TINY, phase, system
from tests.trained import contradicted, train

PLATEAU = params.Plateau(factor=0.5, patience=1, min_learning_rate=1e-5)
SYSTEM = system(
    augmentation=None,  # so that the first phase has frozen features
    phases={
        "head": phase("head", rate=1e-2, epochs=14, patience=6, plateau=PLATEAU),
        "all": phase("all", rate=2e-3, epochs=30, patience=5, plateau=PLATEAU),
    },
)
SETTINGS = params.Checkpoint(every=1, minutes=10, gigabytes=1)


def run(root: Path, report: Callable[[int], None]) -> None:
    """Train as stages/train.py does, with outputs in ``root/model``.

    Args:
        root: also holds the checkpoint.
        report: gets 0 when the training starts, then the number of each epoch that ends.
    """
    os.environ["TF_DETERMINISTIC_OPS"] = "1"
    backbones.BACKBONES["tiny"] = TINY
    report(0)
    with checkpoint.opened("tiny", {"seed": 0}, SETTINGS, root) as kept:
        trained = train(SYSTEM, on_epoch=lambda n, _: report(n), images=contradicted(), kept=kept)
        fit.save(trained, root / "model", None)
        kept.remove()


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every file of a model's folder."""
    return {
        path.relative_to(folder).as_posix(): files.file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
