"""Patients with images in more than one split, and what a split by images would have leaked."""

from typing import Any

import pandas as pd

from cxr.data import split

SEEDS = 20  # draws of an image-level split


def in_two_splits(manifest: pd.DataFrame) -> dict[str, int | None]:
    """Count the patients, and those with images in more than one split.

    Args:
        manifest: one row per image: patient, patient_known, split.

    Returns:
        ``patients``, known or assumed; ``images_without``: images whose patient is not known, each
        of which counts as its own patient; ``in_two_splits``: patients with images in more than one
        split, and ``images``, the number of their images. The last two are None if no patient is
        known, because nobody can tell then.
    """
    known = manifest["patient_known"].astype(bool)
    splits = manifest.groupby("patient")["split"].nunique()
    twice = splits.index[splits > 1]
    tells = bool(known.any())
    return {
        "patients": len(splits),
        "images_without": int((~known).sum()),
        "in_two_splits": len(twice) if tells else None,
        "images": int(manifest["patient"].isin(twice).sum()) if tells else None,
    }


def leak(manifest: pd.DataFrame) -> dict[str, Any] | None:
    """Draw image-level splits in the split's numbers with the seeds 0 to 19.

    Args:
        manifest: from :func:`cxr.data.split.assign`, with splits.

    Returns:
        ``test_images``; ``seeds``; and of the test images that share their patient with train the
        ``mean``, ``low`` (fewest) and ``high`` (most) over the seeds. None if no patient is known.
    """
    if not manifest["patient_known"].astype(bool).any():
        return None
    found = [split.image_level_leak(manifest, seed) for seed in range(SEEDS)]
    return {
        "test_images": int((manifest["split"] == "test").sum()),
        "seeds": SEEDS,
        "mean": sum(found) / SEEDS,
        "low": min(found),
        "high": max(found),
    }
