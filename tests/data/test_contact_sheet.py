"""The contact sheet: a row for each split and class, spread over its X-rays."""

import numpy as np
import pandas as pd

from cxr.data import contact_sheet


def test_has_a_row_for_each_split_and_class():
    """Black images on white paper: where a split lacks a class, its row stays white."""
    table = pd.DataFrame({"split": ["train"] * 6 + ["test"], "label": [0] * 6 + [1]})
    table["id"] = [f"NORMAL/{n}" for n in range(7)]
    sheet = np.asarray(contact_sheet.draw(np.zeros((7, 8, 8), "uint8"), table))
    rows = np.array_split(sheet[4:-4], 6)
    shown = [round(float((row == 0).sum()) / contact_sheet.SIDE**2) for row in rows]
    assert shown == [4, 0, 0, 0, 0, 1]


def test_columns_are_spread_over_all_images():
    images = np.arange(0, 90, 10, dtype="uint8")[:, None, None] * np.ones((1, 4, 4), "uint8")
    table = pd.DataFrame({"split": "train", "label": 0, "id": [str(n) for n in range(9)]})
    sheet = np.asarray(contact_sheet.draw(images, table, columns=3))
    assert [sheet[100, 8 + 80 + column * 168] for column in range(3)] == [0, 40, 80]
