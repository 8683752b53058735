"""Files of shifted images: those that the stage shift predicts, the same bytes each time."""

import numpy as np
import pandas as pd

from cxr.shifts import images, sets
from tests.small import xrays

SIZE = 64  # an unsharp mask of a hundredth of 16 pixels changes nothing
CACHED, INDEX = xrays({"train": (4, 4), "val": (6, 9), "test": (8, 12)}, SIZE)


def test_they_are_what_the_stage_shift_predicts_of_validation():
    whole = sets.tasks(INDEX, 10, 0)
    of_validation = whole[(whole["set"] == "validation") & (whole["kind"] != "none")]
    found = sets.shifted_validation(INDEX, 10, 0)
    pd.testing.assert_frame_equal(found, of_validation.reset_index(drop=True))
    assert len(found) == found["id"].nunique() * len(sets.VALIDATION) > 0
    assert set(found["split"]) == {"val"}


def test_each_image_is_under_the_shift_of_its_row(tmp_path):
    tasks = sets.shifted_validation(INDEX, 10, 0)
    images.write(CACHED, tasks, 0, tmp_path)
    found, index = np.load(tmp_path / "images.npy"), pd.read_csv(tmp_path / "index.csv")
    assert found.shape == (len(tasks), SIZE, SIZE) and found.dtype == np.uint8
    assert list(index.columns) == images.COLUMNS
    pd.testing.assert_frame_equal(index, tasks[images.COLUMNS], check_dtype=False)
    for place, task in enumerate(tasks.itertuples()):
        shift = sets.Shift(task.kind, task.strength)
        wanted = images.shifted_image(CACHED.__getitem__, shift, task.id, task.label, task.row, 0)
        np.testing.assert_array_equal(found[place], wanted)
    plain = CACHED[tasks["row"]]
    assert (found != plain).any(axis=(1, 2)).all()


def test_the_bytes_are_the_same_each_time(tmp_path):
    tasks = sets.shifted_validation(INDEX, 10, 0)
    for name in ("one", "other"):
        images.write(CACHED, tasks, 0, tmp_path / name)
    for file in ("images.npy", "index.csv"):
        one, other = ((tmp_path / name / file).read_bytes() for name in ("one", "other"))
        assert one == other
