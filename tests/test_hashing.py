"""Hashes: of files against hashlib, of pixels equal exactly where the pixels are."""

import hashlib

import numpy as np
import pytest

from cxr import files
from cxr.data import image

PIXELS = np.arange(6, dtype="uint8").reshape(2, 3)


@pytest.mark.parametrize(
    "data", [b"", b"abc", bytes(3_000_000)], ids=["nothing", "three bytes", "3 MB"]
)
def test_a_file_and_its_bytes_have_the_sha256_of_hashlib(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert files.file_sha256(tmp_path / "file") == expected
    assert files.bytes_sha256(data) == expected


def test_the_sha256_of_abc_is_the_standards():
    """FIPS 180-2, appendix B.1."""
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.bytes_sha256(b"abc") == expected


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
