"""The picture of what each kind of shift does."""

import numpy as np
import pytest

from cxr.shifts import sets
from cxr.shifts import sheet as drawn
from tests.small import xrays


def test_the_strongest_of_each_kind_and_direction_are_shown():
    found = drawn.strongest()
    assert found[0] == sets.NONE
    assert len(found) == len(set(found))
    for shift in (("rotation", 30), ("jpeg", 5), ("resolution", 0.125), ("contrast", 0.5),
                  ("contrast", 2), ("blur", 2), ("magnify_x", 0.85), ("outside", 0.8)):  # fmt: skip
        assert shift in found
    assert ("blur", 1.5) not in found and ("brightness", 0.75) not in found


@pytest.mark.parametrize("counts", [(2, 3), (0, 2), (1, 0), (0, 0)])
def test_there_is_an_image_of_each_class_that_there_is(counts):
    images, index = xrays({"test": counts, "train": (1, 1)}, 32)
    sheet = np.asarray(drawn.draw(images.__getitem__, index, 0))
    classes = sum(count > 0 for count in counts)
    lines = -(-len(drawn.strongest()) // drawn.COLUMNS)
    side = drawn.SIDE + drawn.GAP
    assert sheet.shape[0] == drawn.GAP + lines * (drawn.CAPTION + classes * side + drawn.GAP)
    assert sheet.shape[1] == drawn.COLUMNS * side + drawn.GAP
    np.testing.assert_array_equal(sheet, np.asarray(drawn.draw(images.__getitem__, index, 0)))
