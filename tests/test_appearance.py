"""Changes of appearance: against SciPy, Pillow's JPEGs and the formulas, and reproducible."""

import io

import keras
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image, ImageFilter

from cxr import appearance, augment, params
from tests.small import APPEARANCE, SIZE
from tests.test_augment import smooth

OFF = params.Appearance(blur=None, jpeg=None, unsharp=None, gamma=0, contrast=(1, 1), brightness=0)
SHAPES = [
    pytest.param((32, 32), id="square"),
    pytest.param((29, 43), id="sides that are not multiples of 8"),
    pytest.param((3, 5), id="smaller than a block"),
    pytest.param((1, 1), id="one pixel"),
]


def textured(shape: tuple[int, int]) -> np.ndarray:
    """A smooth image with noise, uint8, with neither black nor white."""
    noise = np.random.default_rng(0).normal(0, 6, shape)
    side = smooth(max(shape))[: shape[0], : shape[1], 0]
    return np.clip(128 + 0.6 * (side - 128) + noise, 0, 255).round().astype("uint8")


def by(layer: keras.layers.Layer, image: np.ndarray, *settings: tuple[float, ...]) -> np.ndarray:
    """Apply a layer to one image [height, width] with each of some settings."""
    batch = np.repeat(image[np.newaxis, ..., np.newaxis].astype("float32"), len(settings), axis=0)
    found = keras.ops.convert_to_numpy(layer([batch, np.array(settings, "float32")]))
    assert (found.shape, found.dtype) == (batch.shape, np.float32)
    return found[..., 0]


def column(draws: np.ndarray, name: str) -> np.ndarray:
    return draws[:, appearance.DRAWS.index(name)]


class TestDraw:
    DRAWN = appearance.draw(APPEARANCE, 8000, 0, "train", 3, 17)

    def test_each_image_gets_one_of_the_four_and_each_is_as_likely(self):
        blurred, saved = column(self.DRAWN, "amount") < 0, column(self.DRAWN, "quality") > 0
        sharpened = column(self.DRAWN, "amount") > 0
        kinds = np.stack([blurred, saved, sharpened])
        assert kinds.sum(0).max() == 1
        np.testing.assert_allclose(kinds.mean(1), 0.25, atol=0.02)

    def test_draws_fill_their_ranges_and_stay_in_them(self):
        amount, quality = column(self.DRAWN, "amount"), column(self.DRAWN, "quality")
        found = {
            (0.5, 1.2): column(self.DRAWN, "sigma")[amount < 0],
            (0.3, 1.0): amount[amount > 0],
            (30, 89): quality[quality > 0],
            (-0.4, 0.4): np.log(column(self.DRAWN, "gamma")),
            (0.7, 1.25): column(self.DRAWN, "contrast"),
            (-0.08, 0.08): column(self.DRAWN, "brightness"),
        }
        for (low, high), values in found.items():
            span = high - low
            assert low - 1e-9 <= values.min() < low + 0.01 * span
            assert high - 0.01 * span < values.max() <= high + 1e-9
            assert abs(values.mean() - (low + high) / 2) < 0.03 * span
        assert set(quality) == {0, *range(30, 90)}  # both ends included
        assert set(amount[amount < 0]) == {-1}
        assert set(column(self.DRAWN, "sigma")[amount > 0]) == {1.0}

    def test_no_two_of_them_share_a_draw(self):
        which = column(self.DRAWN, "amount") < 0
        drawn = [which, *self.DRAWN[:, 3:].T]
        assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.06

    @pytest.mark.parametrize("kind", ["blur", "jpeg", "unsharp"])
    def test_what_is_off_is_not_drawn(self, kind):
        drawn = appearance.draw(OFF.model_copy(update={kind: getattr(APPEARANCE, kind)}), 999, 0)
        changed = (drawn != appearance.NEUTRAL).any(0)
        columns = {"blur": ["sigma", "amount"], "jpeg": ["quality"], "unsharp": ["amount"]}
        assert np.array(appearance.DRAWS)[changed].tolist() == columns[kind]
        assert abs((drawn != appearance.NEUTRAL).any(1).mean() - 0.5) < 0.05  # or nothing

    def test_with_everything_off_is_neutral(self):
        drawn = appearance.draw(OFF, 5, 0, "train")
        np.testing.assert_array_equal(drawn, np.tile(appearance.NEUTRAL, (5, 1)))

    def test_depends_on_seed_and_purpose_alone(self):
        again = appearance.draw(APPEARANCE, 8000, 0, "train", 3, 17)
        np.testing.assert_array_equal(again, self.DRAWN)
        others = [(1, "train", 3, 17), (0, "head", 3, 17), (0, "train", 4, 17), (0, "train", 3, 18)]
        for seed, *purpose in others:
            other = appearance.draw(APPEARANCE, 8000, seed, *purpose)
            assert not np.any(other[:, 3:] == self.DRAWN[:, 3:])


