"""Grad-CAM: maps by the backend's own gradient, by hand, and without a trace in the network."""

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from cxr.evaluation.grad_cam import GradCam, positive
from cxr.models import network
from tests.evaluation.spot import Spot
from tests.small import ARTICLE, SIZE, cnn, head, pixels, resnet18, system, vgg16, with_output

pytestmark = pytest.mark.usefixtures("tiny")
BACKEND = keras.backend.backend()
ROOT = Path(__file__).resolve().parents[2]

POOLS = ("head_pool", "head_pool_1", "head_pool_2")  # the first pools the layer that is mapped
two_layers = head(layers=("block2_conv1", "block1_conv1"), pool="max")
SYSTEMS = [
    pytest.param(system, id="hidden layer and dropout"),
    pytest.param(functools.partial(system, head=ARTICLE), id="flatten"),
    pytest.param(functools.partial(system, head=head(dropout=0.5)), id="dropout after pooling"),
    pytest.param(functools.partial(system, head=two_layers), id="two layers, the last first"),
    pytest.param(functools.partial(with_output, "sigmoid_pair"), id="sigmoid pair"),
    pytest.param(functools.partial(with_output, "log_softmax"), id="log-softmax"),
    pytest.param(cnn, id="batch norms in backbone and head"),
    pytest.param(vgg16, id="vgg16"),
    pytest.param(resnet18, id="resnet18"),
]


def build(make) -> tuple[keras.Model, np.ndarray]:
    """Return a network of random weights, also in its batch norms, and six images.

    Its logits are 1 at most, so that the gradients of all outputs are far from 0.
    """
    keras.utils.set_random_seed(3)
    settings = make()
    model = network.build(settings)
    draws = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([draws.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    images, output = pixels(6, settings.image_size), model.get_layer("head_output")
    inputs = np.asarray(keras.Model(model.input, output.input)(images))
    kernel, bias = output.get_weights()
    output.set_weights([kernel / np.abs(inputs @ kernel).max(), bias])
    return model, images[..., 0]


def maps(model: keras.Model, images: np.ndarray, batch_size: int = 4) -> np.ndarray:
    return GradCam(model, batch_size).maps(images, np.arange(len(images)))


def log_odds(model: keras.Model, inputs):
    """The log-odds from the output layer's input, by its own weights: log p - log (1 - p)."""
    output = model.get_layer("head_output")
    logits = inputs @ output.kernel + output.bias
    if output.units == 1:
        return logits[:, 0]
    if output.activation is keras.activations.log_softmax:
        return logits[:, 1] - logits[:, 0]
    # p is PNEUMONIA's share of the sum of the sigmoids, so p / (1 - p) is their ratio.
    share = keras.ops.sigmoid(logits)
    return keras.ops.log(share[:, 1]) - keras.ops.log(share[:, 0])


def weighted(features, gradients) -> np.ndarray:
    """The article's formula: channels weighted by the mean over places of their gradient."""
    features, gradients = np.asarray(features), np.asarray(gradients)
    return (features * gradients.mean(axis=(1, 2), keepdims=True)).sum(axis=-1)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's gradients")
@pytest.mark.parametrize("make", SYSTEMS)
def test_maps_are_those_of_tensorflows_gradient(make):
    import tensorflow as tf

    model, images = build(make)
    explainer = GradCam(model, 4)
    last = model.get_layer("head_output").input
    pooled = [layer.input for layer in model.layers if layer.name in POOLS]
    both = keras.Model(model.input, [pooled[0], last])
    with tf.GradientTape() as tape:
        features, inputs = both(images[..., np.newaxis], training=False)
        total = log_odds(model, inputs)
    expected = weighted(features, tape.gradient(total, features))
    found = explainer.maps(images, np.arange(6))
    assert (found.dtype, np.abs(found).max() > 0) == (np.float32, True)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.skipif(BACKEND != "jax", reason="JAX's gradients")
@pytest.mark.parametrize("make", SYSTEMS)
def test_maps_are_those_of_jaxs_gradient(make):
    import jax

    model, images = build(make)
    explainer = GradCam(model, 4)
    pooled = [layer.input for layer in model.layers if layer.name in POOLS]
    rest = keras.Model(pooled, model.get_layer("head_output").input)
    last, *others = (
        keras.Model(model.input, tensor)(images[..., np.newaxis], training=False)
        for tensor in pooled
    )

    def total(features):
        return log_odds(model, rest([features, *others], training=False)).sum()

    expected = weighted(last, jax.grad(total)(last))
    found = explainer.maps(images, np.arange(6))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.skipif(BACKEND == "jax", reason="this is the run with jax")
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="the extra `jax` is not there")
def test_all_of_it_holds_with_jax():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", __file__],
        cwd=ROOT, env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-5000:]


