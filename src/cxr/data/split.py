"""The split: train, val and test in exact numbers, without dividing a patient."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cxr import params, seeding
from cxr.errors import InputError
from cxr.labels import CLASSES, SPLITS

MIXED = -1  # in place of a label: a group that holds images of both classes

log = logging.getLogger(__name__)


def assign(
    manifest: pd.DataFrame, settings: params.Split, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Assign every image of a manifest to a split.

    ``grouped``: patients, and images of equal pixels, stay together; val and test get exactly the
    requested numbers. ``image``: single images are drawn, as the original article did, which puts
    images of one patient into several splits. ``official``: test is the archive's own; val is drawn
    from the other images as in ``grouped``, and the test counts of the settings are ignored.

    Args:
        manifest: from :func:`cxr.data.manifest.build`; the order of its rows does not matter.
        settings: protocol and counts.
        seed: ``seed`` of params.yaml.

    Returns:
        The manifest, ordered by path, with the column ``split``; and the excluded images (path,
        reason): under ``official``, images outside of the test set that share their patient or
        pixels with it.

    Raises:
        InputError: the data set has too few images, or cannot give a count exactly in whole
            groups; ``official`` for an archive that has no official test set.
    """
    manifest = manifest.sort_values("path", ignore_index=True)
    group = groups(manifest) if settings.protocol != "image" else np.arange(len(manifest))
    splits = np.full(len(manifest), "train", dtype=object)
    counts = {
        name: (requested.NORMAL, requested.PNEUMONIA)
        for name, requested in (("test", settings.test), ("val", settings.val))
    }
    excluded = np.zeros(len(manifest), dtype=bool)
    if settings.protocol == "official":
        test = _official_test(manifest)
        splits[test] = "test"
        excluded = ~test & np.isin(group, group[test])
        del counts["test"]
    available = (splits == "train") & ~excluded
    _check_counts(manifest["label"].to_numpy()[available], counts)

    labels = _group_labels(manifest["label"].to_numpy(), group)
    for name, rows in _draw(labels, group, available, counts, seed).items():
        splits[rows] = name
    mixed = int((labels[available] == MIXED).sum())
    if mixed:
        log.warning(
            "%d images share their patient or their pixels with an image of the other class; such "
            "groups stay in train", mixed,
        )  # fmt: skip
    not_used = manifest.loc[excluded, ["path"]]
    not_used = not_used.assign(reason="same patient or pixels as an image of the official test")
    return manifest.assign(split=splits)[~excluded].reset_index(drop=True), not_used


def groups(manifest: pd.DataFrame) -> np.ndarray:
    """Number the groups of images that must stay together: one patient, or equal pixels.

    Returns:
        int [n], the number of each image's group, counted in the order of their first images.
    """
    rows = np.arange(len(manifest))
    # Link each image to the first image of its patient and the first one with its pixels.
    first = [
        pd.Series(rows).groupby(manifest[column].to_numpy()).transform("min").to_numpy()
        for column in ("patient", "pixel_hash")
    ]
    links = (np.ones(2 * len(rows)), (np.tile(rows, 2), np.concatenate(first)))
    graph = coo_array(links, shape=(len(rows), len(rows)))
    _, component = connected_components(graph, directed=False)
    return pd.factorize(component)[0]  # SciPy does not document the order of its labels


def summary(manifest: pd.DataFrame, rejected: int, seed: int) -> dict[str, Any]:
    """Return the counts of a split, for the DVC metric splits/summary.json.

    Args:
        manifest: from :func:`assign`, with splits.
        rejected: number of files that were rejected or excluded.
        seed: ``seed`` of params.yaml.

    Returns:
        ``images``, ``patients``, ``groups`` of each split and class; ``total``; ``rejected``;
        ``duplicates``: groups and images of equal pixels; ``rgb_images``; ``patients_known``:
        images whose patient is known; ``patients_in_two_splits``: known and assumed patients with
        images in more than one split; ``image_level_leak``: test images that would share their
        patient with training if single images had been drawn in these numbers.
    """
    group = pd.Series(groups(manifest), index=manifest.index)
    copies = manifest["pixel_hash"].value_counts()
    copies = copies[copies > 1]
    splits_of_patient = manifest.groupby("patient")["split"].nunique()
    return {
        "images": _unique_by_class(manifest, manifest["path"]),
        "patients": _unique_by_class(manifest, manifest["patient"]),
        "groups": _unique_by_class(manifest, group),
        "total": len(manifest),
        "rejected": rejected,
        "duplicates": {"groups": len(copies), "images": int(copies.sum())},
        "rgb_images": int((manifest["mode"] == "RGB").sum()),
        "patients_known": int(manifest["patient_known"].sum()),
        "patients_in_two_splits": int((splits_of_patient > 1).sum()),
        "image_level_leak": image_level_leak(manifest, seed),
    }


