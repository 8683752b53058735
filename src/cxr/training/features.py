"""The data of a phase, and the frozen features that replace its images where they never change.

Layers that are frozen before the first trained one give an image the same output in every step, so
their output is computed once: for validation images always, for training images without
augmentation or with views. The features stage (:mod:`cxr.training.extraction`) does it for
phases whose frozen layers have their initial weights, and DVC keeps the result. For other phases
training does it when the phase begins.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from cxr import appearance, augment, params
from cxr.errors import InputError
from cxr.models import freezing, head, network
from cxr.training import batches
from cxr.training.feature_files import Features

log = logging.getLogger(__name__)
LIMIT = 4 * 2**30  # bytes of memory that frozen features may take


@dataclass(frozen=True)
class Data:
    """The images or features that a phase is trained and validated on.

    Attributes:
        inputs: uint8 images [n, size, size], or features [n, ...], float16 or float32.
        labels: [n], 0 or 1.
        train: the rows to train on.
        val: the rows to validate on.
        perturbations: of the n images; None for clean images and for features.
        maps: the views of the n images, from :func:`cxr.training.batches.views`; None without.
        appearances: of those views, from :func:`cxr.training.batches.appearances`; or None.
        views: how many versions of each training image the inputs have: the rows of version k are
            ``train + k * len(train)``. 0: features of validation images alone, and no ``train``.
    """

    inputs: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    val: np.ndarray
    perturbations: batches.Perturbations | None
    maps: np.ndarray | None = None
    views: int = 1
    appearances: np.ndarray | None = None


def of_images(
    system: params.System,
    pixels: np.ndarray,
    index: pd.DataFrame,
    perturbations: batches.Perturbations | None,
    seed: int,
) -> Data:
    """Return the training and validation images of a system as a phase's data.

    Args:
        system: its augmentation may have views.
        pixels: uint8 [n, size, size].
        index: ``id``, ``label`` and ``split`` of each image.
        perturbations: of the n images; None for clean ones.
        seed: ``seed`` of params.yaml.
    """
    train, val = (np.flatnonzero(index["split"] == split) for split in ("train", "val"))
    maps = looks = None
    if system.augmentation is not None and system.augmentation.views:
        maps = batches.views(system.augmentation, pixels.shape[1:3], index["id"], seed)
        looks = batches.appearances(system.augmentation, index["id"], seed)
    labels = index["label"].to_numpy()
    return Data(pixels, labels, train, val, perturbations, maps, appearances=looks)


@dataclass(frozen=True)
class Pass:
    """The images that pass frozen layers once: each view of the training images, then validation.

    Attributes:
        views: of each training image; 0 if new random maps augment it in each step.
        rows: of the images [views * train + val].
        maps: their affine maps; None for the identity.
        appearances: [views * train + val, 6]; None if none changes.
        appearance: the ranges that they were drawn from.
    """

    views: int
    rows: np.ndarray
    maps: np.ndarray | None
    appearances: np.ndarray | None = None
    appearance: params.Appearance | None = None


def once(data: Data, augmentation: params.Augmentation | None, limit: float) -> Pass:
    """Return the images of a phase that pass its frozen layers once.

    Args:
        data: images of the phase.
        augmentation: of the training images.
        limit: for how many images the features have room. Where training and validation images are
            more, only validation images pass.
    """
    views = 1 if augmentation is None else 0 if data.maps is None else len(data.maps)
    if views == 0 or views * len(data.train) + len(data.val) > limit:
        return Pass(0, data.val, None)
    if augmentation is None or data.maps is None:
        return Pass(1, np.concatenate([data.train, data.val]), None)
    rows = np.concatenate([np.tile(data.train, views), data.val])
    unchanged = np.tile(np.eye(3), (len(data.val), 1, 1))
    maps = np.concatenate([*(view[data.train] for view in data.maps), unchanged])
    if data.appearances is None:
        return Pass(views, rows, maps)
    neutral = np.tile(appearance.NEUTRAL, (len(data.val), 1))
    looks = np.concatenate([*(view[data.train] for view in data.appearances), neutral])
    return Pass(views, rows, maps, looks, augmentation.appearance)


def cut(model: keras.Model, system: params.System) -> dict[str, str]:
    """Return where the frozen layers of each phase end, if they still have their initial weights.

    Args:
        model: from :func:`cxr.models.network.build`; its ``trainable`` changes.
        system: from :func:`cxr.models.freezing.resolve`.

    Returns:
        By phase, the name of the last frozen layer. Phases without frozen layers are left out, and
        those whose frozen layers an earlier phase trained, or include random layers of the head.
    """
    trained: set[str] = set()
    found = {}
    for name, phase in system.phases.items():
        freezing.set_trainable(model, system, phase)
        parts = freezing.feature_extractor(network.with_head_output(model))
        if parts is not None:
            frozen = {layer.name for layer in parts[0].layers if layer.weights}
            random = any(layer.startswith(head.PREFIX) for layer in frozen)
            if not random and not frozen & trained:
                found[name] = last_layer(parts[0])
        trained |= {layer.name for layer in model.layers if layer.trainable and layer.weights}
    return found


def fitting(
    held: Mapping[str, Features], model: keras.Model, system: params.System
) -> dict[str, Features]:
    """Return the stored features of the phases whose frozen layers end at the stored layer.

    The features stage does not depend on the head's hidden layers, so that other ones do not run
    the backbone again. But ``trainable: last`` counts them: with fewer of them it trains layers of
    the backbone that were frozen before, perhaps in an earlier phase.

    Args:
        held: by phase, what the features stage computed.
        model: from :func:`cxr.models.network.build`; its ``trainable`` changes.
        system: from :func:`cxr.models.freezing.resolve`.
    """
    layers = cut(model, system)
    found = {name: stored for name, stored in held.items() if stored.layer == layers.get(name)}
    for name in sorted(held.keys() - found.keys()):
        log.info(
            "phase %s: the stored features of layer %s do not fit its frozen layers and are not "
            "used", name, held[name].layer,
        )  # fmt: skip
    return found


def last_layer(extractor: keras.Model) -> str:
    """Return the name of the layer whose output a feature extractor returns."""
    return str(extractor.layers[-1].name)


def compute(
    extractor: keras.Model,
    data: Data,
    passing: Pass,
    batch_size: int,
    targets: Sequence[Any],
) -> None:
    """Compute frozen features, batch by batch, with a progress bar.

    Args:
        extractor: from X-rays to the output of one or more layers.
        data: images of the phase.
        passing: from :func:`once`.
        batch_size: images per batch.
        targets: for each output, an array or a writer whose items are set.
    """
    if data.perturbations is not None or passing.maps is not None:
        extractor = augment.with_transforms(extractor, passing.appearance)
    found = batches.outputs(
        extractor, data.inputs, passing.rows, batch_size, data.perturbations, passing.maps,
        passing.appearances,
    )  # fmt: skip
    steps = -(-len(passing.rows) // batch_size)
    for places, outputs in tqdm(found, "frozen features", total=steps, mininterval=0.5):
        for target, output in zip(targets, outputs, strict=True):
            target[places] = output


@dataclass(frozen=True)
class Frozen:
    """A phase that starts from frozen features.

    Attributes:
        rest: the part of the network that the phase trains: from features to the head's output.
        data: the features.
        record: for train.json: the last frozen layer, views, and the precision of the features.
    """

    rest: keras.Model
    data: Data
    record: dict[str, Any]


def of_phase(
    model: keras.Model,
    data: Data,
    augmentation: params.Augmentation | None,
    held: Features | None,
    batch_size: int,
) -> Frozen | None:
    """Return the part of a network that a phase trains, and its data: the frozen part's output.

    Args:
        model: from :func:`cxr.models.network.with_head_output`, with its layers frozen.
        data: images of the phase.
        augmentation: of the training images.
        held: what the features stage computed for the phase, from :func:`fitting`; None if it has
            nothing.
        batch_size: images per batch.

    Returns:
        None if no layer with weights is frozen before the first trained one.

    Raises:
        InputError: the stored features are not of these images and views.
    """
    parts = freezing.feature_extractor(model)
    if parts is None:
        return None
    extractor, rest = parts
    layer = last_layer(extractor)
    if held is None:
        held = _in_memory(extractor, layer, data, augmentation, batch_size)
    passing = once(data, augmentation, math.inf if held.views else 0)
    if len(held.array) != len(passing.rows):
        message = (
            f"{len(held.array)} features of layer {layer} are stored, but {len(passing.rows)} "
            "images pass it: run the features stage again"
        )
        raise InputError(message)
    train = np.arange(len(data.train) if held.views else 0)
    val = np.arange(len(passing.rows) - len(data.val), len(passing.rows))
    labels = data.labels[passing.rows]
    computed = Data(held.array, labels, train, val, None, views=held.views)
    return Frozen(rest, computed, {"layer": layer, "views": held.views, "policy": held.policy})


def _in_memory(
    extractor: keras.Model,
    layer: str,
    data: Data,
    augmentation: params.Augmentation | None,
    batch_size: int,
) -> Features:
    """Compute features in float32; of validation alone if all would take more than LIMIT."""
    shape = extractor.output_shape[1:]
    # The peak: all features, and one batch before it is copied. Both are at most float32.
    passing = once(data, augmentation, LIMIT / (4 * math.prod(shape)) - batch_size)
    log.info("computing the frozen features of %d images once: %s each", len(passing.rows), shape)
    array = np.empty((len(passing.rows), *shape), "float32")
    compute(extractor, data, passing, batch_size, [array])
    return Features(layer, passing.views, extractor.layers[-1].dtype_policy.name, array)
