"""Batches of cached X-rays for Keras: shuffled for training, ordered for evaluation."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr import appearance, augment, params, seeding
from cxr.errors import InputError

# Maps float64 [n, 3, 3] and tones float64 [n, 2] of n images; see cxr.augment.perturbations.
Perturbations = tuple[np.ndarray, np.ndarray]


class Ordered(keras.utils.PyDataset):
    """Batches of the given rows, in their order; the last batch may be smaller.

    Args:
        images: uint8 [n, size, size], memory-mapped or not; or features [n, ...], float16 or
            float32.
        labels: [n], 0 or 1.
        rows: the indices of the images, in the order of the batches.
        batch_size: images per batch.
        perturbations: of all n images; None for clean ones.
        with_transforms: add transforms to the inputs, for a model that augments or perturbs
            (:func:`cxr.augment.with_transforms`). Perturbations and maps imply it.
        maps: an affine map for each of the rows, [rows, 3, 3]; None for the identity.
        appearances: of each of the rows, [rows, 6]; None for a model that changes none.

    Each batch is (inputs, labels): images uint8 [batch, size, size, 1], or a pair of images and
    transforms float32 [batch, 10], or [batch, 16] with appearances, or features float32; labels
    float32 [batch, 1].
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        rows: np.ndarray,
        batch_size: int,
        perturbations: Perturbations | None = None,
        with_transforms: bool = False,
        maps: np.ndarray | None = None,
        appearances: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.images, self.labels, self.rows = images, labels, rows
        self.batch_size, self.perturbations = batch_size, perturbations
        self.maps, self.looks = maps, appearances
        self.with_transforms = with_transforms or perturbations is not None or maps is not None

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, step: int) -> tuple[Any, np.ndarray]:
        rows = self.rows_of(step)
        images = self.images[rows]
        if images.dtype == np.float16:  # on disk alone; oneDNN has no float16, as TensorFlow says
            images = images.astype("float32")
        elif images.ndim == 3:
            images = images[..., np.newaxis]
        labels = self.labels[rows].astype("float32")[:, np.newaxis]
        if not self.with_transforms:
            return images, labels
        maps, tones = self.matrices(step, len(rows)), None
        if self.perturbations is not None:
            perturbing, tones = (of_all[rows] for of_all in self.perturbations)
            # Maps go from output to input pixels, so the perturbation, applied first, is left.
            maps = perturbing @ maps
        appearances = self.appearances(step, len(rows))
        return (images, augment.transforms(maps, tones, appearances)), labels

    def rows_of(self, step: int) -> np.ndarray:
        """Return the rows of one batch."""
        return self.rows[step * self.batch_size : (step + 1) * self.batch_size]

    def matrices(self, step: int, count: int) -> np.ndarray:
        """Return the affine maps of one batch, [count, 3, 3]."""
        if self.maps is None:
            return np.tile(np.eye(3), (count, 1, 1))
        return self.maps[step * self.batch_size : (step + 1) * self.batch_size]

    def appearances(self, step: int, count: int) -> np.ndarray | None:
        """Return the appearances of one batch, [count, 6]; None for a model that changes none."""
        if self.looks is None:
            return None
        return self.looks[step * self.batch_size : (step + 1) * self.batch_size]


