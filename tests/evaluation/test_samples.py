"""Samples: the first test images of each class, perturbed as in the evaluation."""

import numpy as np
import pytest

from cxr import augment
from cxr.evaluation.samples import samples
from cxr.training import batches
from tests.evaluation.spot import IMAGES, INDEX, NO_PERTURBATION, TEST
from tests.small import PERTURBATION, SIZE, xrays


def test_they_are_the_first_three_test_images_of_each_class():
    relabelled = INDEX.set_index(np.arange(len(INDEX))[::-1])  # places count, not index labels
    clean, perturbed = samples(IMAGES, relabelled, PERTURBATION, 0)
    labels = INDEX["label"].to_numpy()[TEST]
    rows = [*TEST[labels == 0][:3], *TEST[labels == 1][:3]]
    assert (clean.dtype, perturbed.dtype) == (np.uint8, np.uint8)
    assert clean.shape == perturbed.shape == (6, SIZE, SIZE)
    np.testing.assert_array_equal(clean, IMAGES[rows])


def test_they_are_perturbed_as_in_the_evaluation():
    clean, perturbed = samples(IMAGES, INDEX, PERTURBATION, 0)
    maps, tones = batches.perturbations(PERTURBATION, IMAGES, INDEX, 0)
    rows = [int(np.flatnonzero((image == IMAGES).all(axis=(1, 2)))[0]) for image in clean]
    given = augment.transforms(maps[rows], tones[rows])
    expected = np.asarray(augment.transform_images(clean[..., np.newaxis], given))[..., 0]
    np.testing.assert_allclose(perturbed, expected, atol=0.51)  # rounded to whole values
    assert all((one != other).any() for one, other in zip(clean, perturbed, strict=True))


def test_no_perturbation_changes_nothing():
    np.testing.assert_array_equal(*samples(IMAGES, INDEX, NO_PERTURBATION, 0))


@pytest.mark.parametrize(("counts", "shown"), [((1, 2), 3), ((0, 4), 3), ((5, 1), 4)])
def test_a_small_test_set_gives_fewer(counts, shown):
    clean, perturbed = samples(*xrays({"test": counts}), PERTURBATION, 0)
    assert len(clean) == len(perturbed) == shown
