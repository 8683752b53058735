"""The backbones: how to build each, what it wants its pixels to be, and where its blocks begin.

To add one, write a function that lays the network on a tensor, and name it in :data:`BACKBONES`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from cxr import params
from cxr.errors import InputError


@dataclass(frozen=True)
class Backbone:
    """What the mechanism needs to know of a backbone.

    Attributes:
        preprocess: raw grey pixels [batch, size, size, 1], 0 to 255, -> what ``layers_on`` takes.
        layers_on: lays the network without its top, with random weights, on a tensor; the layers
            join the caller's graph, so that the whole model stays flat (Grad-CAM and freezing by
            name need that) -> features [batch, h, w, channels].
        imagenet: the same network with Keras's own ImageNet weights, whose hash Keras pins; None
            where there are none.
        block: a pattern whose first group is the number of a layer's block, from 1.
        blocks: how many blocks there are.
        min_size: the smallest image side in pixels that the network can take.
    """

    preprocess: Callable[[Any], Any]
    layers_on: Callable[[Any], Any]
    imagenet: Callable[[], keras.Model] | None
    block: re.Pattern[str]
    blocks: int
    min_size: int

    def block_of(self, layer_name: str) -> int:
        """Return the number of the block that a layer belongs to.

        Raises:
            InputError: where the rule does not cover the layer.
        """
        found = self.block.match(layer_name)
        if found is None:
            message = f"layer {layer_name} is in no block: the rule is {self.block.pattern}"
            raise InputError(message)
        return int(found.group(1))


def caffe(grey: Any) -> Any:
    """Do what ``keras.applications.vgg16.preprocess_input`` does to a grey image shown as RGB.

    All three channels are equal, so its RGB -> BGR changes nothing and only the subtraction of
    ImageNet's mean blue, green and red is left. In float32 whatever the policy: in bfloat16 the
    difference would be off by up to half a grey value.
    """
    rgb = layers.Concatenate(name="grey_to_rgb")([grey] * 3)
    mean = [103.939, 116.779, 123.68]
    return layers.Rescaling(1.0, [-m for m in mean], dtype="float32", name="preprocess")(rgb)


def vgg16(tensor: Any) -> Any:
    """Lay VGG16 (Simonyan and Zisserman 2015) without its top on ``tensor`` [batch, s, s, 3]."""
    return keras.applications.VGG16(
        include_top=False, weights=None, input_tensor=tensor, name="vgg16"
    ).output


def unit(grey: Any) -> Any:
    """Scale pixels to 0 to 1 and show them as RGB."""
    scaled = layers.Rescaling(1 / 255, dtype="float32", name="preprocess")(grey)
    return layers.Concatenate(name="grey_to_rgb")([scaled] * 3)


def cnn(tensor: Any) -> Any:
    """Lay four blocks of convolution, ReLU, 2 x 2 maximum and batch norm on [batch, s, s, 3].

    The network of the repository on the principle of transfer: 64, 128, 256 and 256 filters of
    3 x 3, valid. It learns from scratch in a tenth of VGG16's time.
    """
    for block, filters in enumerate((64, 128, 256, 256), start=1):
        name = f"block{block}_"
        tensor = layers.Conv2D(filters, 3, activation="relu", name=f"{name}conv")(tensor)
        tensor = layers.MaxPooling2D(name=f"{name}pool")(tensor)
        tensor = layers.BatchNormalization(name=f"{name}norm")(tensor)
    return tensor


BACKBONES = {
    "vgg16": Backbone(
        preprocess=caffe,
        layers_on=vgg16,
        imagenet=lambda: keras.applications.VGG16(include_top=False, weights="imagenet"),
        block=re.compile(r"block(\d+)_"),
        blocks=5,
        min_size=32,
    ),
    "cnn": Backbone(
        preprocess=unit,
        layers_on=cnn,
        imagenet=None,
        block=re.compile(r"block(\d+)_"),
        blocks=4,
        min_size=46,  # 46, 44, 22, 20, 10, 8, 4, 2, 1: each block cuts two pixels, then halves
    ),
}


def get(system: params.System) -> Backbone:
    """Return a system's backbone.

    Raises:
        InputError: where there is no backbone of that name, or the system's images are too small
            for it.
    """
    if system.backbone not in BACKBONES:
        message = f"no backbone {system.backbone!r}: there are {', '.join(BACKBONES)}"
        raise InputError(message)
    backbone = BACKBONES[system.backbone]
    if system.image_size < backbone.min_size:
        message = (
            f"image_size is {system.image_size}; backbone {system.backbone} takes "
            f"{backbone.min_size} x {backbone.min_size} pixels or more"
        )
        raise InputError(message)
    return backbone