def image_level_leak(manifest: pd.DataFrame, seed: int) -> int:
    """Draw single images in the split's numbers, and count the test images that leak.

    Args:
        manifest: from :func:`assign`, with splits.
        seed: of the draw.

    Returns:
        The number of test images whose patient also has an image in train.
    """
    images = _unique_by_class(manifest, manifest["path"])
    counts = {split: list(images[split].values()) for split in ("test", "val")}
    each, all_of_them = np.arange(len(manifest)), np.ones(len(manifest), dtype=bool)
    drawn = _draw(manifest["label"].to_numpy(), each, all_of_them, counts, seed)
    tested = np.isin(each, drawn["test"])
    trained = ~tested & ~np.isin(each, drawn["val"])
    return int(manifest["patient"][tested].isin(manifest["patient"][trained]).sum())


def _unique_by_class(manifest: pd.DataFrame, values: pd.Series) -> dict[str, dict[str, int]]:
    """Count the different values in each split and class."""
    return {
        split: {
            name: int(values[(manifest["split"] == split) & (manifest["label"] == label)].nunique())
            for label, name in enumerate(CLASSES)
        }
        for split in SPLITS
    }


def _official_test(manifest: pd.DataFrame) -> np.ndarray:
    """Return a mask of the archive's test images, and check that both classes are among them."""
    test = (manifest["official_split"] == "test").to_numpy()
    missing = [c for i, c in enumerate(CLASSES) if not (manifest["label"][test] == i).any()]
    if missing:
        message = (
            f"split.protocol is official, but the archive has no folder test with {missing[0]} "
            "images: use the protocol grouped"
        )
        raise InputError(message)
    return test


def _check_counts(labels: np.ndarray, counts: Mapping[str, Sequence[int]]) -> None:
    """Check that the counts leave images of each class to train on."""
    for label, name in enumerate(CLASSES):
        available = int((labels == label).sum())
        requested = {split: by_label[label] for split, by_label in counts.items()}
        if sum(requested.values()) >= available:
            parts = " and ".join(f"split.{split}.{name} {n}" for split, n in requested.items())
            message = (
                f"{parts} need {sum(requested.values())} {name} images and at least one more to "
                f"train on, but only {available} are available: lower the counts"
            )
            raise InputError(message)


def _group_labels(labels: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the label of each image's group, or MIXED if its images have different labels."""
    low, high = np.full(group.max() + 1, 2), np.full(group.max() + 1, -1)
    np.minimum.at(low, group, labels)
    np.maximum.at(high, group, labels)
    return np.where(low == high, low, MIXED)[group]


def _draw(
    labels: np.ndarray,
    group: np.ndarray,
    available: np.ndarray,
    counts: Mapping[str, Sequence[int]],
    seed: int,
) -> dict[str, np.ndarray]:
    """Draw whole groups for each split, in the order of ``counts``.

    Args:
        labels: int [n], the label of each image's group, or MIXED.
        group: int [n], the group of each image.
        available: bool [n], False for images that must not be drawn.
        counts: how many images of each label to draw, by split.
        seed: ``seed`` of params.yaml.

    Returns:
        The rows of each split.
    """
    drawn = {}
    for split, by_label in counts.items():
        chosen = [
            _fill(
                group[available & (labels == label)],
                count,
                seeding.generator(seed, "split", split, label),
                f"{split} {CLASSES[label]}",
            )
            for label, count in enumerate(by_label)
        ]
        rows = np.isin(group, np.concatenate(chosen))
        available = available & ~rows
        drawn[split] = np.flatnonzero(rows)
    return drawn


def _fill(
    group: np.ndarray, count: int, generator: np.random.Generator, description: str
) -> np.ndarray:
    """Choose whole groups, in random order, that hold exactly ``count`` images.

    A group is chosen if the groups after it can still supply exactly the number that remains. For
    each position in the order, the bits of an integer are the numbers they can supply: bit k is set
    if some of the groups from that position on hold k images in total. Only numbers up to ``count``
    matter; most positions share one integer, in which all bits are set, so that memory does not
    grow with the number of groups.

    Args:
        group: the group of each available image.
        count: how many images to choose.
        generator: draws the order.
        description: names the split and class in an error.

    Returns:
        The chosen groups.
    """
    numbers, sizes = np.unique(group, return_counts=True)
    order = generator.permutation(len(numbers))
    reachable, needed = [1], (2 << count) - 1
    for position in order[::-1]:
        before = reachable[-1]
        after = before | ((before << int(sizes[position])) & needed)
        reachable.append(before if after == before else after)
    chosen, remaining = [], count
    for position, after in zip(order, reachable[-2::-1], strict=True):
        left = remaining - int(sizes[position])
        if left >= 0 and after >> left & 1:
            chosen.append(numbers[position])
            remaining = left
    if remaining:
        every = 1
        for size in sizes:
            every |= every << int(size)
        # 0 and all images are no options: they leave a split or train without this class.
        possible = [n for n in range(1, len(group)) if every >> n & 1]
        message = (
            f"{description}: no set of whole patients has exactly {count} images; the nearest "
            f"possible number is {min(possible, key=lambda n: abs(n - count), default='none')}"
        )
        raise InputError(message)
    return np.array(chosen, dtype=int)
