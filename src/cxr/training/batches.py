"""Batches of cached X-rays for Keras: shuffled for training, ordered for evaluation."""

from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr import augment, params, seeding
from cxr.errors import InputError

# Maps float64 [n, 3, 3] and tones float64 [n, 2] of n images; see cxr.augment.perturbations.
Perturbations = tuple[np.ndarray, np.ndarray]


class Ordered(keras.utils.PyDataset):
    """Batches of the given rows, in their order; the last batch may be smaller.

    Args:
        images: uint8 [n, size, size], memory-mapped or not; or float32 features [n, ...].
        labels: [n], 0 or 1.
        rows: the indices of the images, in the order of the batches.
        batch_size: images per batch.
        perturbations: of all n images; None for clean ones.
        with_transforms: add transforms to the inputs, for a model that augments or perturbs
            (:func:`cxr.augment.with_transforms`). Perturbations imply it.

    Each batch is (inputs, labels): images uint8 [batch, size, size, 1], or a pair of images and
    transforms float32 [batch, 10]; labels float32 [batch, 1].
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray,
        batch_size: int,
        perturbations: Perturbations | None = None,
        with_transforms: bool = False,
    ) -> None:
        super().__init__()
        self.images, self.labels, self.rows = images, labels, rows
        self.batch_size, self.perturbations = batch_size, perturbations
        self.with_transforms = with_transforms or perturbations is not None

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, step: int) -> tuple[Any, np.ndarray]:
        rows = self.rows_of(step)
        images = self.images[rows]
        if images.ndim == 3:
            images = images[..., np.newaxis]
        labels = self.labels[rows].astype("float32")[:, np.newaxis]
        if not self.with_transforms:
            return images, labels
        maps, tones = self.matrices(step, len(rows)), None
        if self.perturbations is not None:
            perturbing, tones = (of_all[rows] for of_all in self.perturbations)
            # Maps go from output to input pixels, so the perturbation, applied first, is left.
            maps = perturbing @ maps
        return (images, augment.transforms(maps, tones)), labels

    def rows_of(self, step: int) -> np.ndarray:
        """Return the rows of one batch."""
        return self.rows[step * self.batch_size : (step + 1) * self.batch_size]

    def matrices(self, step: int, count: int) -> np.ndarray:
        """Return the augmentation of one batch, [count, 3, 3]; here the identity."""
        return np.tile(np.eye(3), (count, 1, 1))


class Shuffled(Ordered):
    """The training batches of one epoch; order and augmentation change with each epoch.

    An epoch has int(n / batch_size) or ``steps`` whole batches, as in the published systems; the
    images left over differ between epochs. Order and augmentation depend on (seed, phase, epoch,
    step) alone, so Keras may request batches in any order, and training may start at any epoch.
    :meth:`start_epoch` sets the epoch. It is 0 until the first call, when Keras reads batches to
    learn their shapes. To resume within an epoch, set ``skipped`` to the number of its steps that
    are done.

    Args:
        images, labels, rows, batch_size, perturbations: as for :class:`Ordered`.
        augmentation: ranges of the random maps; None for no augmentation.
        steps: batches per epoch; None for all whole ones.
        seed: ``seed`` of params.yaml.
        phase: name of the phase.

    Raises:
        InputError: there are too few images for one batch, or for ``steps`` batches.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray,
        batch_size: int,
        perturbations: Perturbations | None,
        augmentation: params.Augmentation | None,
        steps: int | None,
        seed: int,
        phase: str,
    ) -> None:
        super().__init__(images, labels, rows, batch_size, perturbations, augmentation is not None)
        whole = len(rows) // batch_size
        if not whole:
            message = (
                f"batch_size is {batch_size}, but there are only {len(rows)} images to train on: "
                f"give a batch_size of at most {len(rows)}"
            )
            raise InputError(message)
        if steps is not None and steps > whole:
            message = (
                f"systems.<name>.phases.{phase}.steps_per_epoch is {steps}, but {len(rows)} "
                f"images to train on make {whole} batches of {batch_size}: give at most {whole}, "
                "or null for all"
            )
            raise InputError(message)
        self.steps, self.skipped = steps or whole, 0
        self.augmentation, self.seed, self.phase = augmentation, seed, phase
        self.start_epoch(0)

    def __len__(self) -> int:
        return self.steps - self.skipped

    def __getitem__(self, step: int) -> tuple[Any, np.ndarray]:
        return super().__getitem__(step + self.skipped)

    def start_epoch(self, epoch: int) -> None:
        """Shuffle for an epoch of the phase, counted from 1."""
        # PyDataset.on_epoch_begin does not pass the epoch, and with JAX Keras calls it once too
        # often.
        self.epoch = epoch
        draws = seeding.generator(self.seed, "order", self.phase, epoch)
        self.order = self.rows[draws.permutation(len(self.rows))]

    def rows_of(self, step: int) -> np.ndarray:
        return self.order[step * self.batch_size : (step + 1) * self.batch_size]

    def matrices(self, step: int, count: int) -> np.ndarray:
        if self.augmentation is None:
            return super().matrices(step, count)
        shape = self.images.shape[1:3]
        purpose = (self.phase, self.epoch, step)
        return augment.matrices(
            augment.draw(self.augmentation, shape, count, self.seed, *purpose), shape
        )


def predict(
    model: keras.Model,
    images: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    perturbations: Perturbations | None = None,
) -> np.ndarray:
    """Return a model's output for some of the cached X-rays.

    The output is allocated once and filled batch by batch. ``model.predict`` would collect all
    batches and then concatenate them, which takes twice the memory.

    Args:
        model: takes images, or images and transforms (:func:`cxr.augment.with_transforms`).
        images: uint8 [n, size, size].
        rows: the indices of the images, in the order of the result.
        batch_size: images per batch.
        perturbations: of all n images, for a model that takes transforms; None for clean images.

    Returns:
        float32 [rows, ...].
    """
    # Fill the last batch with copies of the last image, because TensorFlow traces a model again for
    # every batch size.
    filled = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % batch_size)])
    batches = Ordered(
        images, np.zeros(len(images)), filled, batch_size, perturbations, len(model.inputs) > 1
    )
    outputs = np.empty((len(rows), *model.output_shape[1:]), "float32")
    for step in range(len(batches)):
        inputs, _ = batches[step]
        place = outputs[step * batch_size : (step + 1) * batch_size]
        place[:] = model.predict_on_batch(inputs)[: len(place)]
    return outputs


def perturbations(
    settings: params.Perturbation, images: np.ndarray, index: pd.DataFrame, seed: int
) -> Perturbations:
    """Draw the perturbation of every cached X-ray; see :func:`cxr.augment.perturbations`."""
    return augment.perturbations(settings, images.shape[1:3], index["id"], seed)
