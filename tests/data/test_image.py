"""Images: decoded to grey, hashed by their pixels, and brought to squares known by hand."""

import hashlib

import numpy as np
import pytest

from cxr.data import image

PIXELS = np.arange(6, dtype="uint8").reshape(2, 3)
SQUARES = (image.squash, image.letterbox, image.center_crop)


def array(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype="uint8")


class TestDecode:
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK"])
    def test_gives_grey_of_any_mode_of_8_bits(self, jpeg, mode):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        pixels, stored = image.decode(jpeg(200, size=(3, 2), mode=mode, kind=kind))
        np.testing.assert_array_equal(pixels, np.full((2, 3), 200))
        assert pixels.dtype == np.uint8 and stored == mode

    def test_one_bit_becomes_black_and_white(self, jpeg):
        pixels = np.array([[0, 255]], dtype="uint8")
        decoded, stored = image.decode(jpeg(pixels, mode="1", kind="PNG"))
        assert stored == "1" and decoded.tolist() == [[0, 255]]

    def test_weights_colours_by_their_luma(self, jpeg):
        """ITU-R 601: 0.299 R + 0.587 G + 0.114 B."""
        red, green, blue = (np.eye(3, dtype="uint8")[i].reshape(1, 1, 3) * 255 for i in range(3))
        found = [
            int(image.decode(jpeg(colour, mode="RGB", kind="PNG"))[0].item())
            for colour in (red, green, blue)
        ]
        assert found == [76, 150, 29]

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_grey_stored_as_rgb_gives_the_same_pixels(self, jpeg, kind):
        pixels = np.arange(256, dtype="uint8").reshape(16, 16)
        grey, _ = image.decode(jpeg(pixels, kind=kind))
        rgb, mode = image.decode(jpeg(pixels, mode="RGB", kind=kind))
        assert mode == "RGB"
        np.testing.assert_array_equal(rgb, grey)


class TestPixelHash:
    def test_has_128_bits_and_never_changes(self):
        """Written down once: a new value would regroup every data set."""
        expected = "cc17d569d72ced159ac6fff9e562e34d"
        assert image.pixel_hash(PIXELS) == expected
        assert hashlib.sha256(b"(2, 3)" + bytes(range(6))).hexdigest().startswith(expected)

    @pytest.mark.parametrize(
        "same",
        [PIXELS.copy(), np.asfortranarray(PIXELS), np.repeat(PIXELS, 2, axis=1)[:, ::2]],
        ids=["a copy", "another order in memory", "a view with steps"],
    )
    def test_is_equal_where_the_pixels_are(self, same):
        assert image.pixel_hash(same) == image.pixel_hash(PIXELS)

    @pytest.mark.parametrize(
        "other",
        [
            PIXELS.reshape(3, 2),
            PIXELS.reshape(1, 6),
            PIXELS + np.eye(2, 3, dtype="uint8"),
            PIXELS.T,
        ],
        ids=["another shape", "one row", "other values", "turned"],
    )
    def test_differs_where_size_or_pixels_do(self, other):
        assert image.pixel_hash(other) != image.pixel_hash(PIXELS)


class TestSquares:
    @pytest.mark.parametrize("square", SQUARES, ids=lambda square: square.__name__)
    def test_leave_a_square_of_the_right_size_unchanged(self, square):
        grey = np.arange(36, dtype="uint8").reshape(6, 6)
        np.testing.assert_array_equal(square(grey, 6), grey)

    @pytest.mark.parametrize("square", SQUARES, ids=lambda square: square.__name__)
    def test_fill_the_square_with_a_single_pixel(self, square):
        np.testing.assert_array_equal(square(array([77]), 4), np.full((4, 4), 77))

    @pytest.mark.parametrize("square", SQUARES, ids=lambda square: square.__name__)
    @pytest.mark.parametrize("shape", [(1, 500), (500, 1), (3, 7), (4, 4)])
    def test_have_the_right_size_and_type_for_any_shape(self, square, shape):
        found = square(np.full(shape, 9, dtype="uint8"), 4)
        assert found.shape == (4, 4) and found.dtype == np.uint8 and found.max() == 9

    def test_squash_stretches_to_the_whole_square(self):
        """Two wide halves of 2 x 4 stay halves; no pixel straddles them."""
        grey = array([10, 10, 10, 10, 200, 200, 200, 200], [10, 10, 10, 10, 200, 200, 200, 200])
        found = image.squash(grey, 2)
        assert found.shape == (2, 2)
        assert (np.diff(found, axis=0) == 0).all() and found[0, 0] < 40 and found[0, 1] > 170

    def test_squash_averages_what_a_pixel_covers(self):
        """A fine checkerboard becomes an even grey: no aliasing."""
        board = np.indices((64, 64)).sum(axis=0) % 2 * 200
        found = image.squash(board.astype("uint8"), 4)
        np.testing.assert_allclose(found, 100, atol=2)

    @pytest.mark.parametrize(
        ("shape", "inside"),
        [
            ((2, 4), np.s_[1:3, :]),
            ((4, 2), np.s_[:, 1:3]),
            ((8, 16), np.s_[1:3, :]),
            ((1, 2), np.s_[1:3, :]),
            ((3, 4), np.s_[0:3, :]),
            ((1, 500), np.s_[1:2, :]),
            ((500, 1), np.s_[:, 1:2]),
        ],
        ids=["wide", "high", "larger", "smaller", "an odd row", "a line", "a column"],
    )
    def test_letterbox_keeps_the_aspect_and_pads_with_black(self, shape, inside):
        expected = np.zeros((4, 4), dtype="uint8")
        expected[inside] = 50
        np.testing.assert_array_equal(image.letterbox(np.full(shape, 50, "uint8"), 4), expected)

    @pytest.mark.parametrize(
        ("grey", "expected"),
        [
            (array([1, 2, 3, 4], [5, 6, 7, 8]), array([2, 3], [6, 7])),
            (array([1, 2], [3, 4], [5, 6], [7, 8]), array([3, 4], [5, 6])),
            (array([1, 2, 3], [4, 5, 6]), array([1, 2], [4, 5])),
            (array([0, 0, 9, 0, 0]), array([9, 9], [9, 9])),
        ],
        ids=["wide", "high", "an odd column", "one row"],
    )
    def test_center_crop_cuts_the_longer_side(self, grey, expected):
        np.testing.assert_array_equal(image.center_crop(grey, 2), expected)
