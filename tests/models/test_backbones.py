"""Backbones: the pixels that ImageNet's weights expect, and every layer in a block."""

import keras
import numpy as np
import pytest

from cxr.errors import InputError
from cxr.models import backbones
from tests.small import vgg16

NAMES = list(backbones.BACKBONES)


def laid(backbone: backbones.Backbone) -> keras.Model:
    """The backbone with its preprocessing, on grey pixels of the smallest size."""
    image = keras.Input((backbone.min_size, backbone.min_size, 1))
    return keras.Model(image, backbone.layers_on(backbone.preprocess(image)))


def test_preprocessing_is_keras_own_of_grey_shown_as_rgb():
    grey = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1)).astype("float32")
    expected = keras.applications.vgg16.preprocess_input(np.repeat(grey, 3, axis=-1))
    ours = keras.ops.convert_to_numpy(backbones.caffe(keras.ops.convert_to_tensor(grey)))
    np.testing.assert_allclose(ours, expected, atol=2e-5)  # float32 steps at 150


def test_preprocessing_stays_float32_under_mixed_bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        image = keras.Input((2, 2, 1), dtype="float32")
        grey = keras.layers.Rescaling(1.0, dtype="float32")(image)
        model = keras.Model(image, backbones.caffe(grey))
    finally:
        keras.config.set_dtype_policy(before)
    grey = np.full((1, 2, 2, 1), 201, "float32")
    expected = keras.applications.vgg16.preprocess_input(np.repeat(grey, 3, axis=-1))
    found = keras.ops.convert_to_numpy(model(grey))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_with_weights_is_in_one_of_the_blocks(name):
    backbone = backbones.BACKBONES[name]
    blocks = {backbone.block_of(layer.name) for layer in laid(backbone).layers if layer.weights}
    assert blocks == set(range(1, backbone.blocks + 1))


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_its_smallest_size_and_lies_flat(name):
    model = laid(backbones.BACKBONES[name])
    assert all(side >= 1 for side in model.output_shape[1:])
    assert not [layer for layer in model.layers if isinstance(layer, keras.Model)]


def test_vgg16_is_keras_own():
    image = keras.Input((32, 32, 3))
    ours = keras.Model(image, backbones.vgg16(image))
    own = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    own.set_weights(ours.get_weights())
    pixels = np.random.default_rng(0).normal(0, 60, (1, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(ours(pixels), own(pixels))
    assert own.count_params() == 14_714_688


def test_a_layer_outside_the_rule_is_named():
    backbone = backbones.BACKBONES["vgg16"]
    assert backbone.block_of("block3_conv2") == 3
    with pytest.raises(InputError, match=r"layer head_dense_1 is in no block"):
        backbone.block_of("head_dense_1")


def test_an_unknown_backbone_is_refused():
    with pytest.raises(InputError, match=r"no backbone 'vgg61': there are vgg16"):
        backbones.get(vgg16(backbone="vgg61"))


def test_too_small_images_are_refused():
    assert backbones.get(vgg16(image_size=32)) is backbones.BACKBONES["vgg16"]
    with pytest.raises(InputError, match=r"image_size is 31; backbone vgg16 takes 32 x 32"):
        backbones.get(vgg16(image_size=31))