class TestSharpness:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("sigma", [0.1, 0.5, 1.2, 4.0])
    def test_blur_is_scipys_with_weights_that_sum_to_1_at_the_edge(self, shape, sigma):
        image = textured(shape)
        options = {"mode": "constant", "truncate": 9}
        expected = scipy.ndimage.gaussian_filter(image.astype(float), sigma, **options)
        expected /= scipy.ndimage.gaussian_filter(np.ones(shape), sigma, **options)
        found = by(appearance.Sharpness(), image, (sigma, -1))[0]
        np.testing.assert_allclose(found, expected, atol=0.01)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_unsharp_mask_adds_what_the_blur_removes(self, shape):
        image = textured(shape)
        blurred, sharpened = by(appearance.Sharpness(), image, (1.3, -1), (1.3, 0.7))
        expected = np.clip(image + 0.7 * (image - blurred), 0, 255)
        np.testing.assert_allclose(sharpened, expected, atol=0.01)

    def test_unsharp_mask_is_about_pillows(self):
        image = textured((64, 64))
        # Pillow's blur is three box blurs, and its grey values are whole.
        pillows = Image.fromarray(image).filter(ImageFilter.UnsharpMask(1.5, 80, 0))
        found = by(appearance.Sharpness(), image, (1.5, 0.8))[0]
        apart = np.abs(found - np.asarray(pillows, "float32"))[4:-4, 4:-4]
        assert apart.mean() < 0.6
        assert np.abs(found - image).mean() > 3  # it does something

    def test_each_image_gets_its_own_and_an_amount_of_0_changes_nothing(self):
        image = textured((16, 24))
        found = by(appearance.Sharpness(), image, (0.6, -1), (1.0, 0), (1.2, -1))
        np.testing.assert_array_equal(found[1], image)
        assert np.abs(found[2] - image).mean() > np.abs(found[0] - image).mean() > 1

    def test_is_clipped(self):
        image = np.where(np.arange(256).reshape(16, 16) % 3, 0, 255)
        found = by(appearance.Sharpness(), image, (2, 5))[0]
        assert (found.min(), found.max()) == (0, 255)


class TestJpeg:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 51, 89, 100])
    def test_is_pillows(self, shape, quality):
        image, file = textured(shape), io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        expected = np.asarray(Image.open(file), "float32")
        found = by(appearance.Jpeg(), image, (quality,))[0]
        # libjpeg computes with whole numbers, so now and then it rounds a frequency the other way,
        # which changes the whole block.
        apart = np.abs(found - expected)
        assert apart.mean() < (0.6 if image.size > 64 else 2)
        assert np.quantile(apart, 0.95) < 4

    def test_the_table_of_each_quality_is_pillows(self):
        expected = []
        for quality in range(1, 101):
            file = io.BytesIO()
            Image.fromarray(textured((8, 8))).save(file, "JPEG", quality=quality)
            expected.append(Image.open(file).quantization[0])
        qualities = np.arange(1, 101, dtype="float32")[:, np.newaxis]
        found = keras.ops.convert_to_numpy(appearance.quantisation(qualities))
        np.testing.assert_array_equal(found, expected)

    def test_each_image_gets_its_own_and_a_quality_of_0_changes_nothing(self):
        image = textured((16, 24))
        found = by(appearance.Jpeg(), image, (90,), (0,), (10,))
        np.testing.assert_array_equal(found[1], image)
        assert np.abs(found[2] - image).mean() > 2 * np.abs(found[0] - image).mean() > 0

    def test_a_flat_image_stays_flat(self):
        flat = np.full((20, 20), 136)  # in a block 8 * (136 - 128), a multiple of 16
        np.testing.assert_allclose(by(appearance.Jpeg(), flat, (50,))[0], flat, atol=1e-3)

    def test_is_clipped(self):
        image = np.where(np.arange(256).reshape(16, 16) % 3, 0, 255)
        found = by(appearance.Jpeg(), image, (5,))[0]
        assert found.min() >= 0
        assert found.max() <= 255