def linear(bias: float) -> tuple[keras.Model, np.ndarray]:
    """The tiny network with a mean over places and one sigmoid, and its images."""
    model, images = build(functools.partial(system, head=head()))
    kernel, _ = model.get_layer("head_output").get_weights()
    model.get_layer("head_output").set_weights([kernel, np.array([bias])])
    return model, images


def test_the_maps_of_a_linear_head_add_up_to_the_log_odds():
    model, images = linear(bias=0.25)
    probability = np.asarray(model(images[..., np.newaxis]), dtype="float64")[:, 0]
    found = maps(model, images)
    assert found.shape == (6, SIZE // 4, SIZE // 4)
    expected = np.log(probability / (1 - probability)) - 0.25
    np.testing.assert_allclose(found.sum(axis=(1, 2)), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bias", [-200, 40])
def test_maps_do_not_vanish_where_the_network_is_sure(bias):
    model, images = linear(bias)
    probability = np.asarray(model(images[..., np.newaxis]))
    assert np.all(probability == (1 if bias > 0 else 0))
    np.testing.assert_allclose(maps(model, images), maps(linear(0)[0], images), rtol=1e-5)


@pytest.mark.parametrize("make", [system, cnn])
def test_the_network_does_not_change(make):
    model, images = build(make)
    before, trainable = model.get_weights(), [layer.trainable for layer in model.layers]
    outputs = np.asarray(model(images[..., np.newaxis]))
    maps(model, images)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [layer.trainable for layer in model.layers] == trainable
    np.testing.assert_array_equal(model(images[..., np.newaxis]), outputs)


@pytest.fixture(scope="module")
def in_threes() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A network, its images, and their maps in batches of three."""
    model, images = build(cnn)
    return model, images, maps(model, images, 3)


@pytest.mark.parametrize("batch_size", [1, 5, 6, 50])
def test_the_batch_size_does_not_matter(in_threes, batch_size):
    model, images, expected = in_threes
    found = maps(model, images, batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_rows_are_mapped_in_their_order():
    model, images = build(system)
    explainer, expected = GradCam(model, 4), maps(model, images)
    found = explainer.maps(images, np.array([5, 0, 2]))
    np.testing.assert_allclose(found, expected[[5, 0, 2]], rtol=1e-4, atol=1e-6)
    assert explainer.maps(images, np.array([], dtype=int)).shape == (0, 4, 4)


def test_maps_are_those_of_the_weights_that_the_model_has_now():
    model, images = build(system)
    explainer, before = GradCam(model, 4), maps(model, images)
    explainer.maps(images, np.arange(6))
    model.set_weights([-2 * weights for weights in model.get_weights()])
    after = explainer.maps(images, np.arange(6))
    assert not np.allclose(after, before)
    np.testing.assert_array_equal(after, maps(model, images))


def test_of_several_pooled_layers_the_one_closest_to_the_output_is_mapped():
    model, images = build(functools.partial(system, head=two_layers))
    assert GradCam(model, 4).layer == "block2_conv1"
    assert maps(model, images).shape == (6, SIZE // 4, SIZE // 4)


def test_images_without_contrast_have_maps():
    model, _ = build(system)
    found = maps(model, np.full((2, SIZE, SIZE), 7, "uint8"))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], found[1])


def test_a_network_without_a_head_is_refused():
    image = keras.Input((SIZE, SIZE, 1))
    with pytest.raises(ValueError, match="no layer head_pool"):
        GradCam(keras.Model(image, Spot()(image)), 4)


def test_positive_maps_have_no_negative_values():
    np.testing.assert_array_equal(positive(np.array([[[-1.0, 0.0, 2.0]]])), [[[0, 0, 2]]])
