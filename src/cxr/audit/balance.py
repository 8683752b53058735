"""The classes and subtypes of each split."""

from typing import Any

import pandas as pd

from cxr.labels import CLASSES, SPLITS


def classes(manifest: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return for each split its images of each class and ``prevalence``, the share of PNEUMONIA.

    Args:
        manifest: label and split of each image.

    Returns:
        By split. The prevalence of an empty split is None.
    """
    found: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        labels = manifest.loc[manifest["split"] == split, "label"]
        found[split] = {name: int((labels == label).sum()) for label, name in enumerate(CLASSES)}
        found[split]["prevalence"] = float(labels.mean()) if len(labels) else None
    return found


def subtypes(manifest: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return for each split the images of each subtype of the disease; 0 for a subtype of another.

    Args:
        manifest: subtype (bacteria, virus, or empty where the name does not tell) and split.
    """
    named = sorted(set(manifest["subtype"]) - {""})
    return {
        split: {
            name: int(((manifest["split"] == split) & (manifest["subtype"] == name)).sum())
            for name in named
        }
        for split in SPLITS
    }
