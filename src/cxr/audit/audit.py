"""All audits of an archive and its split, and their files."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import files
from cxr.audit import (
    balance,
    borders,
    duplicates,
    file_properties,
    geometry,
    patients,
    shortcuts,
    suspects,
    wall,
)
from cxr.errors import InputError
from cxr.training.feature_files import Features


def run(
    archive: Path,
    manifest: pd.DataFrame,
    images: np.ndarray,
    index: pd.DataFrame,
    stored: Features | None,
    seed: int,
    folder: Path,
) -> dict[str, Any]:
    """Run the audits and write ``audit.json``, the tables and the wall of suspects.

    Args:
        archive: the zip.
        manifest: from :func:`cxr.data.split.assign`, with splits.
        images: uint8 [n, size, size], the cache, in the order of the manifest.
        index: of the cache.
        stored: the frozen features of a linear probe, or None.
        seed: ``seed`` of params.yaml.
        folder: gets the files.

    Returns:
        The content of ``audit.json``.

    Raises:
        InputError: the cache is not that of the manifest, or an image cannot be read.
    """
    if list(index["id"]) != list(manifest["id"]):
        message = (
            "the cached X-rays are not those of splits/manifest.csv: run `dvc repro -s -f "
            f"preprocess@{images.shape[-1]}`"
        )
        raise InputError(message)
    copies = duplicates.find(images, manifest)
    doubted, suspected = suspects.find(stored, index, seed)
    train = np.flatnonzero(manifest["split"] == "train")
    framed = borders.measure(images)
    marked = borders.large_markers(framed, manifest)
    properties = [
        file_properties.read(archive, manifest),
        framed,
        geometry.measure(images, train),
    ]
    table = pd.concat([part.reset_index(drop=True) for part in properties], axis=1)
    alarm, importances = shortcuts.assess(table, manifest, seed)
    result = {
        "patients": patients.in_two_splits(manifest),
        "duplicates": duplicates.summary(copies, manifest),
        "leak": patients.leak(manifest),
        "balance": balance.classes(manifest),
        "subtypes": balance.subtypes(manifest),
        "large_markers": balance.classes(marked),
        "suspects": doubted,
        "shortcuts": alarm,
    }
    files.write_csv(folder / "duplicates.csv", copies)
    files.write_csv(folder / "suspects.csv", suspected)
    files.write_csv(folder / "shortcuts.csv", importances)
    files.write_csv(folder / "markers.csv", marked)
    with files.replacing(folder / "suspects.png") as path:
        wall.draw(images, index, suspected).save(path)
    files.write_json(folder / "audit.json", result)
    return result