class TestTone:
    @pytest.mark.parametrize(
        ("tone", "grey", "expected"),
        [
            pytest.param((2, 1, 0), 127.5, 63.75, id="gamma"),
            pytest.param((1, 0.5, 0), 255, 191.25, id="contrast"),
            pytest.param((1, 1, 0.1), 100, 125.5, id="brightness"),
            pytest.param((2, 1.2, 0.1), 127.5, 76.5, id="together"),
            pytest.param((0.5, 1, 0), 0, 0, id="black"),
            pytest.param((3, 1, 0), 255, 255, id="white"),
            pytest.param((1, 1, 1), 3, 255, id="clipped to white"),
            pytest.param((1, 2, 0), 50, 0, id="clipped to black"),
        ],
    )
    def test_is_the_formula(self, tone, grey, expected):
        found = by(appearance.Tone(), np.full((2, 3), grey), tone)
        np.testing.assert_allclose(found, expected, atol=1e-3)

    def test_each_image_gets_its_own_and_neutral_changes_nothing(self):
        image = textured((16, 24))
        dark, same = by(appearance.Tone(), image, (1.4, 1, 0), (1, 1, 0))
        np.testing.assert_allclose(same, image, atol=1e-3)
        np.testing.assert_allclose(dark, 255 * (image / 255) ** 1.4, atol=1e-3)


class TestChangeImages:
    IMAGES = np.stack([textured((SIZE, SIZE))] * 24)[..., np.newaxis]
    DRAWN = appearance.draw(APPEARANCE, 24, 0).astype("float32")

    @staticmethod
    def layers_of(settings: params.Appearance) -> list[str]:
        image = keras.Input((SIZE, SIZE, 1))
        draws = keras.Input((6,))
        model = keras.Model([image, draws], appearance.change_images(image, draws, settings))
        names = {each.__name__ for each in (appearance.Sharpness, appearance.Jpeg, appearance.Tone)}
        return [type(layer).__name__ for layer in model.layers if type(layer).__name__ in names]

    @pytest.mark.parametrize(
        ("on", "expected"),
        [
            (["blur"], ["Sharpness"]),
            (["unsharp"], ["Sharpness"]),
            (["jpeg"], ["Jpeg"]),
            (["gamma"], ["Tone"]),
            (["contrast"], ["Tone"]),
            (["brightness"], ["Tone"]),
            (list(params.Appearance.model_fields), ["Sharpness", "Jpeg", "Tone"]),
        ],
        ids=str,
    )
    def test_what_is_off_has_no_layer(self, on, expected):
        settings = OFF.model_copy(update={name: getattr(APPEARANCE, name) for name in on})
        assert self.layers_of(settings) == expected

    def test_comes_before_the_tone_and_after_the_map(self):
        maps = np.tile(np.eye(3), (24, 1, 1))
        maps[:, 0, 2] = 3  # to the left
        given = augment.transforms(maps, None, self.DRAWN)
        assert (given.dtype, given.shape) == (np.float32, (24, 16))
        found = keras.ops.convert_to_numpy(augment.transform_images(self.IMAGES, given, APPEARANCE))
        moved = augment.transform_images(self.IMAGES, augment.transforms(maps))
        sharp = appearance.Sharpness()([moved, self.DRAWN[:, :2]])
        saved = appearance.Jpeg()([sharp, self.DRAWN[:, 2:3]])
        toned = keras.ops.convert_to_numpy(appearance.Tone()([saved, self.DRAWN[:, 3:]]))
        np.testing.assert_allclose(found, toned, atol=1e-3)

    def test_neutral_draws_change_nothing(self):
        neutral = np.tile(np.float32(appearance.NEUTRAL), (24, 1))
        found = appearance.change_images(self.IMAGES, neutral, APPEARANCE)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), self.IMAGES, atol=1e-3)

    @pytest.mark.parametrize("layer", ["Sharpness", "Jpeg", "Tone"])
    def test_a_layer_can_be_saved_and_is_float32_in_any_policy(self, layer):
        made = getattr(appearance, layer)()
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
        assert type(again) is type(made)
        assert again.compute_dtype == "float32"
