"""The sets of shifted images: which images, how many, under what."""

import numpy as np
import pandas as pd
import pytest

from cxr.shifts import kinds, sets
from tests.small import xrays

INDEX = xrays({"train": (10, 10), "val": (30, 70), "test": (25, 75)})[1]


class TestTasks:
    def test_each_set_has_its_images_under_every_shift(self):
        found = sets.tasks(INDEX, 1000, 0)
        assert list(found.columns) == [*sets.COLUMNS, "row"]
        counts = found.groupby("set", sort=False)["id"].agg(["size", "nunique"])
        assert counts["nunique"].to_dict() == {"validation": 100, "curve": 100, "masked": 100}
        shifts = (1 + len(sets.VALIDATION), 1 + len(sets.CURVE), 2)
        assert counts["size"].tolist() == [100 * number for number in shifts]
        assert set(found.loc[found["set"] == "validation", "split"]) == {"val"}
        assert set(found.loc[found["set"] != "validation", "split"]) == {"test"}

    def test_rows_are_the_places_of_the_ids(self):
        index = INDEX.set_index(np.arange(len(INDEX))[::-1])  # places count, not index labels
        found = sets.tasks(index, 20, 0)
        for column in ("id", "split", "label", "patient"):
            assert found[column].tolist() == index[column].to_numpy()[found["row"]].tolist()

    def test_the_shifts_are_known_and_occur_once(self):
        for shifts in (sets.VALIDATION, sets.CURVE, sets.MASKED):
            assert len(set(shifts)) == len(shifts)
            assert {shift.kind for shift in shifts} <= set(kinds.CAPTIONS)

    @pytest.mark.parametrize("counts", [{"train": (2, 2)}, {"train": (2, 2), "test": (1, 0)}])
    def test_an_empty_split_gives_no_tasks(self, counts):
        found = sets.tasks(xrays(counts)[1], 200, 0)
        assert set(found["split"]) == set(counts) - {"train"}

    def test_of_one_image(self):
        found = sets.tasks(xrays({"test": (0, 1)})[1], 200, 0)
        assert len(found) == 3 + len(sets.CURVE)
        assert set(found["row"]) == {0}


class TestChosen:
    def test_takes_whole_patients_and_both_classes_in_their_proportion(self):
        rows = sets.chosen(INDEX, "val", 40, 0)
        chosen = INDEX.iloc[rows]
        assert len(rows) <= 40 and set(chosen["split"]) == {"val"}
        whole = INDEX[INDEX["patient"].isin(chosen["patient"])]
        assert sorted(whole.index) == rows.tolist()
        counts = chosen["label"].value_counts()
        assert 8 <= counts[0] <= 12 and 24 <= counts[1] <= 28  # of 12 and 28, patients of four

    def test_takes_all_where_there_are_few(self):
        np.testing.assert_array_equal(
            sets.chosen(INDEX, "test", 100, 0), np.flatnonzero(INDEX["split"] == "test")
        )

    def test_depends_on_ids_and_seed_and_not_on_the_order_of_the_rows(self):
        def ids(index: pd.DataFrame, seed: int) -> set[str]:
            return set(index["id"].to_numpy()[sets.chosen(index, "val", 40, seed)])

        assert ids(INDEX, 0) == ids(INDEX.iloc[::-1], 0)
        assert ids(INDEX, 0) != ids(INDEX, 1)

    def test_no_class_is_lost_if_its_patients_are_large(self):
        index = pd.DataFrame(
            {"id": [f"x{n}" for n in range(60)], "split": "test", "label": [0] * 20 + [1] * 40}
        )
        index["patient"] = ["a"] * 12 + ["b"] * 8 + [f"p{n}" for n in range(40)]
        chosen = index.iloc[sets.chosen(index, "test", 15, 0)]
        assert set(chosen.loc[chosen["label"] == 0, "patient"]) == {"b"}
        assert (chosen["label"] == 1).sum() == 10

    @pytest.mark.parametrize("label", [0, 1])
    def test_of_one_class(self, label):
        index = INDEX[INDEX["label"] == label]
        assert 0 < len(sets.chosen(index, "test", 10, 0)) <= 10

    def test_a_patient_of_both_classes_is_chosen_once(self):
        index = INDEX.assign(patient="a")
        rows = sets.chosen(index, "test", 10, 0)
        assert len(rows) == len(set(rows)) == 100  # one patient: whole, or no image at all
