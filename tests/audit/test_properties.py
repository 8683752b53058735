"""The groups of properties, and which of them vary."""

import numpy as np
import pandas as pd

from cxr.audit import properties

COLUMNS = [column for group in properties.GROUPS.values() for column in group.columns]


def test_every_column_is_in_one_group_and_every_group_in_all():
    assert len(COLUMNS) == len(set(COLUMNS))
    assert set(properties.SETS["all"]) == set(properties.GROUPS)
    assert set(properties.FILE) & set(properties.PICTURE) == set()


def test_constants_and_missing_values_do_not_vary():
    table = pd.DataFrame(1.0, index=range(3), columns=COLUMNS)
    table["jpeg_luma"] = np.nan
    assert set(map(tuple, properties.varying(table).values())) == {()}
    table["jpeg_luma"] = [1.0, np.nan, 1.0]  # some files are no JPEGs
    table["jpeg_chroma"] = np.nan
    table["width"] = [1.0, 2.0, 3.0]
    found = properties.varying(table)
    assert found["jpeg"] == ["jpeg_luma"] and found["size"] == ["width"]


def test_bytes_count_beside_different_sizes_alone():
    table = pd.DataFrame(1.0, index=range(3), columns=COLUMNS)
    table["bytes_per_pixel"] = [0.1, 0.2, 0.3]
    assert properties.varying(table)["bytes"] == []
    table["height"] = [1.0, 2.0, 3.0]
    assert properties.varying(table)["bytes"] == ["bytes_per_pixel"]
