"""The sets of shifted images: which images, under which kinds and strengths."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr import seeding


class Shift(NamedTuple):
    """A kind of :mod:`cxr.shifts.kinds` and its strength."""

    kind: str
    strength: float


NONE = Shift("none", 0)

# Of validation images: what differs between hospitals and is no sign of a disease. The mean AUC
# over them ranks networks as another hospital's images do, which plain validation does not.
VALIDATION = (
    Shift("magnify_x", 0.85), Shift("magnify_x", 1.2),
    Shift("magnify_y", 0.85), Shift("magnify_y", 1.2),
    Shift("anti_geometry", 1.2),
    Shift("gamma", 0.6), Shift("gamma", 1.6),
    Shift("contrast", 0.6), Shift("contrast", 1.6),
    Shift("blur", 1), Shift("jpeg", 20), Shift("sharpen", 200),
)  # fmt: skip

# Of test images: how fast a model gets worse.
CURVE = tuple(
    Shift(kind, strength)
    for kind, strengths in {
        "rotation": (10, 20, 30),
        "brightness": (0.5, 0.75, 1.25, 1.5),
        "contrast": (0.5, 0.75, 1.5, 2),
        "gamma": (0.5, 0.7, 1.5, 2),
        "blur": (1, 1.5, 2),
        "noise": (5, 10, 20),
        "jpeg": (50, 20, 5),
        "resolution": (0.5, 0.25, 0.125),
    }.items()
    for strength in strengths
)

# The centre of an image: the middle square with this fraction of the side. It holds the lungs of
# nearly all of Kermany's images.
CENTRE = 0.8
MASKED = (Shift("centre", CENTRE), Shift("outside", CENTRE))  # of test images

COLUMNS = ("set", "kind", "strength", "id", "split", "label", "patient")


def tasks(index: pd.DataFrame, images: int, seed: int) -> pd.DataFrame:
    """List what is to be predicted of the cached images.

    Args:
        index: id, label, split and patient of each image.
        images: at most so many validation images, and as many test images; see :func:`chosen`.
        seed: ``seed`` of params.yaml.

    Returns:
        One row per image and shift: the columns :data:`COLUMNS`, and ``row``, the image's place
        in the index. ``validation`` and ``curve`` have their images unshifted too (``none``).
    """
    validation, test = (chosen(index, split, images, seed) for split in ("val", "test"))
    return pd.concat(
        [
            listed("validation", (NONE, *VALIDATION), index, validation),
            listed("curve", (NONE, *CURVE), index, test),
            listed("masked", MASKED, index, test),
        ],
        ignore_index=True,
    )


def shifted_validation(index: pd.DataFrame, images: int, seed: int) -> pd.DataFrame:
    """List the validation images under every shift, as :func:`tasks` does, but not unshifted."""
    found = tasks(index, images, seed)
    wanted = (found["set"] == "validation") & (found["kind"] != NONE.kind)
    return found[wanted].reset_index(drop=True)


def listed(
    name: str, shifts: Sequence[Shift], index: pd.DataFrame, rows: np.ndarray
) -> pd.DataFrame:
    """List a set: each of the rows of an index under each shift; see :func:`tasks`."""
    about = index.iloc[rows][["id", "split", "label", "patient"]].assign(row=rows)
    tables = [about.assign(set=name, kind=kind, strength=strength) for kind, strength in shifts]
    return pd.concat(tables, ignore_index=True)[[*COLUMNS, "row"]]


def chosen(index: pd.DataFrame, split: str, images: int, seed: int) -> np.ndarray:
    """Choose at most so many images of a split: whole patients, classes in their proportion.

    Args:
        index: id, label, split and patient of each image; the order of its rows does not matter.
        split: val or test.
        images: at most so many. If every patient of a class has too many images for its share,
            the patient with the fewest is chosen, so that no class is missing.
        seed: ``seed`` of params.yaml.

    Returns:
        int [n], the places of the images in the index, ascending; empty if the split is empty.
    """
    rows = np.flatnonzero(index["split"] == split)
    if len(rows) <= images:
        return rows
    of_split = index.iloc[rows].assign(row=rows)
    picked: list[int] = []
    for label, of_class in of_split.groupby(of_split.groupby("patient")["label"].transform("min")):
        left = max(1, images * len(of_class) // len(rows))
        patients = dict(iter(of_class.groupby("patient")["row"]))
        names = sorted(patients)
        draws = seeding.generator(seed, "shift", split, int(label))
        order = [names[place] for place in draws.permutation(len(names))]
        fitting = []
        for name in order:
            if len(patients[name]) <= left:
                fitting.append(name)
                left -= len(patients[name])
        for name in fitting or [min(order, key=lambda name: len(patients[name]))]:
            picked += patients[name].tolist()
    return np.sort(picked)
