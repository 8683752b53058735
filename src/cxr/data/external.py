"""Archives of other hospitals, which every system is tested on and none is trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import files
from cxr.data import manifest, source

EXTERNAL = "external"  # in the place of a split: an image that the pipeline's own archive lacks
COLUMNS = ("id", "path", "label", "patient", "split")


def build(
    name: str, given: str, max_rejected: float, own: pd.DataFrame, folder: Path
) -> dict[str, Any]:
    """Write an archive to one checked zip, and list its images.

    Args:
        name: its key in ``evaluate.external``.
        given: a descriptor (.yaml), a zip, or a folder with one folder per class; one class is
            enough.
        max_rejected: the fraction of the images, 0 to 1, that may be unusable.
        own: the manifest of the pipeline's own archive, with splits.
        folder: gets ``xrays.zip``; ``images.csv`` with the columns :data:`COLUMNS`;
            ``rejected.csv``; and ``source.json``, the returned description.

    Returns:
        The description of :func:`cxr.data.source.to_zip`, ``splits``: the number of images that are
        new (``external``) or belong to a split, see :func:`splits`; and ``rejected``.

    Raises:
        InputError: the archive is missing or cannot be used, or too many of its images cannot be.
    """
    target = folder / "xrays.zip"
    about = source.to_zip(given, target, required=(), setting=f"evaluate.external.{name}")
    required = [label for label, count in about["counts"].items() if count]
    images, rejected = manifest.build(target, max_rejected, required=required)
    images = images.assign(split=splits(images, own))
    files.write_csv(folder / "images.csv", images[list(COLUMNS)])
    files.write_csv(folder / "rejected.csv", rejected)
    counts = images["split"].value_counts().sort_index()
    about |= {"splits": {k: int(n) for k, n in counts.items()}, "rejected": len(rejected)}
    files.write_json(folder / "source.json", about)
    return about


def splits(images: pd.DataFrame, own: pd.DataFrame) -> np.ndarray:
    """Return the split of each image whose pixels or known patient the own archive has.

    A network that was trained on them knows these images; the others are ``external``.

    Args:
        images: manifest of another archive.
        own: manifest of the pipeline's archive, with splits.

    Returns:
        Text [n]: train, val, test or external, the first of them that applies.
    """
    found = np.full(len(images), EXTERNAL, dtype=object)
    for split in ("test", "val", "train"):  # the last one that applies stays
        of_split = own[own["split"] == split]
        patients = of_split.loc[of_split["patient_known"].astype(bool), "patient"]
        same = images["pixel_hash"].isin(of_split["pixel_hash"])
        same |= images["patient_known"].astype(bool) & images["patient"].isin(patients)
        found[same.to_numpy()] = split
    return found