class Shuffled(Ordered):
    """The training batches of one epoch; order and augmentation change with each epoch.

    An epoch has int(n / batch_size) or ``steps`` whole batches, as in the published systems; the
    images left over differ between epochs. Order and augmentation depend on (seed, phase, epoch,
    step) alone, so Keras may request batches in any order, and training may start at any epoch.
    :meth:`start_epoch` sets the epoch. It is 0 until the first call, when Keras reads batches to
    learn their shapes. To resume within an epoch, set ``skipped`` to the number of its steps that
    are done.

    Args:
        images, labels, rows, batch_size, perturbations: as for :class:`Ordered`. The features of
            view k of the images have the rows ``rows + k * len(rows)``.
        augmentation: ranges of the random maps and appearances; None for no augmentation.
        steps: batches per epoch; None for all whole ones.
        seed: ``seed`` of params.yaml.
        phase: name of the phase.
        views: how many views the features have of each image. Each time an image is trained on, one
            of them is drawn.
        maps: the views of all n images, from :func:`views`, in place of new random maps.
        appearances: of those views, from :func:`appearances`.
        original: the probability of the features' first view, the image itself; above 0 only if
            they have it. Of images it is that of ``augmentation``.

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
        views: int = 1,
        maps: np.ndarray | None = None,
        appearances: np.ndarray | None = None,
        original: float = 0.0,
    ) -> None:
        super().__init__(images, labels, rows, batch_size, perturbations, augmentation is not None)
        self.views, self.view_maps, self.view_looks = views, maps, appearances
        self.original = original if augmentation is None else augmentation.original
        self.appearance = None if augmentation is None else augmentation.appearance
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
        rows = self._images_of(step)
        if self.views == 1:
            return rows
        return rows + len(self.rows) * self._drawn(step, len(rows), self.views)

    def matrices(self, step: int, count: int) -> np.ndarray:
        if self.augmentation is None:
            return super().matrices(step, count)
        if self.view_maps is not None:
            drawn = self._drawn(step, count, len(self.view_maps))
            return self.view_maps[drawn, self._images_of(step)]
        shape = self.images.shape[1:3]
        purpose = (self.phase, self.epoch, step)
        drawn = augment.draw(self.augmentation, shape, count, self.seed, *purpose)
        maps = augment.matrices(drawn, shape)
        maps[self._original(step, count)] = np.eye(3)
        return maps

    def appearances(self, step: int, count: int) -> np.ndarray | None:
        if self.appearance is None:
            return None
        if self.view_looks is not None:
            drawn = self._drawn(step, count, len(self.view_looks))
            return self.view_looks[drawn, self._images_of(step)]
        purpose = (self.phase, self.epoch, step)
        looks = appearance.draw(self.appearance, count, self.seed, *purpose)
        looks[self._original(step, count)] = appearance.NEUTRAL
        return looks

    def _images_of(self, step: int) -> np.ndarray:
        return self.order[step * self.batch_size : (step + 1) * self.batch_size]

    def _drawn(self, step: int, count: int, views: int) -> np.ndarray:
        """Draw one of the views for each image of a batch; the first may be the image itself."""
        draws = seeding.generator(self.seed, "view", self.phase, self.epoch, step)
        if not self.original:
            return draws.integers(views, size=count)
        drawn = 1 + draws.integers(views - 1, size=count)
        return np.where(self._original(step, count), 0, drawn)

    def _original(self, step: int, count: int) -> np.ndarray:
        """Draw which images of a batch stay as they are, bool [count]."""
        if not self.original:
            return np.zeros(count, bool)
        draws = seeding.generator(self.seed, "original", self.phase, self.epoch, step)
        return draws.random(count) < self.original


def outputs(
    model: keras.Model,
    images: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    perturbations: Perturbations | None = None,
    maps: np.ndarray | None = None,
    appearances: np.ndarray | None = None,
) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Yield a model's outputs for some of the cached X-rays, batch by batch.

    ``model.predict`` would collect all batches and then concatenate them, which takes twice the
    memory.

    Args:
        model: takes images, or images and transforms (:func:`cxr.augment.with_transforms`).
        images: uint8 [n, size, size].
        rows: the indices of the images, in the order of the result.
        batch_size: images per batch.
        perturbations: of all n images, for a model that takes transforms; None for clean images.
        maps: an affine map for each of the rows, [rows, 3, 3]; None for the identity.
        appearances: of each of the rows, [rows, 6], for a model that changes them; or None.

    Yields:
        The places of a batch among the rows, and its part of each of the model's outputs.
    """
    # Fill the last batch with copies of the last image, because TensorFlow traces a model again for
    # every batch size.
    filling = -len(rows) % batch_size
    filled = np.concatenate([rows, np.repeat(rows[-1:], filling)])
    if maps is not None:
        maps = np.concatenate([maps, np.repeat(maps[-1:], filling, axis=0)])
    if appearances is not None:
        appearances = np.concatenate([appearances, np.repeat(appearances[-1:], filling, axis=0)])
    batches = Ordered(
        images, np.zeros(len(images)), filled, batch_size, perturbations, len(model.inputs) > 1,
        maps, appearances,
    )  # fmt: skip
    for step in range(len(batches)):
        inputs, _ = batches[step]
        places = slice(step * batch_size, min((step + 1) * batch_size, len(rows)))
        found = model.predict_on_batch(inputs)
        found = found if isinstance(found, list) else [found]
        yield places, [output[: places.stop - places.start] for output in found]


