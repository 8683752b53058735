"""Each kind of shift by hand, on images whose answer is known."""

import io

import numpy as np
import pytest
from PIL import Image

from cxr import seeding
from cxr.errors import InputError
from cxr.shifts import kinds, sets

SIZE = 32
NOISE = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE)).astype("uint8")
RAMP = np.tile(np.arange(SIZE, dtype="uint8") * 4 + 40, (SIZE, 1))  # brighter to the right
GREY = np.full((SIZE, SIZE), 100, dtype="uint8")
EVERY = {
    (shift.kind, shift.strength)
    for shift in (sets.NONE, *sets.VALIDATION, *sets.CURVE, *sets.MASKED)
}


def shifted(pixels: np.ndarray, kind: str, strength: float, label: int = 0, name: str = "x"):
    return kinds.shifted(pixels, kind, strength, label, seeding.generator(0, name))


@pytest.mark.parametrize(("kind", "strength"), sorted(EVERY))
class TestEveryKind:
    def test_keeps_shape_and_type_and_leaves_the_image_alone(self, kind, strength):
        before = NOISE.copy()
        found = shifted(NOISE, kind, strength)
        assert (found.shape, found.dtype) == (NOISE.shape, np.uint8)
        np.testing.assert_array_equal(NOISE, before)
        assert (found != NOISE).any() == (kind != "none")

    def test_is_the_same_each_time(self, kind, strength):
        np.testing.assert_array_equal(
            shifted(NOISE, kind, strength), shifted(NOISE, kind, strength)
        )

    def test_takes_an_image_of_one_pixel(self, kind, strength):
        found = shifted(np.array([[7]], "uint8"), kind, strength)
        assert found.shape == (1, 1)
        if kind in ("rotation", "blur", "resolution", "magnify_x", "anti_geometry", "centre"):
            assert found[0, 0] == 7


@pytest.mark.parametrize(
    ("kind", "strength"),
    [
        ("rotation", 0), ("brightness", 1), ("contrast", 1), ("gamma", 1), ("blur", 0),
        ("noise", 0), ("resolution", 1), ("sharpen", 0), ("magnify_x", 1), ("magnify_y", 1),
        ("centre", 0), ("outside", 1),
    ],
)  # fmt: skip
def test_the_neutral_strength_changes_nothing(kind, strength):
    np.testing.assert_array_equal(shifted(NOISE, kind, strength), NOISE)


@pytest.mark.parametrize(
    ("kind", "strength", "expected"),
    [
        ("brightness", 1.5, 150), ("brightness", 4, 255), ("contrast", 3, 100),
        ("gamma", 2, round(100**2 / 255)), ("gamma", 0.5, round((100 * 255) ** 0.5)),
        ("blur", 5, 100), ("rotation", 30, 100), ("resolution", 0.125, 100), ("jpeg", 50, 100),
        ("sharpen", 200, 100), ("centre", 0.8, 100), ("outside", 0.8, 100),
    ],
)  # fmt: skip
def test_of_an_even_image(kind, strength, expected):
    found = shifted(GREY, kind, strength).astype(int)
    assert np.abs(found - expected).max() <= (1 if kind == "jpeg" else 0)


def test_contrast_moves_values_away_from_the_mean():
    half = np.repeat([[80, 120]], 16, axis=0).repeat(8, axis=1).astype("uint8")  # mean 100
    assert set(shifted(half, "contrast", 2).ravel()) == {60, 140}
    assert set(shifted(half, "contrast", 0.5).ravel()) == {90, 110}


def test_magnification_is_about_the_centre_along_one_axis_with_a_replicated_border():
    middle = (SIZE - 1) / 2
    for factor in (0.5, 2):
        found = shifted(RAMP, "magnify_x", factor).astype(int)
        source = ((np.arange(SIZE) - middle) / factor + middle).clip(0, SIZE - 1)
        np.testing.assert_allclose(found, np.tile(source * 4 + 40, (SIZE, 1)), atol=0.51)
        np.testing.assert_array_equal(shifted(RAMP.T, "magnify_y", factor), found.T)
        np.testing.assert_array_equal(shifted(RAMP, "magnify_y", factor), RAMP)


def test_anti_geometry_stretches_normal_and_compresses_pneumonia_vertically():
    for label, factor in enumerate((1.2, 0.87)):
        found = shifted(NOISE, "anti_geometry", 1.2, label)
        np.testing.assert_array_equal(found, shifted(NOISE, "magnify_y", factor))


def test_rotation_turns_by_the_angle_in_a_drawn_direction():
    dot = np.zeros((33, 33), dtype="uint8")
    dot[16, 26:29] = 255  # to the right of the centre
    seen = set()
    for name in "abcdefgh":
        rows, columns = np.nonzero(shifted(dot, "rotation", 90, name=name) > 128)
        assert set(columns) == {16}
        seen.add(bool(rows.mean() < 16))
    assert seen == {True, False}


def test_blur_spreads_a_dot_as_a_gaussian_of_that_share_of_the_side():
    dot = np.zeros((101, 101), dtype="uint8")
    dot[50, 50] = 255
    found = shifted(dot, "blur", 100 / 101)  # one pixel
    for distance in (0, 1, 2):
        expected = 255 / (2 * np.pi) * np.exp(-(distance**2) / 2)
        assert found[50, 50 + distance] == pytest.approx(expected, abs=1)


def test_noise_has_the_standard_deviation_and_depends_on_the_image():
    grey = np.full((200, 200), 128, dtype="uint8")
    one, other = (shifted(grey, "noise", 10, name=name).astype(float) for name in "ab")
    assert one.std() == pytest.approx(10, rel=0.03) and one.mean() == pytest.approx(128, abs=0.3)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


def test_jpeg_is_what_the_decoder_gives():
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, "JPEG", quality=20)
    np.testing.assert_array_equal(shifted(NOISE, "jpeg", 20), np.asarray(Image.open(stream)))


def test_resolution_leaves_the_mean_of_large_squares():
    checks = np.kron(np.indices((2, 2)).sum(axis=0) % 2 * 200, np.ones((16, 16))).astype("uint8")
    stripes = np.tile([0, 200], (32, 16)).astype("uint8")
    assert shifted(checks, "resolution", 0.25)[4, 4] == 0
    found = shifted(stripes, "resolution", 0.25)
    assert np.abs(found[:, 4:-4].astype(int) - 100).max() <= 15


class TestMasks:
    def test_blank_the_middle_or_the_rest_with_the_mean_of_what_is_left(self):
        pixels = np.full((10, 10), 50, dtype="uint8")
        pixels[1:9, 1:9] = 200
        assert (shifted(pixels, "centre", 0.8) == 50).all()
        assert (shifted(pixels, "outside", 0.8) == 200).all()

    def test_of_the_centre_tells_nothing_of_the_lungs(self):
        other = NOISE.copy()
        other[4:28, 4:28] = 255
        np.testing.assert_array_equal(shifted(NOISE, "centre", 0.8), shifted(other, "centre", 0.8))
        assert (shifted(NOISE, "outside", 0.8)[:3] == shifted(NOISE, "outside", 0.8)[0, 0]).all()


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="no shift 'fog': there are none, rotation"):
        shifted(GREY, "fog", 1)
