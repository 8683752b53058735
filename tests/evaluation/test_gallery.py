"""The gallery: which images are in it, and what is drawn of them."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from cxr.evaluation import gallery
from tests.small import xrays

TEST = pd.DataFrame(
    {
        "id": ["e", "d", "c", "b", "a", "f", "g"],
        "label": [1, 1, 1, 1, 1, 0, 0],
        "probability": [0.9, 0.7, 0.9, 0.9, 0.2, 0.5, 0.1],
    }
)
SIDE = gallery.SIDE


def draw(test: pd.DataFrame = TEST, threshold: float = 0.5, maps: np.ndarray | None = None):
    images, _ = xrays({"test": (0, len(test))}, SIDE)
    if maps is None:
        maps = np.random.default_rng(0).random((len(test), 4, 4))
    return images, *gallery.draw(images, maps, test, threshold)


class TestChoice:
    @pytest.mark.parametrize(
        ("label", "positive", "ids", "count"),
        [(1, True, "bce", 4), (1, False, "a", 1), (0, True, "f", 1), (0, False, "g", 1)],
    )
    def test_each_cell_has_its_most_confident_ties_by_id(self, label, positive, ids, count):
        places, found = gallery.most_confident(TEST, label, positive, 0.5)
        assert TEST["id"].iloc[places].tolist() == list(ids)
        assert found == count

    def test_negatives_are_confident_at_low_probabilities(self):
        places, _ = gallery.most_confident(TEST, 1, False, 0.95)
        assert TEST["id"].iloc[places].tolist() == ["a", "d", "b"]

    def test_the_order_of_the_rows_does_not_matter(self):
        turned = TEST.iloc[::-1]  # with its own index labels: places count
        places, _ = gallery.most_confident(turned, 1, True, 0.5)
        assert turned["id"].iloc[places].tolist() == ["b", "c", "e"]

    def test_nan_is_below_every_threshold_and_the_least_confident(self):
        test = TEST.assign(probability=[np.nan, 0.3, 0.2, 0.1, np.nan, np.nan, np.nan])
        places, found = gallery.most_confident(test, 1, False, 0.5)
        assert (test["id"].iloc[places].tolist(), found) == (["b", "c", "d"], 5)


class TestTable:
    def test_it_has_a_row_for_each_tile(self):
        _, _, table = draw()
        assert list(table.columns) == list(gallery.COLUMNS)
        assert table["cell"].tolist() == ["TP", "TP", "TP", "TN", "FP", "FN"]
        assert table["id"].tolist() == ["b", "c", "e", "g", "f", "a"]
        assert table["label"].tolist() == [1, 1, 1, 0, 0, 1]
        assert table["probability"].tolist() == [0.9, 0.9, 0.9, 0.1, 0.5, 0.2]

    def test_it_has_the_highest_value_of_each_map(self):
        maps = np.arange(7 * 16, dtype=float).reshape(7, 4, 4)
        _, _, table = draw(maps=maps)
        expected = [maps[TEST["id"].tolist().index(name)].max() for name in table["id"]]
        assert table["highest"].tolist() == expected

    def test_boxes_are_inside_the_picture_and_do_not_overlap(self):
        _, picture, table = draw()
        assert (table["left"] + table["width"] <= picture.width).all()
        assert (table["top"] + table["height"] <= picture.height).all()
        tops = {cell: rows["top"].iloc[0] for cell, rows in table.groupby("cell")}
        assert tops["TP"] < tops["TN"] < tops["FP"] < tops["FN"]
        rights = table["left"].iloc[:2] + table["width"].iloc[:2]
        assert (rights.to_numpy() < table["left"].iloc[1:3].to_numpy()).all()

    def test_a_test_set_without_images(self):
        test = TEST.iloc[:0]
        picture, table = gallery.draw(np.zeros((0, 9, 9), "uint8"), np.zeros((0, 2, 2)), test, 0.5)
        assert list(table.columns) == list(gallery.COLUMNS)
        assert len(table) == 0
        assert picture.size == draw()[1].size


class TestPicture:
    def test_a_tile_is_the_xray_and_the_xray_under_its_map(self):
        maps = np.random.default_rng(2).random((7, 4, 4))
        images, picture, table = draw(maps=maps)
        pixels = np.asarray(picture)
        for row in table.itertuples():
            place = TEST["id"].tolist().index(row.id)
            tile = pixels[row.top : row.top + SIDE, row.left : row.left + row.width]
            np.testing.assert_array_equal(
                tile[:, :SIDE], np.repeat(images[place][..., np.newaxis], 3, axis=2)
            )
            np.testing.assert_array_equal(
                tile[:, -SIDE:], gallery.overlay(images[place], maps[place])
            )

    def test_equal_input_gives_an_equal_picture(self):
        assert draw()[1].tobytes() == draw()[1].tobytes()

    def test_long_and_foreign_ids_stay_inside_their_tile(self):
        test = TEST.assign(id=[f"{'long/' * 60}Röntgen-{n}" for n in range(7)])
        _, picture, table = draw(test)
        pixels = np.asarray(picture)
        first = table.iloc[0]
        below = slice(first["top"] + SIDE, first["top"] + first["height"])
        right = first["left"] + first["width"]
        gap = pixels[below, right + 1 : right + gallery.GAP]
        np.testing.assert_array_equal(gap, np.broadcast_to(gallery.PAPER, gap.shape))
        assert table["id"].iloc[0].startswith("long/long")  # the table has it whole


class TestOverlay:
    IMAGE = np.random.default_rng(4).integers(0, 256, (32, 32)).astype("uint8")

    @pytest.mark.parametrize("value", [0.0, np.nan])
    def test_a_map_without_evidence_leaves_the_xray_as_it_is(self, value):
        found = gallery.overlay(self.IMAGE, np.full((4, 4), value))
        np.testing.assert_array_equal(found, np.repeat(self.IMAGE[..., np.newaxis], 3, axis=2))

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 500.0])
    def test_the_highest_value_has_the_last_colour_whatever_it_is(self, scale):
        found = gallery.overlay(self.IMAGE, np.full((1, 1), scale))
        last = np.array(mpl.colormaps[gallery.COLOURS](1.0)[:3]) * 255
        grey = self.IMAGE[..., np.newaxis].astype(float)
        expected = grey * (1 - gallery.OPACITY) + last * gallery.OPACITY
        np.testing.assert_allclose(found, expected, atol=0.51)  # rounded to whole values

    def test_where_the_map_is_zero_the_xray_is_as_it_is(self):
        values = np.zeros((4, 4))
        values[0, 0] = 2
        found = gallery.overlay(self.IMAGE, values)
        expected = np.repeat(self.IMAGE[16:, 16:, np.newaxis], 3, axis=2)
        np.testing.assert_array_equal(found[16:, 16:], expected)

    def test_a_line_is_drawn_at_half_of_the_highest_value(self):
        # Linear from 1 to 0 between columns 8 and 24, the middles of two cells of 16.
        found = gallery.overlay(np.zeros((32, 32), "uint8"), np.array([[1.0, 0.0], [1.0, 0.0]]))
        line = (found == gallery.OUTLINE).all(axis=2)
        np.testing.assert_array_equal(np.flatnonzero(line.all(axis=0)), [15])
        assert line.sum() == 32
