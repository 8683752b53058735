"""Batches of cached X-rays for Keras: shuffled and augmented to train on, in order to evaluate."""

from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr import augment, params, seeding
from cxr.errors import InputError

BATCH = 64  # films a batch where nothing is learnt: a matter of speed and memory alone
Perturbations = tuple[np.ndarray, np.ndarray]


class Ordered(keras.utils.PyDataset):
    """Every X-ray once, in the order of the rows; the last batch may be smaller.

    Args:
        images: uint8 [n, size, size], memory-mapped or not; or what a network's frozen part makes
            of them, float32 [n, ...], given as it is.
        labels: [n], 0 or 1.
        rows: which of the n to give, in which order.
        batch_size: images a batch.
        damage: maps [n, 3, 3] and tones [n, 2], see :func:`cxr.augment.perturbations`; None for
            films as they are.
        with_transforms: give, beside the images, what is to be done to them, for a model that
            augments or perturbs. Damage asks for it.

    Each batch is (inputs, labels): inputs uint8 [batch, size, size, 1], or that and transforms
    float32 [batch, 10]; labels float32 [batch, 1].
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray,
        batch_size: int,
        damage: Perturbations | None = None,
        with_transforms: bool = False,
    ) -> None:
        super().__init__()
        self.images, self.labels, self.rows = images, labels, rows
        self.batch_size, self.damage = batch_size, damage
        self.with_transforms = with_transforms or damage is not None

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
        if self.damage is not None:
            damaging, tones = (of_all[rows] for of_all in self.damage)
            # From a pixel of the output to one of the damaged film, then to one of the film.
            maps = damaging @ maps
        return (images, augment.transforms(maps, tones)), labels

    def rows_of(self, step: int) -> np.ndarray:
        """Return the rows of one batch."""
        return self.rows[step * self.batch_size : (step + 1) * self.batch_size]

    def matrices(self, step: int, count: int) -> np.ndarray:
        """Return [count, 3, 3], one augmenting map an image: the identity."""
        return np.tile(np.eye(3), (count, 1, 1))


class Shuffled(Ordered):
    """One epoch's batches to train on: a new order and new augmentation each epoch.

    Only whole batches, int(n / batch) or ``steps`` of them an epoch, as the published systems count
    their steps; which images are left over changes with the epoch. Order and draws come from (seed,
    phase, epoch, step): Keras may ask for the batches in any order, and a run may begin at any
    epoch.

    Args:
        images, labels, rows, batch_size, damage: as for :class:`Ordered`.
        augmentation: ranges of the random maps; None for none.
        steps: batches an epoch; None for all whole ones.
        seed: ``seed`` of params.yaml.
        phase: name of the phase.
        epoch: how many epochs of the phase are done. Keras calls ``on_epoch_end`` once before the
            first epoch and after each, so that the draws of the first are those of epoch 1.

    Raises:
        InputError: where there are fewer images than the steps take.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray,
        batch_size: int,
        damage: Perturbations | None,
        augmentation: params.Augmentation | None,
        steps: int | None,
        seed: int,
        phase: str,
        epoch: int,
    ) -> None:
        super().__init__(images, labels, rows, batch_size, damage, augmentation is not None)
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
        self.steps = steps or whole
        self.augmentation, self.seed, self.phase, self.epoch = augmentation, seed, phase, epoch

    def __len__(self) -> int:
        return self.steps

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def rows_of(self, step: int) -> np.ndarray:
        draws = seeding.generator(self.seed, "order", self.phase, self.epoch)
        order = draws.permutation(len(self.rows))
        return self.rows[order[step * self.batch_size : (step + 1) * self.batch_size]]

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
    """Return what a model gives for some of the cached X-rays.

    Args:
        model: takes films, or films and transforms (:func:`cxr.augment.with_transforms`).
        images: uint8 [n, size, size].
        rows: which of the n, in which order.
        batch_size: images a batch.
        perturbations: as ``damage`` for :class:`Ordered`; for a model that takes transforms.

    Returns:
        float32 [rows, ...].
    """
    # The last film fills the last batch up: TensorFlow traces a model for each size of a batch.
    filled = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % batch_size)])
    transforms = len(model.inputs) > 1
    labels = np.zeros(len(images))
    films = Ordered(images, labels, filled, batch_size, perturbations, transforms)
    return np.asarray(model.predict(films, verbose=0), "float32")[: len(rows)]


def perturbations(
    settings: params.Perturbation, images: np.ndarray, index: pd.DataFrame, seed: int
) -> Perturbations:
    """Draw the damage of every cached X-ray: maps float64 [n, 3, 3], tones float64 [n, 2]."""
    return augment.perturbations(settings, images.shape[1:3], index["id"], seed)
