"""Divide the manifest into train, val and test, whole patients at a time, in exact numbers."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr import params, seeding
from cxr.errors import InputError
from cxr.params import CLASSES, SPLITS

MIXED = -1  # in place of a label: a group that holds images of both classes

log = logging.getLogger(__name__)


def assign(
    manifest: pd.DataFrame, settings: params.Split, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give every image of a manifest its split.

    ``grouped``: patients, and images of equal pixels, stay together; val and test get exactly the
    images asked for. ``image``: single images are drawn, as the original article did, which puts a
    patient on several sides. ``official``: test is the archive's own; val is drawn from the rest as
    in ``grouped``, and the test counts of the settings are not used.

    Args:
        manifest: from :func:`cxr.data.manifest.build`; the order of its rows does not matter.
        settings: protocol and counts.
        seed: ``seed`` of params.yaml.

    Returns:
        The manifest with the column ``split``; and what had to be left out (path, reason): under
        ``official``, images for training whose patient or pixels are in the official test set.

    Raises:
        InputError: counts that the data set cannot give, or cannot give exactly in whole groups;
            ``official`` for an archive that has no official test set.
    """
    manifest = manifest.sort_values("path", ignore_index=True)
    group = groups(manifest) if settings.protocol != "image" else np.arange(len(manifest))
    side = np.full(len(manifest), "train", dtype=object)
    wanted = {
        name: (counts.NORMAL, counts.PNEUMONIA)
        for name, counts in (("test", settings.test), ("val", settings.val))
    }
    out = np.zeros(len(manifest), dtype=bool)
    if settings.protocol == "official":
        official = (manifest["official_split"] == "test").to_numpy()
        missing = [c for i, c in enumerate(CLASSES) if not (manifest["label"][official] == i).any()]
        if missing:
            message = (
                f"split.protocol is official, but the archive has no folder test with {missing[0]} "
                "images: use the protocol grouped"
            )
            raise InputError(message)
        side[official] = "test"
        out = ~official & np.isin(group, group[official])
        del wanted["test"]
    _check_counts(manifest, side, out, wanted)

    labels = _group_labels(manifest["label"].to_numpy(), group)
    for name, counts in wanted.items():
        for label, count in enumerate(counts):
            free = (labels == label) & (side == "train") & ~out
            order = seeding.generator(seed, "split", name, label)
            chosen = _fill(group[free], count, order, f"{name} {CLASSES[label]}")
            side[np.isin(group, chosen)] = name
    if (labels == MIXED).any():
        log.warning("%d images equal one of the other class; in train", (labels == MIXED).sum())
    left_out = manifest.loc[out, ["path"]].assign(reason="same patient or pixels as official test")
    return manifest.assign(split=side)[~out].reset_index(drop=True), left_out


def groups(manifest: pd.DataFrame) -> np.ndarray:
    """Number the groups of images that belong together: same patient, or equal pixels.

    Returns:
        int [n], the number of each image's group; groups are numbered by their first image.
    """
    leader = np.arange(len(manifest))

    def find(row: int) -> int:
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    for column in ("patient", "pixel_hash"):
        for rows in manifest.groupby(column, sort=False).indices.values():
            for row in rows[1:]:
                one, other = sorted((find(rows[0]), find(row)))
                leader[other] = one
    return pd.factorize(np.array([find(row) for row in range(len(manifest))]))[0]