def predict(
    model: keras.Model,
    images: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    perturbations: Perturbations | None = None,
) -> np.ndarray:
    """Return a model's only output for some of the cached X-rays, float32 [rows, ...].

    The arguments are those of :func:`outputs`. The result is allocated once.
    """
    result = np.empty((len(rows), *model.output_shape[1:]), "float32")
    for places, (output,) in outputs(model, images, rows, batch_size, perturbations):
        result[places] = output
    return result


def perturbations(
    settings: params.Perturbation, images: np.ndarray, index: pd.DataFrame, seed: int
) -> Perturbations:
    """Draw the perturbation of every cached X-ray; see :func:`cxr.augment.perturbations`."""
    return augment.perturbations(settings, images.shape[1:3], index["id"], seed)


def views(
    settings: params.Augmentation, shape: tuple[int, int], ids: Iterable[str], seed: int
) -> np.ndarray:
    """Draw the views of X-rays: the maps that augment them, the same in every epoch.

    Args:
        settings: the ranges, and how many views an image has.
        shape: height and width of the images in pixels.
        ids: of n images. The views of an id do not depend on the other ids.
        seed: ``seed`` of params.yaml.

    Returns:
        float64 [views, n, 3, 3]; see :func:`cxr.augment.matrices`. With ``original``, the image
        itself is one more view, the first.
    """
    ids = list(ids)
    drawn = [augment.draw(settings, shape, 1, seed, *view) for view in _views_of(settings, ids)]
    maps = augment.matrices(np.concatenate(drawn), shape)
    return _after_original(settings, maps.reshape(settings.views, len(ids), 3, 3), np.eye(3))


def appearances(settings: params.Augmentation, ids: Iterable[str], seed: int) -> np.ndarray | None:
    """Draw the appearances of the same views, float64 [views, n, 6]; None if there are none.

    The arguments are those of :func:`views`; the columns are :data:`cxr.appearance.DRAWS`.
    """
    if settings.appearance is None:
        return None
    ids, ranges = list(ids), settings.appearance
    drawn = [appearance.draw(ranges, 1, seed, *view) for view in _views_of(settings, ids)]
    looks = np.reshape(drawn, (settings.views, len(ids), -1))
    return _after_original(settings, looks, np.array(appearance.NEUTRAL))


def _views_of(settings: params.Augmentation, ids: list[str]) -> Iterator[tuple[str, str, int]]:
    """Yield the purpose of the draws of each view of each image."""
    return (("views", str(name), view) for view in range(settings.views) for name in ids)


def _after_original(
    settings: params.Augmentation, drawn: np.ndarray, unchanged: np.ndarray
) -> np.ndarray:
    """Put the image itself before views [views, n, ...] if it is one of them."""
    if not settings.original:
        return drawn
    return np.concatenate([np.broadcast_to(unchanged, (1, *drawn.shape[1:])), drawn])
