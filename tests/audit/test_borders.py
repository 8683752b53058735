"""The rim, black bars and markers of a picture."""

import numpy as np
import pandas as pd
import pytest

from cxr.audit import borders

GREY = 60


def picture(side: int = 100) -> np.ndarray:
    return np.full((side, side), GREY, "uint8")


class TestBorder:
    def test_rim_is_the_outer_4_percent(self):
        pixels = picture()
        pixels[4:-4, 4:-4] = 200  # not seen
        pixels[:, :4] = 102
        mean, spread, *bars = borders.border(pixels)
        white = 4 * 100 / (100 * 100 - 92 * 92)  # share of the left columns
        assert mean == pytest.approx((white * 102 + (1 - white) * GREY) / 255)
        assert spread == pytest.approx(42 * np.sqrt(white * (1 - white)) / 255)
        assert bars == [0, 0, 0, 0]

    def test_bars_are_measured_on_each_side(self):
        pixels = picture()
        pixels[:, :3], pixels[:, -5:], pixels[:7], pixels[-2:] = 0, 4, 0, 0
        assert borders.border(pixels)[2:] == (0.03, 0.05, 0.07, 0.02)

    def test_of_a_black_picture_are_the_whole_side(self):
        assert borders.border(np.zeros((50, 50), "uint8")) == (0, 0, 1, 1, 1, 1)

    def test_of_one_pixel_is_that_pixel(self):
        assert borders.border(np.full((1, 1), 51, "uint8")) == (0.2, 0, 0, 0, 0, 0)


class TestMarkers:
    def test_are_bright_spots_near_an_edge(self):
        pixels = picture()
        pixels[10:14, 80:85] = 255
        pixels[50:53, 2:4] = 220
        count, area, largest, x, y = borders.markers(pixels)
        assert (count, area, largest) == (2, pytest.approx(26e-4), pytest.approx(20e-4))
        assert (x, y) == (pytest.approx(0.825), pytest.approx(0.12))

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param((slice(48, 52), slice(48, 52), 255), id="in the middle"),
            pytest.param((slice(0, 30), slice(0, 30), 255), id="as large as a shoulder"),
            pytest.param((slice(10, 11), slice(5, 60), 255), id="as long as a collar bone"),
            pytest.param((slice(5, 10), slice(5, 10), 150), id="grey"),
        ],
    )
    def test_are_not_what_is(self, change):
        pixels = picture()
        rows, columns, grey = change
        pixels[rows, columns] = grey
        assert borders.markers(pixels)[:3] == (0, 0, 0)

    def test_are_on_dark_ground(self):
        pixels = np.full((100, 100), 180, "uint8")  # a bright body
        pixels[5:10, 5:10] = 255
        assert borders.markers(pixels)[0] == 0

    @pytest.mark.parametrize("grey", [0, 255])
    def test_of_a_constant_picture_are_none(self, grey):
        found = borders.markers(np.full((40, 40), grey, "uint8"))
        assert found[:3] == (0, 0, 0) and np.isnan(found[3:]).all()


def test_large_markers_are_listed():
    small, large, several = (picture() for _ in range(3))
    small[5:7, 5:7] = 255
    large[5:7, 5:8] = 255  # 6 of 10,000 pixels
    several[5:7, 5:7], several[5:7, 90:92] = 255, 255
    measured = borders.measure(np.stack([small, large, several]))
    manifest = pd.DataFrame({"id": list("abc"), "split": "train", "label": [0, 1, 0], "x": 0})
    found = borders.large_markers(measured, manifest)
    assert found.to_dict("list") == {
        "id": ["b", "c"], "split": ["train"] * 2, "label": [1, 0],
        "marker_area": [pytest.approx(6e-4), pytest.approx(8e-4)],
    }  # fmt: skip


def test_every_image_has_a_row():
    found = borders.measure(np.stack([picture(), np.zeros((100, 100), "uint8")]))
    assert list(found.columns) == [*borders.BORDER, *borders.MARKERS]
    assert found["black_top"].tolist() == [0, 1]
