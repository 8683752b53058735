"""Images that are in the archive twice: equal pixels, or nearly so.

A candidate has a perceptual hash that differs in few bits. Chest X-rays are all alike, so that most
candidates are of different patients; the pixels decide.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from cxr.audit import perceptual_hash

# Bits. Kermany's 5,856 X-rays have 45,000 pairs within 10 bits.
DISTANCE = 10
# Of the pixels of two images. Kermany's most alike X-rays that are not equal reach 0.964: two
# children of the same build in the same position. 200 X-rays that were saved again at JPEG quality
# 50, halved in size, or darkened with a gamma of 1.3 all stayed above 0.984. Cropped by 1 % on each
# side they had 0.981 in the mean, and some are missed.
CORRELATION = 0.975
ROUGHLY = 0.97  # of the thumbnails, where noise and blur have averaged out, so it is the higher one
COLUMNS = ("group", "id", "split", "label", "patient", "kind", "distance", "correlation")


def find(images: np.ndarray, manifest: pd.DataFrame) -> pd.DataFrame:
    """Find the groups of images that are equal or nearly so.

    Args:
        images: uint8 [n, size, size], the cache.
        manifest: one row per image in the same order: id, split, label, patient, pixel_hash.

    Returns:
        One row per image that has a duplicate, group by group: ``group``, counted from 1, whose
        images are linked by equal or nearly equal pixels; id, split, label, patient; ``kind``,
        ``exact`` if another image of the group has equal pixels at the archive's size, otherwise
        ``near``; ``distance`` (bits of the hashes) and ``correlation`` (of the pixels, 0 to 1) with
        the most similar image of the group.
    """
    content = pd.factorize(manifest["pixel_hash"])[0]
    first = pd.Series(range(len(content))).groupby(content).min().to_numpy()  # of equal images one
    links = _near(images, first)
    one = np.concatenate([np.arange(len(content)), links["one"].to_numpy()])
    other = np.concatenate([first[content], links["other"].to_numpy()])
    shape = (len(content), len(content))
    graph = coo_array((np.ones(len(one)), (one, other)), shape=shape)
    _, group = connected_components(graph, directed=False)
    copies = np.bincount(content)[content] > 1
    best = _best(links).reindex(manifest.index)
    table = manifest[["id", "split", "label", "patient"]].assign(
        kind=np.where(copies, "exact", "near"),
        distance=best["distance"].where(~copies, 0),
        correlation=best["correlation"].where(~copies, 1.0),
    )
    table = table[np.bincount(group)[group] > 1]
    table.insert(0, "group", pd.factorize(group[table.index])[0] + 1)
    table = table.sort_values(["group", "id"], ignore_index=True)
    return table.astype({"distance": int}).round({"correlation": 4})[list(COLUMNS)]


def summary(table: pd.DataFrame, manifest: pd.DataFrame) -> dict[str, Any]:
    """Count the groups of :func:`find`.

    Args:
        table: from :func:`find`.
        manifest: id and pixel_hash of each image.

    Returns:
        For ``exact``, the sets of equal images, and ``near``, the groups in which not all images
        are equal: ``groups``; ``images``; and the groups ``across_splits``, ``across_patients`` and
        ``across_labels``, whose images differ in it. ``in_test_and_rest``: test images of any group
        with an image in train or val. ``limits``: of near duplicates.
    """
    content = table["id"].map(manifest.set_index("id")["pixel_hash"])
    unequal = content.groupby(table["group"]).transform("nunique") > 1
    exact, near = table["kind"] == "exact", table["group"][unequal]
    found: dict[str, Any] = {
        "exact": _counts(table[exact], content[exact]), "near": _counts(table[unequal], near)
    }  # fmt: skip
    tested = table["split"] == "test"
    both = table["group"].isin(table.loc[~tested, "group"]) & tested
    limits = {"distance": DISTANCE, "correlation": CORRELATION}
    return found | {"in_test_and_rest": int(both.sum()), "limits": limits}


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of pairs of images, -1 to 1.

    Args:
        one: [n, ...].
        other: of the same shape.

    Returns:
        float32 [n]; 0 where an image is constant and has no correlation.
    """
    first, second = (_centred(pixels) for pixels in (one, other))
    lengths = np.sqrt(np.einsum("ij,ij->i", first, first) * np.einsum("ij,ij->i", second, second))
    products = np.einsum("ij,ij->i", first, second)
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def _counts(rows: pd.DataFrame, group: pd.Series) -> dict[str, int]:
    """Count groups of images, and those whose images differ in split, patient or label."""
    different = rows.groupby(group.to_numpy())[["split", "patient", "label"]].nunique() > 1
    return {
        "groups": len(different),
        "images": len(rows),
        "across_splits": int(different["split"].sum()),
        "across_patients": int(different["patient"].sum()),
        "across_labels": int(different["label"].sum()),
    }


def _centred(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype("float32")
    return flat - flat.mean(axis=1, keepdims=True)


def _near(images: np.ndarray, rows: np.ndarray) -> pd.DataFrame:
    """Return the near duplicates among some rows: one, other, distance, correlation."""
    small = perceptual_hash.thumbnails(images, rows)
    hashes = perceptual_hash.hashes(small)
    found = [
        (int(rows[one]), int(rows[other]), int(distance), value)
        for one, other, distance in _alike(small, hashes)
        if (value := float(correlation(images[[rows[one]]], images[[rows[other]]])[0]))
        >= CORRELATION
    ]
    return pd.DataFrame(found, columns=["one", "other", "distance", "correlation"]).astype(
        {"one": int, "other": int, "distance": int, "correlation": float}
    )


def _alike(small: np.ndarray, hashes: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield the candidates whose thumbnails correlate: two places and the distance."""
    blocks = perceptual_hash.pairs(hashes, DISTANCE)
    for ones, others, distances in tqdm(blocks, "duplicates", unit=" blocks", mininterval=0.5):
        for start in range(0, len(ones), 4096):
            part = slice(start, start + 4096)
            alike = correlation(small[ones[part]], small[others[part]]) >= ROUGHLY
            yield from zip(
                ones[part][alike], others[part][alike], distances[part][alike], strict=True
            )


def _best(links: pd.DataFrame) -> pd.DataFrame:
    """Return each image's distance to, and correlation with, the image most like it."""
    both = pd.concat([links, links.rename(columns={"one": "other", "other": "one"})])
    best = both.sort_values(["correlation", "distance"], ascending=[False, True], kind="stable")
    return best.drop_duplicates("one").set_index("one")[["distance", "correlation"]]