def summary(split: pd.DataFrame, rejected: int, seed: int) -> dict[str, Any]:
    """Count what the split came to: a DVC metric.

    Args:
        split: from :func:`assign`.
        rejected: how many files could not be used.
        seed: ``seed`` of params.yaml.

    Returns:
        ``images``, ``patients``, ``groups`` of each split and class; ``total``; ``rejected``;
        ``duplicates``: groups and images of equal pixels; ``rgb_images``; ``patients_on_two_sides``
        of this split; ``image_level_leak``: how many test images would share their patient with
        training, had single images been drawn in these numbers.
    """
    group = pd.Series(groups(split), index=split.index)

    def count(values: pd.Series) -> dict[str, dict[str, int]]:
        return {
            name: {
                label: int(values[(split["split"] == name) & (split["label"] == place)].nunique())
                for place, label in enumerate(CLASSES)
            }
            for name in SPLITS
        }

    copies = split["pixel_hash"].value_counts()
    copies = copies[copies > 1]
    sides = split.groupby("patient")["split"].nunique()
    return {
        "images": count(split["path"]),
        "patients": count(split["patient"]),
        "groups": count(group),
        "total": len(split),
        "rejected": rejected,
        "duplicates": {"groups": len(copies), "images": int(copies.sum())},
        "rgb_images": int((split["mode"] == "RGB").sum()),
        "patients_on_two_sides": int((sides > 1).sum()),
        "image_level_leak": _image_level_leak(split, seed),
    }


def _image_level_leak(split: pd.DataFrame, seed: int) -> int:
    """Draw single images in the split's own numbers and count the leaking test images."""
    numbers = {
        name: params.Counts(
            **{
                label: max(1, int(((split["split"] == name) & (split["label"] == place)).sum()))
                for place, label in enumerate(CLASSES)
            }
        )
        for name in ("val", "test")
    }
    settings = params.Split(protocol="image", max_rejected=0.0, **numbers)
    drawn, _ = assign(split.drop(columns="split"), settings, seed)
    trained_on = drawn.loc[drawn["split"] == "train", "patient"]
    tested = drawn.loc[drawn["split"] == "test", "patient"]
    return int(tested.isin(trained_on).sum())


def _check_counts(
    manifest: pd.DataFrame, side: np.ndarray, out: np.ndarray, wanted: Mapping[str, Sequence[int]]
) -> None:
    """Refuse counts that leave no image of a class to train on."""
    for label, name in enumerate(CLASSES):
        available = int(((manifest["label"] == label) & (side == "train") & ~out).sum())
        asked = {split: counts[label] for split, counts in wanted.items()}
        if sum(asked.values()) >= available:
            parts = " and ".join(f"split.{split}.{name} {n}" for split, n in asked.items())
            message = (
                f"{parts} want {sum(asked.values())} {name} images, but there are {available}, and "
                "at least one must be left to train on: lower the counts"
            )
            raise InputError(message)


def _group_labels(labels: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return for each image the label that its whole group has, or MIXED."""
    low, high = np.full(group.max() + 1, 2), np.full(group.max() + 1, -1)
    np.minimum.at(low, group, labels)
    np.maximum.at(high, group, labels)
    return np.where(low == high, low, MIXED)[group]


def _fill(group: np.ndarray, count: int, draws: np.random.Generator, what: str) -> np.ndarray:
    """Choose whole groups, in random order, that hold exactly ``count`` images.

    A group is taken wherever the groups behind it can still make up the rest exactly. Which rests
    those are is kept as the bits of one integer a place: bit k is set where some of the groups from
    there on hold k images together.

    Args:
        group: the group of each free image.
        count: how many images to choose.
        draws: gives the order.
        what: names the split and class in an error.

    Returns:
        The chosen groups.
    """
    numbers, sizes = np.unique(group, return_counts=True)
    order = draws.permutation(len(numbers))
    reachable = [1]
    for place in order[::-1]:
        reachable.append(reachable[-1] | reachable[-1] << int(sizes[place]))
    chosen, rest = [], count
    for place, behind in zip(order, reachable[-2::-1], strict=True):
        left = rest - int(sizes[place])
        if left >= 0 and behind >> left & 1:
            chosen.append(numbers[place])
            rest = left
    if rest:
        near = [n for n in range(1, len(group)) if reachable[-1] >> n & 1]  # none and all: no use
        message = (
            f"{what}: {count} images cannot be had in whole patients; the nearest number that can "
            f"is {min(near, key=lambda n: abs(n - count), default='none')}"
        )
        raise InputError(message)
    return np.array(chosen, dtype=int)
