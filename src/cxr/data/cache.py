"""Cached X-rays of one size, as the stages preprocess and shifted write them."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr import files
from cxr.errors import InputError


def open_cache(folder: Path, stage: str | None = None) -> tuple[np.ndarray, pd.DataFrame]:
    """Open the X-rays that a stage cached, without reading their pixels.

    Args:
        folder: for example ``tensors/<size>``.
        stage: that wrote it; None: ``preprocess@<size>``.

    Returns:
        Images uint8 [n, size, size], memory-mapped; and a table with one row per image: of
        ``preprocess`` id, label (0 or 1), split and patient.

    Raises:
        InputError: one of the two files is missing or damaged, or they have different lengths.
    """
    stage = stage or f"preprocess@{folder.name}"
    remake = f"run `dvc repro -s -f {stage}`"
    for name in ("images.npy", "index.csv"):
        if not (folder / name).is_file():
            message = f"{folder / name} is missing: run `dvc repro {stage}`"
            raise InputError(message)
    try:
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        message = f"{folder / 'images.npy'} cannot be read ({error}): {remake}"
        raise InputError(message) from error
    index = files.read_csv(folder / "index.csv")
    if len(images) != len(index):
        message = (
            f"{folder}: images.npy has {len(images)} X-rays, index.csv {len(index)} rows: {remake}"
        )
        raise InputError(message)
    return images, index
