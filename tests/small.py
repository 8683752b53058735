"""Small systems, images and helpers that the tests of models, training and evaluation share."""

import functools
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from cxr import augment, params
from cxr.models import backbones

SIZE = 16


def tiny_layers(tensor: Any) -> Any:
    """Apply two blocks of one convolution each, with layers without weights between them."""
    x = layers.Conv2D(4, 3, padding="same", name="block1_conv1")(tensor)
    x = layers.ReLU()(x)  # Keras chooses its name
    x = layers.MaxPooling2D(4, name="block1_pool")(x)
    return layers.Conv2D(6, 3, activation="relu", padding="same", name="block2_conv1")(x)


def tiny_model() -> keras.Model:
    """The tiny backbone alone with random weights, in the place of Keras's ImageNet model."""
    image = keras.Input((SIZE, SIZE, 3))
    return keras.Model(image, tiny_layers(image), name="tiny")


TINY = backbones.Backbone(
    preprocess=backbones.caffe,
    apply=tiny_layers,
    imagenet=tiny_model,
    blocks=("block1_.*|re_lu.*", "block2_.*"),
    min_size=8,
)

AUGMENTATION = params.Augmentation(
    rotation=40,
    width_shift=0.3,
    height_shift=0.4,
    shear=0.2,
    zoom=0.4,
    horizontal_flip=True,
    magnification=None,
    appearance=None,
    original=0,
    views=0,
)

APPEARANCE = params.Appearance(
    blur=(0.5, 1.2),
    jpeg=(30, 89),
    unsharp=params.Unsharp(sigma=1.0, amount=(0.3, 1.0)),
    gamma=0.4,
    contrast=(0.7, 1.25),
    brightness=0.08,
)


PERTURBATION = params.Perturbation(
    rotation=30,
    shear=0.2,
    zoom=0.2,
    horizontal_flip=True,
    channel_shift=0.9,
    brightness=(0.5, 1.5),
)


def phase(
    trainable: Any = "all",
    rate: float = 1e-3,
    epochs: int = 1,
    patience: int | None = None,
    **changes: Any,
) -> params.Phase:
    """A phase with defaults; with patience it stops early and restores the best epoch."""
    stopping = None
    if patience is not None:
        stopping = params.EarlyStopping(monitor="val_loss", patience=patience, min_delta=0.0)
    settings: dict[str, Any] = {
        "data": "clean",
        "trainable": trainable,
        "learning_rate": rate,
        "plateau": None,
        "cosine": None,
        "average": None,
        "epochs": epochs,
        "steps_per_epoch": None,
        "early_stopping": stopping,
        "restore": None if patience is None else "val_loss",
    }
    return params.Phase(**settings | changes)


def regression(*strengths: float, data: str = "clean") -> params.LogisticRegression:
    """A phase of logistic regression with these strengths of the penalty."""
    penalty = params.Penalty(strengths=strengths or (1.0,))
    return params.LogisticRegression(data=data, trainable="head", logistic_regression=penalty)


def head(*dense: params.Dense, **changes: Any) -> params.Head:
    """A head with average pooling and one sigmoid."""
    settings: dict[str, Any] = {
        "pool": "average", "layers": None, "dropout": 0.0, "output": "sigmoid"
    }  # fmt: skip
    return params.Head(**settings | {"dense": dense} | changes)


def system(**changes: Any) -> params.System:
    """A system with the tiny backbone, which the test must add to ``backbones.BACKBONES``."""
    settings: dict[str, Any] = {
        "backbone": "tiny",
        "weights": None,
        "image_size": SIZE,
        "batch_size": 4,
        "augmentation": AUGMENTATION,
        "class_weights": "balanced",
        "head": head(params.Dense(units=5, batch_norm=False, dropout=0.4)),
        "phases": {"train": phase()},
    }
    return params.System(**settings | changes)


def vgg16(**changes: Any) -> params.System:
    """VGG16 at the smallest size it accepts, with a small head."""
    return system(**{"backbone": "vgg16", "image_size": 32, "batch_size": 2} | changes)


def xrays(counts: dict[str, tuple[int, int]], size: int = SIZE) -> tuple[np.ndarray, pd.DataFrame]:
    """Make images of noise, with a bright spot where the label is 1.

    Args:
        counts: the number of images with label 0 and with label 1 in each split.
        size: side in pixels.

    Returns:
        uint8 [n, size, size], splits and labels mixed, and their index: four images per patient.
    """
    draws = np.random.default_rng(0)
    rows = [
        (split, label)
        for split, per_label in counts.items()
        for label, count in enumerate(per_label)
        for _ in range(count)
    ]
    rows = [rows[place] for place in draws.permutation(len(rows))]
    images = draws.integers(0, 160, (len(rows), size, size))
    for image, (_, label) in zip(images, rows, strict=True):
        image[size // 4 : size // 2, size // 4 : size // 2] += 90 * label
    index = pd.DataFrame(rows, columns=["split", "label"])
    index.insert(0, "id", [f"x{row:04d}" for row in range(len(rows))])
    place = index.groupby(["split", "label"]).cumcount()
    index["patient"] = index["split"] + index["label"].astype(str) + (place // 4).astype(str)
    return images.astype("uint8"), index[["id", "label", "split", "patient"]]


# The head of the first article.
ARTICLE = head(
    params.Dense(units=512, batch_norm=False, dropout=0.4),
    params.Dense(units=64, batch_norm=False, dropout=0.4),
    pool="flatten",
)

OUTPUTS = ["sigmoid", "sigmoid_pair", "log_softmax"]


def with_output(output: str, **changes) -> params.System:
    """The tiny system with another output."""
    return system(head=head(output=output), **changes)


def resnet18(**changes) -> params.System:
    """ResNet18 at 32 x 32, with a small head."""
    return system(**{"backbone": "resnet18", "image_size": 32} | changes)


def cnn(**changes) -> params.System:
    """The small CNN: twelve layers, four of them batch norms, and a head with another."""
    norm = head(params.Dense(units=5, batch_norm=True, dropout=0.4))
    return system(**{"backbone": "cnn", "image_size": 46, "head": norm} | changes)


SYSTEMS = [
    pytest.param(system, id="tiny"),
    pytest.param(vgg16, id="vgg16"),
    pytest.param(resnet18, id="resnet18"),
    pytest.param(functools.partial(with_output, "sigmoid_pair"), id="sigmoid pair"),
    pytest.param(functools.partial(with_output, "log_softmax"), id="log-softmax"),
]


def pixels(count: int, size: int) -> np.ndarray:
    """Return images of noise, uint8 [count, size, size, 1]."""
    return np.random.default_rng(5).integers(0, 256, (count, size, size, 1)).astype("uint8")


def weights_of(model: keras.Model) -> dict[str, list[np.ndarray]]:
    """Return the weights of each layer that has some, by its name."""
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def assert_same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    """Compare the arrays of two lists to the bit."""
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def ids(variables) -> list[int]:
    """Return the identity of each variable, to tell shared weights from equal ones."""
    return [id(variable) for variable in variables]


def no_transforms(count: int) -> np.ndarray:
    """Transforms that change nothing."""
    return augment.transforms(np.tile(np.eye(3), (count, 1, 1)))
