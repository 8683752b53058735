"""The backbones: their networks, preprocessing, ImageNet weights and blocks.

To add one, write a function that applies the network to a tensor, and add it to :data:`BACKBONES`.
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
    """A backbone: what building, freezing and loading weights need to know about it.

    Attributes:
        preprocess: converts grey pixels [batch, size, size, 1], 0 to 255, to the input of
            ``apply``.
        apply: applies the network without its top, randomly initialised, to a tensor, and returns
            features [batch, h, w, channels]. The layers join the caller's graph, so that the whole
            model stays flat; Grad-CAM and freezing by name need that.
        imagenet: builds the same network with ImageNet weights from Keras's or KerasHub's own
            loader, which pins their hash or version; None if there are none.
        blocks: a pattern for the layer names of each block, counted from the input.
        min_size: the smallest image side in pixels that the network accepts.
    """

    preprocess: Callable[[Any], Any]
    apply: Callable[[Any], Any]
    imagenet: Callable[[], keras.Model] | None
    blocks: tuple[str, ...]
    min_size: int

    def block_of(self, layer_name: str) -> int:
        """Return the number of the block that a layer belongs to, counted from 1.

        Raises:
            ValueError: no pattern matches the layer.
        """
        for number, pattern in enumerate(self.blocks, start=1):
            if re.fullmatch(pattern, layer_name):
                return number
        message = f"layer {layer_name} is in no block: the patterns are {self.blocks}"
        raise ValueError(message)


def caffe(grey: Any) -> Any:
    """Convert grey to RGB and apply ``keras.applications.vgg16.preprocess_input``.

    It subtracts ImageNet's mean blue, green and red. The conversion from RGB to BGR is left out,
    because the three channels are equal. Always in float32: in bfloat16 the difference would be off
    by up to half a grey value.
    """
    rgb = layers.Concatenate(name="grey_to_rgb")([grey] * 3)
    mean = [103.939, 116.779, 123.68]
    return layers.Rescaling(1.0, [-m for m in mean], dtype="float32", name="preprocess")(rgb)


def vgg16(tensor: Any) -> Any:
    """Apply VGG16 (Simonyan and Zisserman 2015) without its top to [batch, s, s, 3]."""
    return keras.applications.VGG16(
        include_top=False, weights=None, input_tensor=tensor, name="vgg16"
    ).output


def unit(grey: Any) -> Any:
    """Scale pixels to 0 to 1 and convert grey to RGB."""
    scaled = layers.Rescaling(1 / 255, dtype="float32", name="preprocess")(grey)
    return layers.Concatenate(name="grey_to_rgb")([scaled] * 3)


def signed(grey: Any) -> Any:
    """Scale pixels to -1 to 1, as MobileNetV2 expects, and convert grey to RGB."""
    scaled = layers.Rescaling(1 / 127.5, -1.0, dtype="float32", name="preprocess")(grey)
    return layers.Concatenate(name="grey_to_rgb")([scaled] * 3)


def mobilenet_v2(tensor: Any) -> Any:
    """Apply MobileNetV2 (Sandler and others 2018) without its top to [batch, s, s, 3]."""
    network = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_tensor=tensor, name="mobilenet_v2"
    )
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            # Keras's 0.999 suits ImageNet's many steps. After 360 steps from random weights it
            # would still leave 70 % of the initial moving statistics. Validation was at chance
            # level after 180 steps with 0.99, and above it after 60 with PyTorch's 0.9
            # (2026-11-21).
            layer.momentum = 0.9
    return network.output


def standardised(grey: Any) -> Any:
    """Convert grey to RGB, scale to 0 to 1, and standardise by ImageNet's mean and deviation."""
    rgb = layers.Concatenate(name="grey_to_rgb")([grey] * 3)
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, of RGB 0 to 1
    scale = [1 / (255 * d) for d in deviation]
    offset = [-m / d for m, d in zip(mean, deviation, strict=True)]
    return layers.Rescaling(scale, offset, dtype="float32", name="preprocess")(rgb)


def resnet18(tensor: Any) -> Any:
    """Apply ResNet18 (He and others 2015) without its top to [batch, s, s, 3]."""
    from keras_hub.models import ResNetBackbone  # takes seconds to import

    network = ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    )
    return network.call(tensor)  # network(tensor) would add one nested layer


def resnet18_imagenet() -> keras.Model:
    """Return ResNet18 with the ImageNet weights that KerasHub downloads from Kaggle."""
    from keras_hub.models import ResNetBackbone

    return ResNetBackbone.from_preset("resnet_18_imagenet")


def cnn(tensor: Any) -> Any:
    """Apply four blocks of convolution, ReLU, 2 x 2 max pooling and batch norm to [batch, s, s, 3].

    64, 128, 256 and 256 filters of 3 x 3, without padding: the network of the published repository
    that demonstrates transfer. It trains in a tenth of VGG16's time.
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
        apply=vgg16,
        imagenet=lambda: keras.applications.VGG16(include_top=False, weights="imagenet"),
        blocks=("block1_.*", "block2_.*", "block3_.*", "block4_.*", "block5_.*"),
        min_size=32,
    ),
    "mobilenet_v2": Backbone(
        preprocess=signed,
        apply=mobilenet_v2,
        imagenet=lambda: keras.applications.MobileNetV2(
            include_top=False, weights="imagenet", input_shape=(224, 224, 3)
        ),
        blocks=(  # feature maps with 1/2, 1/4, 1/8, 1/16, 1/32 of the image's side
            "Conv1|bn_Conv1|Conv1_relu|expanded_conv_.*",
            "block_[12]_.*",
            "block_[345]_.*",
            "block_([6-9]|1[012])_.*",
            "block_1[3456]_.*|Conv_1|Conv_1_bn|out_relu",
        ),
        min_size=32,
    ),
    "resnet18": Backbone(
        preprocess=standardised,
        apply=resnet18,
        imagenet=resnet18_imagenet,
        blocks=("(conv1|pool1)_.*", "stack0_.*", "stack1_.*", "stack2_.*", "stack3_.*"),
        min_size=32,
    ),
    "cnn": Backbone(
        preprocess=unit,
        apply=cnn,
        imagenet=None,
        blocks=("block1_.*", "block2_.*", "block3_.*", "block4_.*"),
        min_size=46,  # 46, 44, 22, 20, 10, 8, 4, 2, 1: a block removes two pixels, then halves
    ),
}


def get(system: params.System) -> Backbone:
    """Return a system's backbone.

    Raises:
        InputError: the backbone is unknown, or the system's images are too small for it.
    """
    if system.backbone not in BACKBONES:
        message = f"no backbone {system.backbone!r}: give one of {', '.join(BACKBONES)}"
        raise InputError(message)
    backbone = BACKBONES[system.backbone]
    if system.image_size < backbone.min_size:
        message = (
            f"image_size is {system.image_size}; backbone {system.backbone} needs at least "
            f"{backbone.min_size} x {backbone.min_size} pixels"
        )
        raise InputError(message)
    return backbone
