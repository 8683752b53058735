"""Perceptual hashes and the pairs that are close."""

import numpy as np
import pytest
from PIL import Image

from cxr.audit import perceptual_hash
from tests.audit.made import chest


def hashed(*images: np.ndarray) -> np.ndarray:
    stack = np.stack(images)
    return perceptual_hash.hashes(perceptual_hash.thumbnails(stack, np.arange(len(stack))))


def distance(one: np.ndarray, other: np.ndarray) -> int:
    first, second = hashed(one, other)
    return int(first ^ second).bit_count()


class TestHashes:
    def test_bits_are_the_low_frequencies_above_their_median(self):
        """The transform, written out as its definition's double sum."""
        draws = np.random.default_rng(0)
        pixels = draws.integers(0, 256, (32, 32)).astype("uint8")
        n = np.arange(32)
        waves = np.cos(np.pi * (2 * n[np.newaxis] + 1) * n[:8, np.newaxis] / 64)
        low = (waves @ pixels.astype(float) @ waves.T).ravel()
        expected = int("".join("1" if v > np.median(low) else "0" for v in low), 2)
        assert int(hashed(pixels)[0]) == expected

    def test_differ_little_for_a_brighter_or_smaller_copy_and_much_for_noise(self):
        image = chest()
        brighter = np.clip(image * 1.1 + 10, 0, 255).astype("uint8")
        smaller = np.asarray(Image.fromarray(image).resize((40, 40)).resize((64, 64)))
        noise = np.random.default_rng(1).integers(0, 256, (64, 64)).astype("uint8")
        assert distance(image, image) == 0
        assert distance(image, brighter) <= 6
        assert distance(image, smaller) <= 6
        assert distance(image, noise) > 16

    def test_of_a_constant_image_and_of_none_are_defined(self):
        assert len(hashed(np.full((1, 1), 7, "uint8"))) == 1
        assert len(perceptual_hash.hashes(np.empty((0, 32, 32), "uint8"))) == 0


class TestPairs:
    @pytest.mark.parametrize("block", [1, 2**22])
    def test_are_all_within_the_distance_each_once(self, block, monkeypatch):
        monkeypatch.setattr(perceptual_hash, "BLOCK", block)
        found = np.random.default_rng(2).integers(0, 16, 30).astype("uint64")
        expected = {
            (a, b, int(found[a] ^ found[b]).bit_count())
            for a in range(30) for b in range(a + 1, 30)
            if int(found[a] ^ found[b]).bit_count() <= 2
        }  # fmt: skip
        got = [
            tuple(map(int, pair))
            for one, other, bits in perceptual_hash.pairs(found, 2)
            for pair in zip(one, other, bits, strict=True)
        ]
        assert len(got) == len(expected)
        assert set(got) == expected

    def test_of_one_or_no_image_are_none(self):
        for count in (0, 1):
            blocks = perceptual_hash.pairs(np.zeros(count, "uint64"), 64)
            assert sum(len(one) for one, _, _ in blocks) == 0
