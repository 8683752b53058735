"""The wall of suspects."""

import numpy as np

from cxr.audit import wall
from tests.audit.made import manifest


def suspected(count: int):
    table = manifest([("train", 0, "a")] * count).assign(probability=0.99)
    return np.zeros((count, 8, 8), "uint8"), table


def black(picture: np.ndarray) -> int:
    """How many whole X-rays are on the wall: black images on white paper."""
    return round((picture == 0).sum() / wall.SIDE**2)


def test_every_suspect_has_its_image_in_rows():
    images, table = suspected(7)
    drawn = np.asarray(wall.draw(images, table, table))
    assert black(drawn) == 7
    assert drawn.shape[0] == 2 * (wall.SIDE + wall.CAPTION + wall.GAP) + wall.GAP


def test_shows_the_image_of_the_id():
    images = np.arange(0, 250, 50, dtype="uint8")[:, None, None] * np.ones((1, 4, 4), "uint8")
    table = manifest([("train", 1, n) for n in "abcde"]).assign(probability=0.01)
    drawn = np.asarray(wall.draw(images, table, table.iloc[[3, 1]]))
    centre = wall.GAP + wall.CAPTION + wall.SIDE // 2
    step = wall.SIDE + wall.GAP
    assert [drawn[centre, wall.GAP + 50 + n * step] for n in (0, 1)] == [150, 50]


def test_is_cut_at_its_size():
    images, table = suspected(wall.MOST + 5)
    assert black(np.asarray(wall.draw(images, table, table))) == wall.MOST


def test_without_suspects_it_says_so():
    images, table = suspected(1)
    drawn = wall.draw(images, table, table.iloc[:0])
    assert 0 < (np.asarray(drawn) < 255).sum() < 2000
