"""Backbones: the pixels that ImageNet's weights expect, and every layer in a block."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from cxr.errors import InputError
from cxr.models import backbones, network, store
from tests.small import system, vgg16

ROOT = Path(__file__).resolve().parents[2]
NAMES = list(backbones.BACKBONES)

# ImageNet's mean and deviation of RGB between 0 and 1, as torchvision gives them.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# The published preprocessing of RGB values from 0 to 255.
PREPROCESSING = {
    "vgg16": keras.applications.vgg16.preprocess_input,
    "mobilenet_v2": keras.applications.mobilenet_v2.preprocess_input,
    "resnet18": lambda rgb: (rgb / 255 - MEAN) / DEVIATION,
    "cnn": lambda rgb: rgb / 255,
}


def alone(backbone: backbones.Backbone, size: int) -> keras.Model:
    """The backbone without its preprocessing, on RGB."""
    image = keras.Input((size, size, 3))
    return keras.Model(image, backbone.apply(image))


@pytest.fixture(scope="module", params=NAMES)
def smallest(request):
    """Each backbone with its preprocessing, on grey pixels of the smallest size; made once."""
    backbone = backbones.BACKBONES[request.param]
    image = keras.Input((backbone.min_size, backbone.min_size, 1))
    return backbone, keras.Model(image, backbone.apply(backbone.preprocess(image)))


@pytest.mark.parametrize(
    ("policy", "rtol"),
    [
        pytest.param("float32", 0, id="float32"),
        # The first convolution rounds to 8 bits anyway, but to subtract the mean in bfloat16 would
        # be off by up to half a grey value.
        pytest.param("mixed_bfloat16", 2**-8, id="mixed_bfloat16"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_preprocessing_is_the_published_one_of_grey_shown_as_rgb(name, policy, rtol):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        image = keras.Input((16, 16, 1), dtype="float32")
        grey = keras.layers.Rescaling(1.0, dtype="float32")(image)
        model = keras.Model(image, backbones.BACKBONES[name].preprocess(grey))
    finally:
        keras.config.set_dtype_policy(before)
    grey = np.arange(256, dtype="float32").reshape(1, 16, 16, 1)
    found = keras.ops.convert_to_numpy(keras.ops.cast(model(grey), "float32"))
    expected = PREPROCESSING[name](np.repeat(grey, 3, axis=-1))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=2e-5)  # float32 steps at 150


class TestBlocks:
    def test_each_layer_is_in_exactly_one(self, smallest):
        backbone, model = smallest
        body = [layer.name for layer in model.layers][3:]  # behind input, preprocess, grey_to_rgb
        for name in body:
            assert sum(bool(re.fullmatch(p, name)) for p in backbone.blocks) == 1, name

    def test_each_has_weights_and_they_are_in_order(self, smallest):
        backbone, model = smallest
        numbers = [backbone.block_of(layer.name) for layer in model.layers if layer.weights]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(1, len(backbone.blocks) + 1))

    # Side and channels of the features behind each block: the tables of the papers.
    @pytest.mark.parametrize(
        ("name", "size", "shapes"),
        [
            ("vgg16", 224, [(112, 64), (56, 128), (28, 256), (14, 512), (7, 512)]),
            ("mobilenet_v2", 224, [(112, 16), (56, 24), (28, 32), (14, 96), (7, 1280)]),
            ("resnet18", 224, [(56, 64), (56, 64), (28, 128), (14, 256), (7, 512)]),
            ("cnn", 150, [(74, 64), (36, 128), (17, 256), (7, 256)]),
        ],
    )
    def test_end_where_the_published_stages_end(self, name, size, shapes):
        backbone = backbones.BACKBONES[name]
        # A copy: KerasHub's layers give the shapes of their own graph, which has no size.
        model = keras.models.clone_model(alone(backbone, size))
        ends = {backbone.block_of(layer.name): layer.output.shape for layer in model.layers[1:]}
        assert ends == {
            number: (None, side, side, channels)
            for number, (side, channels) in enumerate(shapes, start=1)
        }
        assert model.output_shape == ends[len(shapes)]

    def test_a_layer_outside_them_is_named(self):
        backbone = backbones.BACKBONES["vgg16"]
        assert backbone.block_of("block3_conv2") == 3
        with pytest.raises(ValueError, match=r"layer head_dense_1 is in no block"):
            backbone.block_of("head_dense_1")


def test_it_accepts_its_smallest_size_and_nests_no_model(smallest):
    _, model = smallest
    assert all(side >= 1 for side in model.output_shape[1:])
    assert not [layer for layer in model.layers if isinstance(layer, keras.Model)]


@pytest.mark.parametrize("name", ["vgg16", "mobilenet_v2", "resnet18"])
def test_it_is_keras_own_layer_by_layer(name, keras_own):
    own, ours = keras_own(name), alone(backbones.BACKBONES[name], 32)
    # In Keras's order too: `from_layer: 100` counts in it.
    assert [n.name for n in ours.layers[1:]] == [n.name for n in own.layers[1:]]
    draws = np.random.default_rng(2)
    own.set_weights(
        [
            draws.uniform(0.5, 1.5, weight.shape)
            if len(weight.shape) == 1
            else draws.normal(0, math.prod(weight.shape[:-1]) ** -0.5, weight.shape)
            for weight in own.weights
        ]
    )
    ours.set_weights(own.get_weights())
    pixels = draws.normal(0, 1, (1, 32, 32, 3)).astype("float32")
    found = keras.ops.convert_to_numpy(ours(pixels))
    np.testing.assert_array_equal(found, own(pixels))
    assert np.isfinite(found).all() and found.any()


# Keras's summaries; ResNet18's is torchvision's 11,689,512 without its last layer, 512 x 1000 +
# 1000, and a moving mean and variance for each of its 4,800 channels. Ours of the layers' shapes.
@pytest.mark.parametrize(
    ("name", "trainable", "moving"),
    [
        ("vgg16", 14_714_688, 0),
        ("mobilenet_v2", 2_223_872, 34_112),
        ("resnet18", 11_689_512 - 513_000, 9_600),
        ("cnn", 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 256) + 3 * 704, 2 * 704),
    ],
)
def test_it_has_the_published_number_of_parameters(name, trainable, moving):
    backbone = backbones.BACKBONES[name]
    model = alone(backbone, backbone.min_size)
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == trainable
    assert model.count_params() == trainable + moving


def test_only_building_resnet18_needs_kerashub(tmp_path):
    """Where KerasHub cannot be imported, all else works, even loading a trained resnet18."""
    trained = system(backbone="resnet18", image_size=32)
    model = network.build(trained)
    store.save(network.architecture(model), {"train": model.get_weights()}, tmp_path)
    program = f"""
import sys
from cxr import params
from cxr.models import backbones, store
sys.modules["keras_hub"] = None
print(store.load({str(tmp_path)!r}).name)
backbones.get(params.load().systems["resnet18_fc"]).apply(None)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": "src"},
    )  # fmt: skip
    assert run.stdout == "resnet18\n"
    assert "No module named 'keras_hub.models'" in run.stderr


def test_an_unknown_backbone_is_refused():
    with pytest.raises(
        InputError, match=r"no backbone 'vgg61': give one of vgg16, mobilenet_v2, res"
    ):
        backbones.get(vgg16(backbone="vgg61"))


def test_too_small_images_are_refused():
    assert backbones.get(vgg16(image_size=32)) is backbones.BACKBONES["vgg16"]
    with pytest.raises(
        InputError, match=r"image_size is 31; backbone vgg16 needs at least 32 x 32"
    ):
        backbones.get(vgg16(image_size=31))


def test_mobilenets_moving_statistics_follow_within_tens_of_steps():
    image = keras.Input((32, 32, 3))
    network = keras.Model(image, backbones.mobilenet_v2(image))
    norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 52
    assert {norm.momentum for norm in norms} == {0.9}
