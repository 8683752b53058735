"""The composed map: ImageDataGenerator's to the matrix and to the pixel, and the same each time."""

import json

import keras
import numpy as np
import pytest
import scipy.ndimage
from keras.src.legacy.preprocessing.image import ImageDataGenerator

from cxr import augment, params

ARTICLE = params.Augmentation(
    rotation=40, width_shift=0.3, height_shift=0.4, shear=0.2, zoom=0.4, horizontal_flip=True
)
# The article's shear of 0.2 degrees moves next to nothing: a test of the order needs more.
WILD = ARTICLE.model_copy(update={"shear": 25.0})
NOTHING = {"theta": 0.0, "tx": 0.0, "ty": 0.0, "shear": 0.0, "zx": 1.0, "zy": 1.0, "flip": 0.0}


def row(**changes: float) -> np.ndarray:
    """One row of draws: the identity but for what is named."""
    return np.array([[(NOTHING | changes)[name] for name in augment.DRAWS]])


def smooth(side: int) -> np.ndarray:
    """A picture without symmetry or edges, float32 [side, side, 1], about 0 to 255."""
    y, x = np.mgrid[:side, :side] / side
    picture = 128 + 60 * np.sin(3.1 * x + 1.7 * y) + 50 * np.cos(4.3 * y - 1.1 * x) + 15 * x
    return picture[..., np.newaxis].astype("float32")


def generator_warps(picture: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """What ImageDataGenerator makes of a picture for one row of draws."""
    named = dict(zip(augment.DRAWS, draw, strict=True))
    named["flip_horizontal"] = bool(named.pop("flip"))
    return ImageDataGenerator(fill_mode="nearest").apply_transform(picture, named)


def layer_warps(picture: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """What ours makes of a picture for one row of draws."""
    given = augment.transforms(augment.matrices(draws, picture.shape[:2]))
    batch = np.repeat(picture[np.newaxis], len(draws), axis=0)
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
    picture = smooth(side)
    expected = generator_warps(picture, draws[0])
    assert np.abs(expected - picture).max() > 5  # the map does something
    np.testing.assert_allclose(layer_warps(picture, draws)[0], expected, atol=0.02)


@pytest.mark.parametrize("side", SIDES)
def test_maps_together_are_image_data_generators(side):
    picture = smooth(side)
    draws = augment.draw(WILD, (side, side), 60, 0, "train", 0, 0)
    expected = np.stack([generator_warps(picture, draw) for draw in draws])
    np.testing.assert_allclose(layer_warps(picture, draws), expected, atol=0.02)


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
        generator_warps(smooth(side), draw)
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
    picture = np.random.default_rng(0).integers(0, 256, (31, 20, 1)).astype(dtype)
    np.testing.assert_array_equal(layer_warps(picture, row())[0], picture.astype("float32"))


def test_each_image_of_a_batch_gets_its_own_map_and_channels_get_the_same():
    picture = np.repeat(smooth(12), 3, axis=-1)
    still, moved = layer_warps(picture, np.concatenate([row(), row(tx=3.0)]))
    np.testing.assert_array_equal(still, picture)
    np.testing.assert_allclose(moved[:, :-3], picture[:, 3:], atol=1e-3)
    np.testing.assert_allclose(moved[:, -3:], np.repeat(picture[:, -1:], 3, 1), atol=1e-3)


def test_one_pixel_survives_any_map():
    pixel = np.full((1, 1, 1), 77, "float32")
    draws = augment.draw(WILD, (1, 1), 5, 0)
    np.testing.assert_allclose(layer_warps(pixel, draws), np.full((5, 1, 1, 1), 77))


def test_draws_fill_their_ranges_and_stay_in_them():
    height, width = 100, 200
    draws = augment.draw(ARTICLE, (height, width), 4000, 0, "train", 0, 0)
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
    still = params.Augmentation(
        rotation=0, width_shift=0, height_shift=0, shear=0, zoom=0, horizontal_flip=False
    )
    draws = augment.draw(still, (32, 32), 9, 0, "train", 0, 0)
    np.testing.assert_array_equal(draws, np.repeat(row(), 9, axis=0))
    np.testing.assert_allclose(
        augment.matrices(draws, (32, 32)), np.tile(np.eye(3), (9, 1, 1)), atol=1e-12
    )


def test_the_same_seed_phase_epoch_and_step_draw_the_same():
    first = augment.draw(ARTICLE, (32, 32), 4, 7, "train", 3, 17)
    augment.draw(ARTICLE, (32, 32), 4, 7, "train", 3, 18)
    np.testing.assert_array_equal(augment.draw(ARTICLE, (32, 32), 4, 7, "train", 3, 17), first)


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
def test_other_batches_draw_others(seed, purpose):
    first = augment.draw(ARTICLE, (32, 32), 4, 7, "train", 3, 17)
    other = augment.draw(ARTICLE, (32, 32), 4, seed, *purpose)
    assert not np.any(first[:, :6] == other[:, :6])


def test_the_layer_survives_serialisation():
    image, transform = keras.Input((8, 8, 1), dtype="uint8"), keras.Input((8,))
    layer = augment.AffineAugmentation(name="warp")
    model = keras.Model([image, transform], layer([image, transform]))
    again = keras.models.model_from_json(model.to_json())
    assert isinstance(again.get_layer("warp"), augment.AffineAugmentation)
    assert json.loads(again.to_json()) == json.loads(model.to_json())
    assert again.output_shape == (None, 8, 8, 1)


def test_the_layer_keeps_float32_under_mixed_bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = augment.AffineAugmentation()
        picture = np.full((1, 4, 4, 1), 201, "uint8")  # bfloat16 has 200 and 202 alone
        warped = layer([picture, augment.transforms(np.eye(3)[np.newaxis])])
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.backend.standardize_dtype(warped.dtype) == "float32"
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(warped), picture)
