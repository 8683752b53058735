"""Exact and near duplicates."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.stats import pearsonr

from cxr.audit import duplicates
from tests.audit.made import chest, manifest


def saved_again(pixels: np.ndarray, quality: int = 50) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def blotches(seed: int) -> np.ndarray:
    """A picture of random coarse structure: two of them do not correlate."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8)).astype("uint8")
    return np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC))


A, B, C = blotches(1), blotches(2), blotches(3)
# Two copies of A, one of them in the test set; A saved again; B twice, of two patients; C alone.
IMAGES = np.stack([A, A, saved_again(A), B, B, C])
TABLE = manifest(
    [("train", 0, "p"), ("test", 0, "p"), ("train", 1, "q"), ("val", 1, "r"), ("val", 1, "s"),
     ("test", 0, "t")],
    pixel_hash=["a", "a", "a2", "b", "b", "c"],
)  # fmt: skip


class TestFind:
    def test_links_equal_and_nearly_equal_images(self):
        found = duplicates.find(IMAGES, TABLE).set_index("id")
        assert found["group"].to_dict() == {
            "test/1": 1, "train/0": 1, "train/2": 1, "val/3": 2, "val/4": 2
        }  # fmt: skip
        assert found.loc["train/2", "kind"] == "near"
        assert duplicates.CORRELATION <= found.loc["train/2", "correlation"] < 1
        exact = found.drop("train/2")
        assert (exact["kind"] == "exact").all()
        assert (exact["distance"] == 0).all() and (exact["correlation"] == 1).all()

    def test_none_gives_an_empty_table(self):
        found = duplicates.find(IMAGES[[0, 3, 5]], TABLE.iloc[[0, 3, 5]].reset_index(drop=True))
        assert list(found.columns) == list(duplicates.COLUMNS)
        assert found.empty

    def test_one_image_has_none(self):
        assert duplicates.find(IMAGES[:1], TABLE.iloc[:1]).empty

    def test_constant_images_are_no_near_duplicates(self):
        """They have no structure that could be alike."""
        images = np.stack([np.full((8, 8), grey, "uint8") for grey in (0, 100, 100)])
        table = manifest([("train", 0, n) for n in "abc"], pixel_hash=["x", "y", "y"])
        found = duplicates.find(images, table)
        assert list(found["kind"]) == ["exact", "exact"]

    def test_thousands_of_equal_images_are_one_group(self):
        table = manifest([("train", 0, "a")] * 3000, pixel_hash="x")
        found = duplicates.find(np.broadcast_to(A, (3000, 64, 64)), table)
        assert len(found) == 3000 and set(found["group"]) == {1}

    def test_different_chests_are_no_duplicates(self):
        images = np.stack([chest(width=1.0), chest(width=0.8)])
        assert duplicates.find(images, manifest([("train", 0, "a"), ("test", 0, "b")])).empty


class TestSummary:
    def test_counts_groups_and_what_they_cross(self):
        found = duplicates.summary(duplicates.find(IMAGES, TABLE), TABLE)
        assert found["exact"] == {
            "groups": 2, "images": 4, "across_splits": 1, "across_patients": 1, "across_labels": 0
        }  # fmt: skip
        assert found["near"] == {
            "groups": 1, "images": 3, "across_splits": 1, "across_patients": 1, "across_labels": 1
        }  # fmt: skip
        assert found["in_test_and_rest"] == 1

    def test_two_pairs_that_are_nearly_equal_are_two_exact_and_one_near(self):
        images = np.stack([A, A, saved_again(A), saved_again(A)])
        table = manifest([("train", 0, "p")] * 4, pixel_hash=["a", "a", "b", "b"])
        found = duplicates.summary(duplicates.find(images, table), table)
        assert (found["exact"]["groups"], found["exact"]["images"]) == (2, 4)
        assert (found["near"]["groups"], found["near"]["images"]) == (1, 4)

    def test_of_no_duplicates_is_0(self):
        found = duplicates.summary(duplicates.find(IMAGES[:1], TABLE.iloc[:1]), TABLE)
        assert set(found["exact"].values()) == set(found["near"].values()) == {0}
        assert found["in_test_and_rest"] == 0


class TestCorrelation:
    def test_is_pearsons(self):
        draws = np.random.default_rng(0)
        one, other = draws.integers(0, 256, (2, 3, 5, 5)).astype("uint8")
        expected = [pearsonr(a.ravel(), b.ravel())[0] for a, b in zip(one, other, strict=True)]
        np.testing.assert_allclose(duplicates.correlation(one, other), expected, atol=1e-6)

    def test_ignores_brightness_and_contrast(self):
        assert duplicates.correlation(A[None] / 2 + 9, A[None])[0] == pytest.approx(1, abs=1e-6)

    def test_of_a_constant_image_is_0(self):
        assert duplicates.correlation(np.zeros((1, 64, 64)), A[None])[0] == 0
