"""Images under shifts, without Keras: one of them, or a file of many."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import files, seeding
from cxr.data import threads
from cxr.shifts import kinds, sets

COLUMNS = ["id", "label", "kind", "strength"]


def shifted_image(
    load: Callable[[int], np.ndarray],
    shift: sets.Shift,
    name: str,
    label: int,
    row: int,
    seed: int,
) -> np.ndarray:
    """Return the image of a row under a shift, uint8 [size, size].

    The draws of an image and shift depend on the seed and on nothing else.

    Args:
        load: returns the image of a row.
        shift: kind and strength.
        name: the image's id.
        label: 0 or 1.
        row: of the image.
        seed: ``seed`` of params.yaml.
    """
    strength = float(shift.strength)  # 1 and 1.0 are one strength, and a table may hold either
    draws = seeding.generator(seed, "shift", str(name), shift.kind, repr(strength))
    return kinds.shifted(load(row), shift.kind, strength, int(label), draws)


def write(cached: np.ndarray, tasks: pd.DataFrame, seed: int, folder: Path) -> None:
    """Write images under shifts, all of them or none.

    Args:
        cached: uint8 [n, size, size], the images that ``row`` of the tasks counts.
        tasks: from :func:`cxr.shifts.sets.shifted_validation`; at least one.
        seed: ``seed`` of params.yaml.
        folder: gets ``images.npy``, uint8 [tasks, size, size], and ``index.csv``, with the columns
            :data:`COLUMNS` and the same rows.

    Raises:
        InputError: the disk is full.
    """
    with (
        files.replacing(folder / "index.csv") as index,
        files.replacing(folder / "images.npy") as pixels,
    ):
        shape = (len(tasks), *cached.shape[1:])
        images = np.lib.format.open_memmap(pixels, mode="w+", dtype="uint8", shape=shape)
        files.reserve(pixels, pixels.stat().st_size)
        rows = tasks[["kind", "strength", "id", "label", "row"]].itertuples(index=False)

        def draw(task: tuple[int, tuple[str, float, str, int, int]]) -> None:
            place, (kind, strength, name, label, row) = task
            shift = sets.Shift(kind, strength)
            images[place] = shifted_image(cached.__getitem__, shift, name, label, row, seed)

        threads.parallel_map(draw, enumerate(rows), "shifting validation images")
        images.flush()
        files.write_csv(index, tasks[COLUMNS])
