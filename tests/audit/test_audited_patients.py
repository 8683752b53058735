"""Patients in two splits, and what an image-level split leaks."""

import pytest

from cxr.audit import patients
from cxr.data import split
from tests.audit.made import manifest, many


class TestInTwoSplits:
    """Patients with images in more than one split."""

    ROWS = [("train", 0, "a"), ("test", 0, "a"), ("test", 0, "a"), ("val", 1, "b"),
            ("train", 1, "c"), ("train", 1, "c")]  # fmt: skip

    def test_are_counted_with_their_images(self):
        assert patients.in_two_splits(manifest(self.ROWS)) == {
            "patients": 3, "images_without": 0, "in_two_splits": 1, "images": 3
        }  # fmt: skip

    def test_nobody_can_tell_if_no_patient_is_known(self):
        table = manifest([("train", 0, "file-1"), ("test", 1, "file-2")], patient_known=False)
        found = patients.in_two_splits(table)
        assert found == {"patients": 2, "images_without": 2, "in_two_splits": None, "images": None}

    def test_some_known_patients_are_enough_to_find_one(self):
        table = manifest(self.ROWS, patient_known=[True, True, True, False, False, False])
        found = patients.in_two_splits(table)
        assert (found["images_without"], found["in_two_splits"]) == (3, 1)

    def test_one_image_is_in_one_split(self):
        assert patients.in_two_splits(manifest([("train", 0, "a")]))["in_two_splits"] == 0


class TestLeak:
    """Image-level splits with twenty seeds."""

    def test_is_that_of_each_seed(self):
        table = many()
        each = [split.image_level_leak(table, seed) for seed in range(20)]
        found = patients.leak(table)
        assert found == {
            "test_images": 20, "seeds": 20, "mean": pytest.approx(sum(each) / 20),
            "low": min(each), "high": max(each),
        }  # fmt: skip
        assert 0 < found["low"] < found["high"] <= 20

    def test_of_patients_with_one_image_each_is_0(self):
        table = many()
        found = patients.leak(table.assign(patient=table["id"]))
        assert (found["low"], found["mean"], found["high"]) == (0, 0, 0)

    def test_of_one_patient_is_every_test_image(self):
        found = patients.leak(many().assign(patient="a"))
        assert (found["low"], found["high"]) == (20, 20)

    def test_is_unknown_without_patients(self):
        assert patients.leak(many().assign(patient_known=False)) is None

    def test_of_one_image_is_0(self):
        found = patients.leak(manifest([("train", 0, "a")]))
        assert (found["test_images"], found["high"]) == (0, 0)
