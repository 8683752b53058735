"""The network: its layers, its input and its output."""

import keras
import numpy as np
import pytest

from cxr import params
from cxr.errors import InputError
from cxr.models import network
from tests.small import (
    SYSTEMS,
    TINY,
    assert_same,
    head,
    ids,
    pixels,
    resnet18,
    system,
    weights_of,
    with_output,
)

pytestmark = pytest.mark.usefixtures("tiny")


class TestBuild:
    @pytest.mark.parametrize("make", SYSTEMS)
    def test_takes_raw_xrays_and_gives_probabilities(self, make):
        settings = make()
        size = settings.image_size
        model = network.build(settings)
        assert model.input_shape == (None, size, size, 1)
        assert model.input.dtype == "uint8"
        probabilities = keras.ops.convert_to_numpy(model(pixels(3, size)))
        assert probabilities.shape == (3, 1)
        assert probabilities.dtype == np.float32
        assert np.all((probabilities >= 0) & (probabilities <= 1))

    @pytest.mark.parametrize("make", SYSTEMS)
    def test_is_flat_and_has_only_keras_own_layers(self, make):
        for layer in network.build(make()).layers:
            assert not isinstance(layer, keras.Model), layer.name
            assert type(layer).__module__.startswith("keras.src."), layer.name

    @pytest.mark.parametrize(
        ("pool", "features"), [("flatten", 4 * 4 * 6), ("average", 6), ("max", 6)]
    )
    def test_builds_the_head_from_its_settings(self, pool, features):
        dense = (
            params.Dense(units=7, batch_norm=False, dropout=0.5),
            params.Dense(units=3, batch_norm=True, dropout=0.0),
        )
        model = network.build(system(head=head(*dense, pool=pool, dropout=0.1)))
        names = [layer.name for layer in model.layers if layer.name.startswith("head_")]
        assert names == [
            "head_pool", "head_dropout", "head_dense_1", "head_dropout_1", "head_dense_2",
            "head_norm_2", "head_relu_2", "head_output",
        ]  # fmt: skip
        assert model.get_layer("head_pool").output.shape == (None, features)
        assert model.get_layer("head_dropout").rate == 0.1
        assert model.get_layer("head_dense_1").kernel.shape == (features, 7)
        assert model.get_layer("head_dense_1").activation is keras.activations.relu
        assert model.get_layer("head_dropout_1").rate == 0.5
        assert model.get_layer("head_dense_2").kernel.shape == (7, 3)
        assert model.get_layer("head_dense_2").activation is keras.activations.linear
        assert model.get_layer("head_output").kernel.shape == (3, 1)

    @pytest.mark.parametrize(("pool", "of"), [("average", np.mean), ("max", np.max)])
    @pytest.mark.parametrize(
        ("make", "layers"),
        [
            pytest.param(system, ("block2_conv1", "block1_pool"), id="tiny"),
            # KerasHub has called these layers before.
            pytest.param(resnet18, ("stack2_block1_out", "stack1_block0_add"), id="resnet18"),
        ],
    )
    def test_pools_each_of_several_layers_and_concatenates_them(self, make, layers, pool, of):
        settings = make(head=head(pool=pool, layers=layers))
        model = network.build(settings)
        names = [layer.name for layer in model.layers if layer.name.startswith("head_")]
        assert names == ["head_pool_1", "head_pool_2", "head_pools", "head_output"]
        # Its layers have been called once, so that `output` can only be that of this network.
        loaded = keras.models.model_from_json(network.architecture(model))
        loaded.set_weights(model.get_weights())
        parts = keras.Model(loaded.input, [loaded.get_layer(name).output for name in layers])
        images = pixels(3, settings.image_size)
        expected = [of(np.asarray(maps), axis=(1, 2)) for maps in parts(images)]
        found = keras.Model(model.input, model.get_layer("head_pools").output)(images)
        np.testing.assert_allclose(found, np.hstack(expected), rtol=1e-5)

    def test_leaves_out_what_comes_after_the_last_layer_of_the_head(self):
        model = network.build(
            system(head=head(layers=("block1_pool",))), initial=weights_of(TINY.imagenet())
        )
        assert [layer.name for layer in model.layers if layer.weights] == [
            "block1_conv1", "head_output"
        ]  # fmt: skip
        assert model.get_layer("head_pool").output.shape == (None, 4)

    @pytest.mark.parametrize("name", ["block2_conv", "preprocess"])
    def test_refuses_a_layer_that_the_backbone_lacks(self, name):
        with pytest.raises(InputError) as stop:
            network.build(system(head=head(layers=("block1_pool", name))))
        assert str(stop.value).startswith(
            f"head.layers names {name}, but backbone tiny has no such layer: did you mean "
        )
        assert "block2_conv1" in str(stop.value)

    @pytest.mark.parametrize(
        ("output", "shape"),
        [("sigmoid", (6, 1)), ("sigmoid_pair", (6, 2)), ("log_softmax", (6, 2))],
    )
    def test_takes_a_head_without_hidden_layers(self, output, shape):
        model = network.build(with_output(output))
        assert [n.name for n in model.layers if n.weights][2:] == ["head_output"]
        assert model.get_layer("head_output").kernel.shape == shape

    def test_initial_weights_go_only_into_the_backbone(self):
        source = TINY.imagenet()
        keras.utils.set_random_seed(1)
        model = network.build(system(), initial=weights_of(source))
        keras.utils.set_random_seed(1)
        random = network.build(system())
        for layer in model.layers:
            donor = random if layer.name.startswith("head_") else source
            if layer.weights:
                assert_same(layer.get_weights(), donor.get_layer(layer.name).get_weights())

    @pytest.mark.parametrize("make", SYSTEMS)
    def test_computes_all_but_pixels_and_probability_in_bfloat16(self, make):
        before = keras.config.dtype_policy().name
        settings = make()
        model = network.build(settings, precision="mixed_bfloat16")
        assert keras.config.dtype_policy().name == before
        for layer in model.layers:
            if layer.name in ("as_float", "preprocess", "head_output"):
                assert layer.compute_dtype == "float32", layer.name
            elif layer.weights:
                assert layer.compute_dtype == "bfloat16", layer.name
        assert {weight.dtype for weight in model.weights} == {"float32"}
        assert model(pixels(2, settings.image_size)).dtype == "float32"

    def test_refuses_an_unknown_backbone(self):
        with pytest.raises(InputError, match="no backbone 'nothing'"):
            network.build(system(backbone="nothing"))


class TestRawOutputs:
    def test_share_the_weights(self):
        model = network.build(with_output("sigmoid_pair"))
        assert ids(network.with_head_output(model).weights) == ids(model.weights)
