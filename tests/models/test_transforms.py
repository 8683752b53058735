"""A network with transforms in front: augmentation and perturbation of raw pixels."""

import keras
import numpy as np
import pytest

from cxr import appearance, augment
from cxr.models import freezing, network
from tests.small import (
    APPEARANCE,
    AUGMENTATION,
    OUTPUTS,
    SIZE,
    head,
    ids,
    no_transforms,
    phase,
    pixels,
    system,
    with_output,
)

pytestmark = pytest.mark.usefixtures("tiny")


class TestWithTransforms:
    @pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
    @pytest.mark.parametrize("output", OUTPUTS)
    def test_without_a_change_it_is_the_plain_model(self, precision, output):
        model = network.build(with_output(output), precision=precision)
        images = pixels(4, SIZE)
        for part in (model, network.with_head_output(model)):
            found = augment.with_transforms(part)([images, no_transforms(4)])
            np.testing.assert_array_equal(found, part(images))

    def test_it_transforms_between_grey_values_before_the_backbone(self):
        keras.utils.set_random_seed(0)
        model = network.build(system(head=head()))
        model.get_layer("head_output").kernel.assign(np.full((6, 1), 0.02))  # not saturated
        images = pixels(4, SIZE)
        maps = augment.matrices(augment.draw(AUGMENTATION, (SIZE, SIZE), 4, 0), (SIZE, SIZE))
        given = augment.transforms(maps, np.tile([3.5, 0.7], (4, 1)))
        transformed = keras.ops.convert_to_numpy(augment.transform_images(images, given))
        found = keras.ops.convert_to_numpy(augment.with_transforms(model)([images, given]))
        inner = keras.Model(model.get_layer("as_float").output, model.output)
        np.testing.assert_allclose(found, inner(transformed), atol=1e-7)
        # A uint8 input would have cut the transformed pixels to integers.
        assert np.abs(found - inner(np.floor(transformed))).min() > 1e-5

    def test_it_has_layers_only_for_what_is_on(self):
        network_itself = network.build(system())
        plain = augment.with_transforms(network_itself)
        ours = [type(layer).__name__ for layer in plain.layers if "cxr" in type(layer).__module__]
        assert ours == ["AffineAugmentation", "ToneAugmentation"]
        assert [each.shape[1:] for each in plain.inputs] == [(SIZE, SIZE, 1), (10,)]
        changing = augment.with_transforms(network_itself, APPEARANCE)
        assert [each.shape[1:] for each in changing.inputs] == [(SIZE, SIZE, 1), (16,)]
        added = {type(layer).__name__ for layer in changing.layers} - {
            type(layer).__name__ for layer in plain.layers
        }
        assert added == {"Sharpness", "Jpeg", "Tone"}

    def test_it_changes_the_appearance_and_still_shares_the_weights(self):
        model = network.build(system())
        images, drawn = pixels(4, SIZE), appearance.draw(APPEARANCE, 4, 0)
        given = augment.transforms(np.tile(np.eye(3), (4, 1, 1)), None, drawn)
        changed = augment.transform_images(images, given, APPEARANCE)
        wrapped = augment.with_transforms(model, APPEARANCE)
        inner = keras.Model(model.get_layer("as_float").output, model.output)
        np.testing.assert_allclose(wrapped([images, given]), inner(changed), atol=1e-6)
        assert ids(wrapped.weights) == ids(model.weights)

    def test_it_shares_the_weights(self):
        model = network.build(system())
        trainer = augment.with_transforms(network.with_head_output(model))
        assert ids(trainer.weights) == ids(model.weights)
        freezing.set_trainable(model, system(), phase("head"))
        assert ids(trainer.trainable_weights) == ids(model.trainable_weights)
