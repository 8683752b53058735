"""Clean and perturbed test images, for the figure that shows the perturbation."""

import keras
import numpy as np
import pandas as pd

from cxr import augment, params
from cxr.training import batches

PER_CLASS = 3


def samples(
    images: np.ndarray, index: pd.DataFrame, perturbation: params.Perturbation, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first test images of each class, clean and perturbed.

    Args:
        images: uint8 [n, size, size].
        index: id, label and split of each image.
        perturbation: the ranges of the perturbations.
        seed: ``seed`` of params.yaml, which gives the perturbations of the evaluation.

    Returns:
        Two arrays uint8 [up to 6, size, size], NORMAL first.
    """
    test, labels = index["split"].to_numpy() == "test", index["label"].to_numpy()
    rows = np.concatenate(
        [np.flatnonzero(test & (labels == label))[:PER_CLASS] for label in (0, 1)]
    )
    maps, tones = batches.perturbations(perturbation, images, index.iloc[rows], seed)
    clean = images[rows]
    perturbed = augment.transform_images(clean[..., np.newaxis], augment.transforms(maps, tones))
    return clean, keras.ops.convert_to_numpy(perturbed)[..., 0].round().astype("uint8")
