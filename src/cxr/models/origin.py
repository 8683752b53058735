"""What a system's training begins with: the note ``weights.json`` beside the initial weights."""

import json
from pathlib import Path
from typing import Any

from cxr import files
from cxr.errors import InputError

NOTE = "weights.json"
FOLDER = "initial"  # holds the weights file; empty for random weights, as DVC tracks it in any case


def write(folder: Path, backbone: str, weights: str | None, sha256: str | None) -> dict[str, Any]:
    """Write the note into ``weights/<system>/`` and return what it says.

    Args:
        folder: of the system.
        backbone: its name in params.yaml.
        weights: ``imagenet``, the name of a file, or None for random ones.
        sha256: of the file that training reads; None for random weights.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    note = {"backbone": backbone, "weights": weights, "sha256": sha256}
    files.write_text(folder / NOTE, json.dumps(note, indent=2) + "\n")
    return note


def read(folder: Path) -> dict[str, Any]:
    """Read the note of a system's folder.

    Raises:
        InputError: there is none, so that nobody can tell which weights are meant.
    """
    if not (folder / NOTE).is_file():
        message = f"{folder / NOTE} is missing: run `dvc repro weights@{folder.name}`"
        raise InputError(message)
    return dict(json.loads((folder / NOTE).read_text(encoding="utf-8")))
