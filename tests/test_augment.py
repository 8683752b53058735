"""Augmentation and perturbation: equal to ImageDataGenerator's, and reproducible."""

import json

import keras
import numpy as np
import pytest
import scipy.ndimage
from keras.src.legacy.preprocessing.image import ImageDataGenerator

from cxr import augment, params
from tests.small import AUGMENTATION, PERTURBATION

# The article's shear of 0.2 degrees moves next to nothing: a test of the order needs more.
WILD = AUGMENTATION.model_copy(update={"shear": 25.0})
STILL = params.Augmentation(
    rotation=0, width_shift=0, height_shift=0, shear=0, zoom=0, horizontal_flip=False,
    magnification=None, appearance=None, original=0, views=0,
)  # fmt: skip
MAGNIFICATION = params.Magnification(x=(0.85, 1.2), y=(0.85, 1.3))
NOTHING = {"theta": 0.0, "tx": 0.0, "ty": 0.0, "shear": 0.0, "zx": 1.0, "zy": 1.0, "flip": 0.0}


def row(**changes: float) -> np.ndarray:
    """One row of draws: the identity except for ``changes``."""
    return np.array([[(NOTHING | changes)[name] for name in augment.DRAWS]])


def smooth(side: int) -> np.ndarray:
    """An image without symmetry or edges, float32 [side, side, 1], about 0 to 255."""
    y, x = np.mgrid[:side, :side] / side
    image = 128 + 60 * np.sin(3.1 * x + 1.7 * y) + 50 * np.cos(4.3 * y - 1.1 * x) + 15 * x
    return image[..., np.newaxis].astype("float32")


