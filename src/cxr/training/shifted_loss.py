"""The loss on validation images under simulated shifts, after each epoch of a phase.

Plain validation is of the same hospital as training and prefers the epoch that knows this hospital
best. Log loss and not AUC: it changes smoothly from epoch to epoch, where the AUC of a few hundred
images ties, and it is the loss that ``val_loss`` has, so that their difference is what shifts cost.
"""

import logging
import math
from typing import Any

import keras
import numpy as np

from cxr.models import freezing
from cxr.training import batches, callbacks, losses, shifted_files

log = logging.getLogger(__name__)
LIMIT = 2**30  # bytes of memory that the frozen features of the shifted images may take


class ShiftedLoss(keras.callbacks.Callback):
    """Adds ``shifted_loss`` to the metrics of an epoch.

    All kinds of shift weigh the same in it, as in ``shift.validation.shifted_auc`` of metrics.json.
    Frozen layers are computed once if their output takes at most :data:`LIMIT`; otherwise each
    epoch runs the whole network. It must come before the callbacks that read the metric.

    Args:
        model: from :func:`cxr.models.network.with_head_output`, with the phase's layers frozen.
        shifted: the images.
        output: ``head.output``, which decides the loss.
        batch_size: images per batch.
    """

    def __init__(
        self, model: keras.Model, shifted: shifted_files.Shifted, output: str, batch_size: int
    ) -> None:
        super().__init__()
        part, inputs = _from_features(model, shifted.images, batch_size)
        # A model of its own, because the trainer's state must not change between two epochs.
        self.evaluated = keras.Model(part.input, part.output)
        self.evaluated.compile(loss=losses.loss(output))
        self.batches = _Weighted(inputs, shifted.labels, weights(shifted.kinds), batch_size)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        found = self.evaluated.evaluate(
            self.batches, verbose=0, return_dict=True,
            callbacks=callbacks.MetricsPerEpoch(model=self.evaluated),
        )  # fmt: skip
        if logs is not None:
            logs[shifted_files.LOSS] = found["loss"]


class _Weighted(batches.Ordered):
    """All images in their order, each with a weight."""

    def __init__(
        self, inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray, batch_size: int
    ) -> None:
        super().__init__(inputs, labels, np.arange(len(inputs)), batch_size)
        self.weights = weights

    def __getitem__(self, step: int) -> Any:
        return *super().__getitem__(step), self.weights[self.rows_of(step)]


def weights(kinds: np.ndarray) -> np.ndarray:
    """Return weights of images with a mean of 1, so that all kinds of shift weigh the same.

    Args:
        kinds: [n], the kind of each image.

    Returns:
        float32 [n].
    """
    _, places, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    each: np.ndarray = len(kinds) / (len(counts) * counts)
    return each[places].astype("float32")


def _from_features(
    model: keras.Model, images: np.ndarray, batch_size: int
) -> tuple[keras.Model, np.ndarray]:
    """Return the part of the network after its frozen layers, and their output; or all of it."""
    parts = freezing.feature_extractor(model)
    if parts is None:
        return model, images
    extractor, rest = parts
    if 4 * math.prod(extractor.output_shape[1:]) * len(images) > LIMIT:
        return model, images
    log.info("computing the frozen features of %d shifted images once", len(images))
    return rest, batches.predict(extractor, images, np.arange(len(images)), batch_size)
