"""``weights.json``: the record of the weights that a system's training starts from."""

from pathlib import Path
from typing import Any

from cxr import files
from cxr.errors import InputError

FOLDER = "initial"  # in weights/<system>; training depends on it as a whole
NAME = f"{FOLDER}/weights.json"


def write(folder: Path, backbone: str, weights: str | None, sha256: str | None) -> dict[str, Any]:
    """Write ``weights.json`` into ``weights/<system>/`` and return its content.

    Args:
        folder: ``weights/<system>``.
        backbone: its name in params.yaml.
        weights: ``imagenet``, the name of a file, or None for random weights.
        sha256: of the file that training reads; None for random weights.
    """
    record = {"backbone": backbone, "weights": weights, "sha256": sha256}
    files.write_json(folder / NAME, record)
    return record


def read(folder: Path) -> dict[str, Any]:
    """Read the ``weights.json`` of a system's folder.

    Raises:
        InputError: the file is missing.
    """
    if not (folder / NAME).is_file():
        message = f"{folder / NAME} is missing: run `dvc repro weights@{folder.name}`"
        raise InputError(message)
    return files.read_json(folder / NAME)
