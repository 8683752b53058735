import os
from collections.abc import Callable
from pathlib import Path

import keras
import pytest

from cxr.models import backbones
from tests.small import TINY


@pytest.fixture
def tiny(monkeypatch):
    """Register the tiny backbone."""
    monkeypatch.setitem(backbones.BACKBONES, "tiny", TINY)
    return TINY


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """MobileNetV2's ImageNet weights without its top, as a file."""
    given = os.environ.get("CXR_TEST_WEIGHTS")
    if not given:
        pytest.skip("CXR_TEST_WEIGHTS is not set: give it the path of MobileNetV2's .weights.h5")
    return Path(given)


@pytest.fixture(scope="session")
def keras_own() -> Callable[[str], keras.Model]:
    """Make a backbone as Keras or KerasHub has it, of random weights: ``keras_own("resnet18")``."""

    def make(name: str) -> keras.Model:
        if name == "resnet18":
            from keras_hub.models import ResNetBackbone

            return ResNetBackbone(
                input_conv_filters=[64],
                input_conv_kernel_sizes=[7],
                stackwise_num_filters=[64, 128, 256, 512],
                stackwise_num_blocks=[2, 2, 2, 2],
                stackwise_num_strides=[1, 2, 2, 2],
                block_type="basic_block",
                image_shape=(32, 32, 3),
            )
        networks = {
            "vgg16": keras.applications.VGG16,
            "mobilenet_v2": keras.applications.MobileNetV2,
        }
        return networks[name](include_top=False, weights=None, input_shape=(32, 32, 3))

    return make