def by_generator(image: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Apply one row of draws to an image with ImageDataGenerator."""
    named = dict(zip(augment.DRAWS, draw, strict=True))
    named["flip_horizontal"] = bool(named.pop("flip"))
    return ImageDataGenerator(fill_mode="nearest").apply_transform(image, named)


def by_layer(image: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Apply each row of draws to an image with AffineAugmentation."""
    given = augment.transforms(augment.matrices(draws, image.shape[:2]))[:, :8]
    batch = np.repeat(image[np.newaxis], len(draws), axis=0)
    return keras.ops.convert_to_numpy(augment.AffineAugmentation()([batch, given]))


ALONE = [
    pytest.param(row(theta=31.0), id="rotation"),
    pytest.param(row(tx=5.3), id="shift along x"),
    pytest.param(row(ty=-7.8), id="shift along y"),
    pytest.param(row(shear=22.0), id="shear"),
    pytest.param(row(zx=0.7), id="zoom along x"),
    pytest.param(row(zy=1.4), id="zoom along y"),
    pytest.param(row(flip=1.0), id="flip"),
]
SIDES = [pytest.param(32, id="even side"), pytest.param(33, id="odd side")]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("draws", ALONE)
def test_each_map_alone_is_image_data_generators(draws, side):
    image = smooth(side)
    expected = by_generator(image, draws[0])
    assert np.abs(expected - image).max() > 5  # the map does something
    np.testing.assert_allclose(by_layer(image, draws)[0], expected, atol=0.02)


@pytest.mark.parametrize("side", SIDES)
def test_maps_together_are_image_data_generators(side):
    image = smooth(side)
    draws = augment.draw(WILD, (side, side), 60, 0, "train", 0, 0)
    expected = np.stack([by_generator(image, draw) for draw in draws])
    np.testing.assert_allclose(by_layer(image, draws), expected, atol=0.02)


@pytest.mark.parametrize("side", SIDES)
def test_the_matrix_is_the_one_that_image_data_generator_gives_scipy(side, monkeypatch):
    given = []
    real = scipy.ndimage.affine_transform

    def listen(channel, matrix, offset, **options):
        given.append((matrix, offset))
        return real(channel, matrix, offset, **options)

    # The name by which Keras calls it.
    monkeypatch.setattr("scipy.ndimage.interpolation.affine_transform", listen)
    draws = augment.draw(WILD, (side, side), 100, 3, "train", 0, 0)
    draws[:, augment.DRAWS.index("flip")] = 0  # its flip is no part of the matrix
    ours = augment.matrices(draws, (side, side))
    for draw in draws:
        by_generator(smooth(side), draw)
    assert len(given) == len(draws)
    # SciPy's axes are (row, column), ours (x, y).
    theirs = np.stack([matrix[::-1, ::-1] for matrix, _ in given])
    offsets = np.stack([offset[::-1] for _, offset in given])
    np.testing.assert_allclose(ours[:, :2, :2], theirs, atol=1e-12)
    np.testing.assert_allclose(ours[:, :2, 2], offsets, atol=1e-10)
    np.testing.assert_array_equal(ours[:, 2], np.tile([0, 0, 1], (100, 1)))


def test_a_point_lands_where_the_formula_written_out_says():
    draws = row(theta=90.0, tx=2.0, zx=0.5, flip=1.0)
    (matrix,) = augment.matrices(draws, (5, 7))
    # Output (x, y) = (1, 3); mirrored in a width of 7: (5, 3); about the centre (3, 2): (2, 1);
    # zoomed: (1, 1); shifted: (3, 1); turned by 90 degrees: (-1, 3); back: (2, 5).
    np.testing.assert_allclose(matrix @ [1, 3, 1], [2, 5, 1], atol=1e-12)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_identity_leaves_pixels_as_they_are(dtype):
    image = np.random.default_rng(0).integers(0, 256, (31, 20, 1)).astype(dtype)
    np.testing.assert_array_equal(by_layer(image, row())[0], image.astype("float32"))


def test_each_image_of_a_batch_gets_its_own_map_and_channels_get_the_same():
    image = np.repeat(smooth(12), 3, axis=-1)
    still, moved = by_layer(image, np.concatenate([row(), row(tx=3.0)]))
    np.testing.assert_array_equal(still, image)
    np.testing.assert_allclose(moved[:, :-3], image[:, 3:], atol=1e-3)
    np.testing.assert_allclose(moved[:, -3:], np.repeat(image[:, -1:], 3, 1), atol=1e-3)


def test_one_pixel_survives_any_map():
    pixel = np.full((1, 1, 1), 77, "float32")
    draws = augment.draw(WILD, (1, 1), 5, 0)
    np.testing.assert_allclose(by_layer(pixel, draws), np.full((5, 1, 1, 1), 77))


def test_draws_fill_their_ranges_and_stay_in_them():
    height, width = 100, 200
    draws = augment.draw(AUGMENTATION, (height, width), 4000, 0, "train", 0, 0)
    limits = {
        "theta": (-40, 40),
        "tx": (-0.3 * width, 0.3 * width),
        "ty": (-0.4 * height, 0.4 * height),
        "shear": (-0.2, 0.2),
        "zx": (0.6, 1.4),
        "zy": (0.6, 1.4),
    }
    for name, (low, high) in limits.items():
        column = draws[:, augment.DRAWS.index(name)]
        span = high - low
        assert low <= column.min() < low + 0.01 * span, name
        assert high - 0.01 * span < column.max() <= high, name
        assert abs(column.mean() - (low + high) / 2) < 0.03 * span, name
    flips = draws[:, augment.DRAWS.index("flip")]
    assert set(flips) == {0, 1}
    assert 0.45 < flips.mean() < 0.55
    correlations = np.corrcoef(draws.T) - np.eye(len(augment.DRAWS))
    assert np.abs(correlations).max() < 0.06  # no two of them share a draw


def test_ranges_of_zero_draw_the_identity():
    draws = augment.draw(STILL, (32, 32), 9, 0, "train", 0, 0)
    np.testing.assert_array_equal(draws, np.repeat(row(), 9, axis=0))
    np.testing.assert_allclose(
        augment.matrices(draws, (32, 32)), np.tile(np.eye(3), (9, 1, 1)), atol=1e-12
    )


def test_draws_are_those_of_earlier_versions():
    """Magnification draws apart from the rest, so that old settings give the same batches."""
    expected = [
        [2.64598287, -29.94998059, -63.59042884, -0.09312, 0.83733348, 0.86947485, 0],
        [24.44883065, 27.0709414, -41.27881187, -0.09699745, 0.99468513, 0.78213441, 0],
    ]
    draws = augment.draw(AUGMENTATION, (224, 224), 2, 0, "train", 3, 17)
    np.testing.assert_allclose(draws, expected, atol=1e-8)
    magnified = AUGMENTATION.model_copy(update={"magnification": MAGNIFICATION})
    again = augment.draw(magnified, (224, 224), 2, 0, "train", 3, 17)
    np.testing.assert_array_equal(np.delete(again, [4, 5], 1), np.delete(draws, [4, 5], 1))


def test_magnification_divides_the_zoom_of_each_axis_alone():
    draws, magnified = (
        augment.draw(
            AUGMENTATION.model_copy(update={"magnification": each}), (32, 32), 4000, 0, "train", 1
        )
        for each in (None, MAGNIFICATION)
    )
    x, y = (draws[:, 4:6] / magnified[:, 4:6]).T
    for factors, (low, high) in ((x, MAGNIFICATION.x), (y, MAGNIFICATION.y)):
        assert low <= factors.min() < low + 0.01
        assert high - 0.01 < factors.max() <= high
        assert abs(factors.mean() - (low + high) / 2) < 0.01
    assert np.abs(np.corrcoef([x, y, *draws.T]) - np.eye(9))[:2].max() < 0.06


def test_a_magnification_of_2_shows_the_middle_twice_as_large():
    twice = params.Magnification(x=(2, 2), y=(1, 1))
    settings = STILL.model_copy(update={"magnification": twice})
    image = smooth(33)
    seen = by_layer(image, augment.draw(settings, (33, 33), 1, 0))[0]
    np.testing.assert_allclose(seen[:, ::2], image[:, 8:25], atol=1e-3)  # the middle column is 16


def test_the_same_seed_phase_epoch_and_step_draw_the_same():
    first = augment.draw(AUGMENTATION, (32, 32), 4, 7, "train", 3, 17)
    augment.draw(AUGMENTATION, (32, 32), 4, 7, "train", 3, 18)
    np.testing.assert_array_equal(augment.draw(AUGMENTATION, (32, 32), 4, 7, "train", 3, 17), first)


@pytest.mark.parametrize(
    ("seed", "purpose"),
    [
        pytest.param(8, ("train", 3, 17), id="another seed"),
        pytest.param(7, ("finetune", 3, 17), id="another phase"),
        pytest.param(7, ("train", 4, 17), id="another epoch"),
        pytest.param(7, ("train", 3, 18), id="another step"),
        pytest.param(7, ("train", 17, 3), id="epoch and step exchanged"),
    ],
)
def test_another_batch_has_other_draws(seed, purpose):
    first = augment.draw(AUGMENTATION, (32, 32), 4, 7, "train", 3, 17)
    other = augment.draw(AUGMENTATION, (32, 32), 4, seed, *purpose)
    assert not np.any(first[:, :6] == other[:, :6])


def undone(maps: np.ndarray, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Take maps about the centre apart into rotation, shear, zoom and flip, by formula.

    Without its flip the matrix is R(theta) [[zx, -zy sin(shear)], [0, zy cos(shear)]].
    """
    centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2, 1])
    np.testing.assert_allclose(maps @ centre, np.tile(centre, (len(maps), 1)), atol=1e-9)
    flip = np.linalg.det(maps[:, :2, :2]) < 0
    across, down = np.where(flip, -1, 1) * maps[:, :2, 0].T, maps[:, :2, 1].T
    theta = np.arctan2(across[1], across[0])
    turned_back = (
        np.cos(theta) * down[0] + np.sin(theta) * down[1],
        np.cos(theta) * down[1] - np.sin(theta) * down[0],
    )
    return {
        "theta": np.rad2deg(theta),
        "shear": np.rad2deg(np.arctan2(-turned_back[0], turned_back[1])),
        "zx": np.hypot(*across),
        "zy": np.hypot(*down),
        "flip": flip.astype(float),
    }


def perturbed(*ids: str, seed: int = 0, **changes: object) -> np.ndarray:
    """Transforms [n, 10] of the images with these ids, 32 x 32."""
    settings = PERTURBATION.model_copy(update=changes)
    return augment.transforms(*augment.perturbations(settings, (32, 32), ids, seed))


class TestPerturbations:
    @pytest.mark.parametrize(
        "ids",
        [["b"], ["c", "b", "a"], ["x", "b", "y", "b"], [f"image {n}" for n in range(99)] + ["b"]],
        ids=["alone", "in another order", "among others", "last of a hundred"],
    )
    def test_an_images_perturbation_does_not_depend_on_the_other_images(self, ids):
        expected = perturbed("a", "b", "c")[1]
        for place in np.flatnonzero(np.array(ids) == "b"):
            np.testing.assert_array_equal(perturbed(*ids)[place], expected)

    @pytest.mark.parametrize(
        ("name", "seed"),
        [pytest.param("b", 1, id="with another seed"), pytest.param("c", 0, id="of another id")],
    )
    def test_another_id_or_seed_gives_another_perturbation(self, name, seed):
        differs = (perturbed(name, seed=seed) != perturbed("b", seed=0))[0]
        assert differs.tolist() == [True] * 6 + [False] * 2 + [True] * 2  # a map's last row is 0, 0

    def test_an_images_perturbation_is_the_same_at_every_size(self):
        (small, small_tones), (great, great_tones) = (
            augment.perturbations(PERTURBATION, shape, ["a", "b", "c"], 0)
            for shape in [(33, 20), (224, 224)]
        )
        again = undone(great, (224, 224))
        for name, values in undone(small, (33, 20)).items():
            np.testing.assert_allclose(again[name], values, atol=1e-9)
        np.testing.assert_array_equal(great_tones, small_tones)

    def test_draws_fill_their_ranges_and_stay_in_them(self):
        ids = [f"image {n}" for n in range(2000)]
        maps, tones = augment.perturbations(PERTURBATION, (32, 40), ids, 0)
        assert maps.dtype == tones.dtype == np.float64
        drawn = undone(maps, (32, 40)) | {"channel shift": tones[:, 0], "brightness": tones[:, 1]}
        limits = {
            "theta": (-30, 30),
            "shear": (-0.2, 0.2),
            "zx": (0.8, 1.2),
            "zy": (0.8, 1.2),
            "channel shift": (-0.9, 0.9),
            "brightness": (0.5, 1.5),
        }
        for name, (low, high) in limits.items():
            span = high - low
            assert low - 1e-9 <= drawn[name].min() < low + 0.01 * span, name
            assert high - 0.01 * span < drawn[name].max() <= high + 1e-9, name
            assert abs(drawn[name].mean() - (low + high) / 2) < 0.03 * span, name
        assert 0.45 < drawn["flip"].mean() < 0.55
        correlations = np.corrcoef(list(drawn.values())) - np.eye(len(drawn))
        assert np.abs(correlations).max() < 0.1  # no two of them share a draw

    def test_ranges_of_zero_change_nothing(self):
        still = perturbed(
            *"abcdefgh", rotation=0, shear=0, zoom=0, horizontal_flip=False,
            channel_shift=0, brightness=(1, 1),
        )  # fmt: skip
        np.testing.assert_allclose(still, np.tile([1, 0, 0, 0, 1, 0, 0, 0, 0, 1], (8, 1)))

    def test_a_perturbed_image_is_image_data_generators(self):
        image, ids = smooth(32), [f"image {n}" for n in range(40)]
        maps, tones = augment.perturbations(
            PERTURBATION.model_copy(update={"shear": 25.0, "channel_shift": 30.0}), (32, 32), ids, 0
        )
        batch = np.repeat(image[np.newaxis], len(ids), axis=0)
        ours = keras.ops.convert_to_numpy(
            augment.transform_images(batch, augment.transforms(maps, tones))
        )
        drawn = undone(maps, (32, 32))
        for n, (shift, brightness) in enumerate(tones):
            settings = {name: values[n] for name, values in drawn.items()}
            settings["flip_horizontal"] = bool(settings.pop("flip"))
            theirs = ImageDataGenerator(fill_mode="nearest").apply_transform(
                image, settings | {"channel_shift_intensity": shift, "brightness": brightness}
            )
            too_bright = ours[n] - theirs
            assert too_bright.min() > -0.05
            assert too_bright.max() < rounding_of(brightness) + 0.05


def rounding_of(brightness: float) -> float:
    """Grey values that ImageDataGenerator may lose.

    Its brightness is Pillow's, which works on whole values: decimals are cut off before and after
    the multiplication.
    """
    return brightness + 1


def toned(images: np.ndarray, *tones: tuple[float, float]) -> np.ndarray:
    return keras.ops.convert_to_numpy(
        augment.ToneAugmentation()([images.astype("float32"), np.array(tones, "float32")])
    )


class TestToneAugmentation:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(
        ("shift", "brightness"),
        [(0.9, 1.0), (-0.9, 0.5), (0.4, 1.5), (60.0, 1.5), (-60.0, 1.5), (30.5, 0.0), (0.0, 9.0)],
    )
    def test_is_image_data_generators(self, shift, brightness, channels):
        # Neither black nor white, and no channel like another: a shift stops at the least and the
        # greatest of the whole image.
        image = np.random.default_rng(0).integers(60, 200, (16, 16, channels))
        image = (image - 20 * np.arange(channels)).astype("float32")
        theirs = ImageDataGenerator().apply_transform(
            image, {"channel_shift_intensity": shift, "brightness": brightness}
        )
        too_bright = toned(image[np.newaxis], (shift, brightness))[0] - theirs
        assert too_bright.min() > -0.001
        assert too_bright.max() < rounding_of(brightness) + 0.001

    @pytest.mark.parametrize("shift", [0.9, -0.9, 60.0, -60.0])
    def test_shift_is_image_data_generators_to_the_bit(self, shift):
        image = np.random.default_rng(0).integers(40, 200, (16, 16, 1)).astype("float32")
        theirs = ImageDataGenerator().apply_transform(image, {"channel_shift_intensity": shift})
        np.testing.assert_array_equal(toned(image[np.newaxis], (shift, 1))[0], theirs)

    def test_without_shift_and_brightness_changes_nothing(self):
        images = np.random.default_rng(0).uniform(0, 255, (3, 9, 7, 1)).astype("float32")
        images[0, 0, 0], images[1, 0, 0] = 0, 255
        np.testing.assert_array_equal(toned(images, (0, 1), (0, 1), (0, 1)), images)

    def test_shifts_each_image_within_its_own_range(self):
        dark_and_light = np.array([[10, 20, 30], [110, 120, 130]])[:, np.newaxis, :, np.newaxis]
        found = toned(dark_and_light, (15, 2), (-15, 1))[:, 0, :, 0]
        assert found.tolist() == [[50, 60, 60], [110, 110, 115]]

    @pytest.mark.parametrize("shift", [-255, 0, 255])
    @pytest.mark.parametrize("brightness", [0, 1, 100])
    def test_stays_within_black_and_white(self, shift, brightness):
        image = np.arange(256).reshape(1, 16, 16, 1)
        found = toned(image, (shift, brightness))
        assert found.min() >= 0 and found.max() <= 255

    def test_one_pixel_changes_in_brightness_alone(self):
        """Its darkest value is its brightest, so a shift cannot change it."""
        assert toned(np.full((1, 1, 1, 1), 70), (40, 2)).item() == 140


@pytest.mark.parametrize(
    ("kind", "numbers"), [(augment.AffineAugmentation, 8), (augment.ToneAugmentation, 2)]
)
def test_a_layer_survives_serialisation(kind, numbers):
    image, transform = keras.Input((8, 8, 1), dtype="uint8"), keras.Input((numbers,))
    model = keras.Model([image, transform], kind(name="of_interest")([image, transform]))
    again = keras.models.model_from_json(model.to_json())
    assert isinstance(again.get_layer("of_interest"), kind)
    assert json.loads(again.to_json()) == json.loads(model.to_json())
    assert again.output_shape == (None, 8, 8, 1)


@pytest.mark.parametrize(
    ("kind", "dtype", "nothing"),
    [
        (augment.AffineAugmentation, "uint8", [1, 0, 0, 0, 1, 0, 0, 0]),
        (augment.ToneAugmentation, "float32", [0, 1]),
    ],
)
def test_a_layer_keeps_float32_under_mixed_bfloat16(kind, dtype, nothing):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        image = np.full((1, 4, 4, 1), 201, dtype)  # bfloat16 has 200 and 202 alone
        changed = kind()([image, np.array([nothing], "float32")])
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.backend.standardize_dtype(changed.dtype) == "float32"
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(changed), image)


def test_transforms_are_eight_numbers_of_the_map_and_two_of_the_tone():
    maps = np.arange(18.0).reshape(2, 3, 3)
    found = augment.transforms(maps, np.array([[-0.5, 0.9], [0.5, 1.1]]))
    assert (found.dtype, found.shape) == (np.float32, (2, augment.TRANSFORM))
    np.testing.assert_allclose(found[1], [*range(9, 17), 0.5, 1.1])
    assert augment.transforms(maps)[:, 8:].tolist() == [[0, 1], [0, 1]]  # grey stays as it is
