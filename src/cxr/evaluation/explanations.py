"""Explanations of a network's decisions: what its Grad-CAM maps show over the whole test set."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from scipy import stats

from cxr import files, seeding
from cxr.evaluation import gallery, grad_cam
from cxr.shifts.sets import CENTRE  # the square that is masked, so that the figures compare

COMPARED = 32  # images whose maps are compared with those of randomised networks
DRAWS = 3  # of random weights: the maps of a single random network have a pattern of their own


def write(
    model: keras.Model,
    images: np.ndarray,
    predicted: pd.DataFrame,
    threshold: float,
    batch_size: int,
    seed: int,
    folder: Path,
) -> dict[str, Any]:
    """Map the test set, write gallery.png and gallery.csv, and return figures for metrics.json.

    Args:
        model: from :func:`cxr.models.store.load`. It has random weights afterwards.
        images: uint8 [n, size, size].
        predicted: id, split, label and probability of the n images.
        threshold: an image at or above it counts as PNEUMONIA.
        batch_size: images per batch.
        seed: ``seed`` of params.yaml.
        folder: for example ``evaluations/vgg16_transfer``.

    Returns:
        See :func:`centre` and :func:`randomised`; and ``layer``, whose output is mapped.
    """
    rows = np.flatnonzero(predicted["split"] == "test")
    test = predicted.iloc[rows]
    explainer = grad_cam.GradCam(model, batch_size)
    maps = explainer.maps(images, rows)
    picture, table = gallery.draw(images[rows], grad_cam.positive(maps), test, threshold)
    with files.replacing(folder / "gallery.png") as temporary:
        picture.save(temporary)
    files.write_csv(folder / "gallery.csv", table)
    chosen = evenly(test["id"].to_numpy())
    return (
        {"layer": explainer.layer}
        | centre(grad_cam.positive(maps), test["probability"].to_numpy() >= threshold)
        | randomised(model, explainer, images, rows[chosen], maps[chosen], seed)
    )


def centre(maps: np.ndarray, predicted: np.ndarray) -> dict[str, float | int | None]:
    """Return how much of the evidence lies in the images' centre.

    A network that looks at lungs has more there than an even map; one that looks at markers,
    borders or the shape of the image has less.

    Args:
        maps: float [n, h, w], 0 or more.
        predicted: bool [n], whether the image is predicted to be PNEUMONIA.

    Returns:
        ``images``; ``zero_maps``, how many maps have no value above 0, and so no share; ``centre``,
        the side of :data:`cxr.shifts.sets.CENTRE`; ``centre_share``, the mean over the other maps,
        with its quartiles ``centre_share_25``, ``_50`` and ``_75``; ``centre_share_predicted``, the
        mean over those of images predicted to be PNEUMONIA, because elsewhere the map may be a
        faint rest at the border; ``centre_share_even``, that of an even map. Shares are 0 to 1, or
        None if no map is left.
    """
    shares = centre_shares(maps)
    known = shares[~np.isnan(shares)]
    of_predicted = shares[predicted & ~np.isnan(shares)]
    quartiles = np.percentile(known, [25, 50, 75]).tolist() if len(known) else [None] * 3
    return {
        "images": len(maps),
        "zero_maps": int(len(shares) - len(known)),
        "centre": CENTRE,
        "centre_share": float(known.mean()) if len(known) else None,
        **{f"centre_share_{q}": v for q, v in zip((25, 50, 75), quartiles, strict=True)},
        "centre_share_predicted": float(of_predicted.mean()) if len(of_predicted) else None,
        "centre_share_even": round(CENTRE**2, 4),
    }


def centre_shares(maps: np.ndarray) -> np.ndarray:
    """Return the share of each map's sum that lies in the centre, float64 [n]; NaN for no sum.

    A value of a map stands for an even cell of the image; a cell on the edge of the centre counts
    in part.

    Args:
        maps: float [n, h, w], 0 or more.
    """
    maps = maps.astype("float64")
    inside = np.einsum("nhw,h,w->n", maps, *(_inside(side) for side in maps.shape[1:]))
    total = maps.sum(axis=(1, 2))
    return np.divide(inside, total, out=np.full(len(maps), np.nan), where=total > 0)


def randomised(
    model: keras.Model,
    explainer: grad_cam.GradCam,
    images: np.ndarray,
    rows: np.ndarray,
    maps: np.ndarray,
    seed: int,
) -> dict[str, float | int | None]:
    """Compare maps with those of the same network with random weights in all layers.

    The sanity check of Adebayo and others, "Sanity Checks for Saliency Maps", NeurIPS 2018: maps
    that stay alike (a correlation near 1) show the image's or the architecture's shape, not what
    was learned. It should be near 0. Absolute values are averaged, because the sign of a random
    head is random: 0.9 and -0.9 are equally alike, and would cancel out.

    Args:
        model: the explained one. It has random weights afterwards.
        explainer: of the model.
        images: uint8 [n, size, size].
        rows: the indices of the images to compare.
        maps: float [rows, h, w], of the trained model, before negative values are cut to 0, because
            many values of 0 have no order.
        seed: ``seed`` of params.yaml.

    Returns:
        ``randomised_images``, and ``randomised_correlation``: the mean over images and
        :data:`DRAWS` draws of the absolute value of Spearman's rank correlation, 0 to 1. A pair
        with a constant map has none; None if no pair has one.
    """
    architecture, found = model.to_json(), []
    for draw in range(DRAWS):
        # Keras's initialisers draw from its global seed.
        keras.utils.set_random_seed(seeding.derive(seed, "explanations", draw))
        model.set_weights(keras.models.model_from_json(architecture).get_weights())
        for one, other in zip(maps, explainer.maps(images, rows), strict=True):
            if np.ptp(one) > 0 and np.ptp(other) > 0:
                found.append(abs(stats.spearmanr(one.ravel(), other.ravel()).statistic))
    return {
        "randomised_images": len(rows),
        "randomised_correlation": float(np.mean(found)) if found else None,
    }


def evenly(ids: np.ndarray, count: int = COMPARED) -> np.ndarray:
    """Return the places of at most ``count`` ids, evenly spaced in the order of the ids."""
    order = np.argsort(ids, kind="stable")
    return order[np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)]


def _inside(side: int) -> np.ndarray:
    """Return the part of each of ``side`` cells in a row that is in the centre, float64 [side]."""
    edges = np.arange(side + 1) / side
    low, high = (1 - CENTRE) / 2, (1 + CENTRE) / 2
    return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * side
