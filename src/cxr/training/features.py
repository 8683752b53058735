"""The data of a phase, and the frozen features that replace its images if they never change."""

import logging
import math
from dataclasses import dataclass

import keras
import numpy as np

from cxr import augment
from cxr.models import freezing
from cxr.training import batches

log = logging.getLogger(__name__)
LIMIT = 4 * 2**30  # bytes of memory that frozen features may take


@dataclass(frozen=True)
class Data:
    """The images or features that a phase is trained and validated on.

    Attributes:
        inputs: uint8 images [n, size, size], or float32 features [n, ...].
        labels: [n], 0 or 1.
        train: the rows to train on; of view k they are ``train + k * len(train)``.
        val: the rows to validate on.
        perturbations: of the n images; None for clean images and for features.
        views: of each training image.
    """

    inputs: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    val: np.ndarray
    perturbations: batches.Perturbations | None
    views: int = 1


def frozen_features(
    model: keras.Model, data: Data, batch_size: int
) -> tuple[keras.Model, Data] | None:
    """Compute the output of a network's frozen part once, for a phase without augmentation.

    Without augmentation every epoch has the same images, clean or perturbed, so the output of the
    layers before the first trained one never changes.

    Args:
        model: from :func:`cxr.models.network.with_head_output`, with its layers frozen.
        data: images of the phase.
        batch_size: images per batch.

    Returns:
        The rest of the model, and the features of the train and val images as its data. None if no
        layer with weights is frozen before the first trained one, or if the features would take
        more memory than :data:`LIMIT`.
    """
    parts = freezing.feature_extractor(model)
    if parts is None:
        return None
    extractor, rest = parts
    used = np.concatenate([data.train, data.val])
    shape = extractor.output_shape[1:]
    # The peak: all features, and one batch before it is copied. Both are at most float32.
    if 4 * math.prod(shape) * (len(used) + batch_size) > LIMIT:
        return None
    log.info("computing the frozen features of %d images once: %s each", len(used), shape)
    if data.perturbations is not None:
        extractor = augment.with_transforms(extractor)
    features = batches.predict(extractor, data.inputs, used, batch_size, data.perturbations)
    train, val = np.split(np.arange(len(used)), [len(data.train)])
    return rest, Data(features, data.labels[used], train, val, None)
