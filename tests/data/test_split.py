"""The split: exact numbers, nobody on two sides, and clear words where that cannot be had."""

import re

import numpy as np
import pandas as pd
import pytest

from cxr.data import manifest, split
from cxr.errors import InputError
from cxr.params import Counts, Split


def films(*rows: tuple) -> pd.DataFrame:
    """Make a manifest by hand from (label, patient, pixels, official split); the last two may lack.

    Without pixels an image equals no other.
    """
    cells = []
    for number, row in enumerate(rows):
        label, patient, pixels, official = (*row, *("", "")[len(row) - 2 :])
        cells.append(
            {
                "id": f"{number:03d}",
                "path": f"{number:03d}.png",
                "label": label,
                "patient": patient,
                "mode": "L",
                "pixel_hash": pixels or f"own-{number}",
                "official_split": official,
            }
        )
    return pd.DataFrame(cells)


def patients(label: int, *sizes: int, official: str = "", first: int = 0) -> list[tuple]:
    """Rows of one class for :func:`films`: a patient of so many images for each size."""
    return [
        (label, f"{label}-{first + number}", "", official)
        for number, size in enumerate(sizes)
        for _ in range(size)
    ]


def counts(divided: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Images of each split: NORMAL, PNEUMONIA."""
    return {
        name: tuple(int((rows["label"] == label).sum()) for label in (0, 1))
        for name, rows in divided.groupby("split")
    }


def on_two_sides(divided: pd.DataFrame, column: str) -> int:
    return int((divided.groupby(column)["split"].nunique() > 1).sum())


@pytest.fixture(scope="module")
def tiny(tiny_archive) -> pd.DataFrame:
    """The 40 phantoms: 11 NORMAL and 29 PNEUMONIA."""
    return manifest.build(tiny_archive, 0.0)[0]


class TestGroups:
    @pytest.mark.parametrize(
        ("rows", "groups"),
        [
            ([(0, "a"), (0, "b"), (0, "a")], [0, 1, 0]),
            ([(0, "a", "x"), (0, "b"), (0, "c", "x")], [0, 1, 0]),
            ([(0, "a", "x"), (0, "b", "x"), (0, "b", "y"), (0, "c", "y"), (0, "d")], [0] * 4 + [1]),
            ([(0, "c", "y"), (0, "a", "x"), (0, "b", "x"), (0, "b", "y")], [0] * 4),
            ([(0, "a", "x"), (1, "b", "x")], [0, 0]),
            ([(0, "a")], [0]),
        ],
        ids=[
            "one patient",
            "equal pixels",
            "a chain: patient, pixels, patient",
            "a chain that closes last",
            "equal pixels in two classes",
            "one image",
        ],
    )
    def test_join(self, rows, groups):
        assert split.groups(films(*rows)).tolist() == groups

    def test_a_chain_of_many_links_is_one(self):
        links = [(0, f"p{n // 2}", f"x{(n + 1) // 2}") for n in range(200)]
        order = np.random.default_rng(0).permutation(200)
        assert set(split.groups(films(*[links[n] for n in order]))) == {0}


class TestGrouped:
    @pytest.mark.parametrize("seed", range(5))
    def test_gives_exact_counts_and_puts_nobody_on_two_sides(self, tiny, split_settings, seed):
        divided, left_out = split.assign(tiny, split_settings(val=(2, 7), test=(3, 5)), seed)
        assert counts(divided) == {"train": (6, 17), "val": (2, 7), "test": (3, 5)}
        assert on_two_sides(divided, "patient") == on_two_sides(divided, "pixel_hash") == 0
        assert left_out.empty and list(left_out.columns) == ["path", "reason"]

    def test_keeps_every_row_as_it_was(self, tiny, split_settings):
        divided, _ = split.assign(tiny, split_settings(), 0)
        pd.testing.assert_frame_equal(divided.drop(columns="split"), tiny)

    def test_does_not_depend_on_the_order_of_the_rows(self, tiny, split_settings):
        one, _ = split.assign(tiny, split_settings(), 3)
        two, _ = split.assign(tiny.sample(frac=1, random_state=7), split_settings(), 3)
        pd.testing.assert_frame_equal(one, two)

    def test_depends_on_the_seed(self, tiny, split_settings):
        sides = {tuple(split.assign(tiny, split_settings(), seed)[0]["split"]) for seed in range(4)}
        assert len(sides) == 4

    def test_the_test_set_does_not_depend_on_the_size_of_val(self, tiny, split_settings):
        def tested(val: tuple[int, int]) -> list[str]:
            divided, _ = split.assign(tiny, split_settings(val=val), 0)
            return divided.loc[divided["split"] == "test", "path"].tolist()

        assert tested((1, 1)) == tested((3, 6))

    def test_every_patient_may_come_into_the_test_set(self, split_settings):
        """Also the large ones, which a fill by size would leave to train."""
        table = films(*patients(0, 1, 1, 1, 2), *patients(1, *[1] * 4))
        tested = [
            split.assign(table, split_settings(val=(1, 1), test=(2, 1)), seed)[0]
            .query("split == 'test' and label == 0")["patient"]
            .nunique()
            for seed in range(40)
        ]
        assert set(tested) == {1, 2}

    @pytest.mark.parametrize("seed", range(10))
    def test_finds_the_one_combination_that_fits(self, split_settings, seed):
        """Of patients with 3, 3, 3 and 5 images only 3 + 5 make 8."""
        table = films(*patients(0, 3, 3, 5, 3), *patients(1, 1, 1, 1))
        divided, _ = split.assign(table, split_settings(val=(3, 1), test=(8, 1)), seed)
        assert counts(divided) == {"train": (3, 1), "val": (3, 1), "test": (8, 1)}
        assert on_two_sides(divided, "patient") == 0

    @pytest.mark.parametrize(
        ("sizes", "asked", "nearest"),
        [((2, 2, 2), 3, 2), ((4, 4, 4), 7, 8), ((3, 3), 1, 3), ((5, 5), 8, 5), ((5,), 3, "none")],
        ids=["below", "above", "never zero", "never all", "one patient"],
    )
    def test_says_the_nearest_count_that_whole_patients_give(
        self, split_settings, sizes, asked, nearest
    ):
        table = films(*patients(0, *sizes), *patients(1, 1, 1, 1))
        said = (
            f"test NORMAL: {asked} images cannot be had in whole patients; the nearest number that "
            f"can is {nearest}"
        )
        with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
            split.assign(table, split_settings(val=(1, 1), test=(asked, 1)), 0)

    def test_says_what_is_asked_and_what_there_is_where_counts_are_too_large(self, split_settings):
        table = films(*patients(0, *[1] * 9), *patients(1, 1, 1, 1))
        settings = split_settings(val=(1, 1), test=(1, 2))
        said = (
            "split.test.PNEUMONIA 2 and split.val.PNEUMONIA 1 want 3 PNEUMONIA images, but there "
            "are 3, and at least one must be left to train on: lower the counts"
        )
        with pytest.raises(InputError, match=f"^{said}$"):
            split.assign(table, settings, 0)
        more = films(*patients(0, *[1] * 9), *patients(1, 1, 1, 1, 1))
        assert counts(split.assign(more, settings, 0)[0])["train"] == (7, 1)

    def test_a_group_of_both_classes_goes_to_train(self, split_settings, caplog):
        table = films(
            *patients(0, 1, 1, 1),
            *patients(1, 1, 1, 1),
            (0, "mixed", "x"),
            (1, "other", "x"),
            (1, "other"),
        )
        for seed in range(10):
            divided, _ = split.assign(table, split_settings(val=(1, 1), test=(1, 1)), seed)
            assert counts(divided) == {"train": (2, 3), "val": (1, 1), "test": (1, 1)}
            mixed = divided["patient"].isin(["mixed", "other"])
            assert set(divided.loc[mixed, "split"]) == {"train"}
        assert "3 images equal one of the other class" in caplog.text

    def test_where_every_group_holds_both_classes_nothing_can_be_drawn(self, split_settings):
        table = films(*[(label, f"{label}-{n}", f"x{n}") for n in range(4) for label in (0, 1)])
        with pytest.raises(InputError, match="test NORMAL: 1 images cannot be had"):
            split.assign(table, split_settings(val=(1, 1), test=(1, 1)), 0)


class TestImage:
    def test_gives_exact_counts_and_leaks_patients(self, tiny, split_settings):
        divided, _ = split.assign(tiny, split_settings("image", val=(2, 7), test=(3, 5)), 0)
        assert counts(divided) == {"train": (6, 17), "val": (2, 7), "test": (3, 5)}
        assert on_two_sides(divided, "patient") > 0

    def test_can_give_what_whole_patients_cannot(self, split_settings):
        table = films(*patients(0, 2, 2, 2), *patients(1, 2, 2, 2))
        divided, _ = split.assign(table, split_settings("image", val=(1, 1), test=(3, 3)), 0)
        assert counts(divided) == {"train": (2, 2), "val": (1, 1), "test": (3, 3)}


class TestOfficial:
    def test_keeps_the_archives_test_set_and_draws_val_by_patient(self, tiny, split_settings):
        official = tiny.loc[tiny["official_split"] == "test", "path"].tolist()
        divided, left_out = split.assign(tiny, split_settings("official", test=(900, 900)), 0)
        assert divided.loc[divided["split"] == "test", "path"].tolist() == official
        assert counts(divided)["val"] == (2, 4)
        assert on_two_sides(divided, "patient") == on_two_sides(divided, "pixel_hash") == 0
        assert len(divided) + len(left_out) == 40

    def test_leaves_out_what_its_test_set_holds_already(self, split_settings):
        table = films(
            (0, "a", "", "test"),
            (0, "a", "", "train"),
            (1, "b", "x", "test"),
            (1, "c", "x", "train"),
            (1, "c", "", "train"),
            *patients(0, 1, 1, official="train"),
            *patients(1, 1, 1, official="val"),
        )
        for seed in range(10):
            divided, left_out = split.assign(table, split_settings("official", val=(1, 1)), seed)
            assert left_out["path"].tolist() == ["001.png", "003.png", "004.png"]
            assert set(left_out["reason"]) == {"same patient or pixels as official test"}
            assert counts(divided) == {"train": (1, 1), "val": (1, 1), "test": (1, 1)}
            assert list(divided.index) == list(range(6))

    def test_counts_what_is_left_out_as_not_available(self, split_settings):
        table = films(
            (0, "a", "", "test"),
            (1, "b", "", "test"),
            (0, "a", "", "train"),
            *patients(0, 1, official="train"),
            *patients(1, 1, 1, 1, official="train"),
        )
        said = "split.val.NORMAL 1 want 1 NORMAL images, but there are 1,"
        with pytest.raises(InputError, match=said):
            split.assign(table, split_settings("official", val=(1, 1)), 0)

    @pytest.mark.parametrize(
        ("normal", "pneumonia", "missing"),
        [("train", "train", "NORMAL"), ("", "", "NORMAL"), ("test", "val", "PNEUMONIA")],
        ids=["only a train folder", "no such folders", "a test folder of one class"],
    )
    def test_is_refused_where_the_archive_has_no_test_set(
        self, split_settings, normal, pneumonia, missing
    ):
        table = films(
            *patients(0, *[1] * 5, official="train"),
            *patients(1, *[1] * 5, official="train"),
            (0, "last", "", normal),
            (1, "also last", "", pneumonia),
        )
        said = f"has no folder test with {missing} images: use the protocol grouped"
        with pytest.raises(InputError, match=said):
            split.assign(table, split_settings("official", val=(1, 1)), 0)


class TestSummary:
    def test_counts_a_tiny_split_as_one_does_by_hand(self, split_settings):
        """Two images of patient a; b and c share pixels; d is RGB; f is val, g is test."""
        table = films(
            *[(0, "a"), (0, "a"), (0, "b", "x"), (0, "c", "x"), (1, "d"), (1, "e")],
            *[(0, "f"), (1, "g")],
        )
        table["split"] = ["train"] * 6 + ["val", "test"]
        table.loc[4, "mode"] = "RGB"
        found = split.summary(table, 3, 0)
        assert found == {
            "images": {
                "train": {"NORMAL": 4, "PNEUMONIA": 2},
                "val": {"NORMAL": 1, "PNEUMONIA": 0},
                "test": {"NORMAL": 0, "PNEUMONIA": 1},
            },
            "patients": {
                "train": {"NORMAL": 3, "PNEUMONIA": 2},
                "val": {"NORMAL": 1, "PNEUMONIA": 0},
                "test": {"NORMAL": 0, "PNEUMONIA": 1},
            },
            "groups": {
                "train": {"NORMAL": 2, "PNEUMONIA": 2},
                "val": {"NORMAL": 1, "PNEUMONIA": 0},
                "test": {"NORMAL": 0, "PNEUMONIA": 1},
            },
            "total": 8,
            "rejected": 3,
            "duplicates": {"groups": 1, "images": 2},
            "rgb_images": 1,
            "patients_on_two_sides": 0,
            "image_level_leak": found["image_level_leak"],
        }

    def test_sees_a_patient_on_two_sides(self, split_settings):
        table = films((0, "a"), (0, "a"), (0, "b"), (0, "c"), (1, "d"), (1, "e"), (1, "f"))
        table["split"] = ["train", "test", "val", "train", "train", "val", "test"]
        assert split.summary(table, 0, 0)["patients_on_two_sides"] == 1

    @pytest.mark.parametrize(
        ("sizes", "leak"), [([1] * 12, 0), ([12], 8)], ids=["single images", "one patient a class"]
    )
    def test_measures_the_leak_of_an_image_level_split(self, split_settings, sizes, leak):
        """With one patient a class every test image leaks; with single images none can."""
        table = films(*patients(0, *sizes), *patients(1, *sizes))
        divided, _ = split.assign(table, split_settings("image", val=(2, 2), test=(4, 4)), 0)
        assert split.summary(divided, 0, 0)["image_level_leak"] == leak

    def test_of_an_image_level_split_measures_that_very_split(self, tiny, split_settings):
        divided, _ = split.assign(tiny, split_settings("image"), 5)
        trained = set(divided.loc[divided["split"] == "train", "patient"])
        tested = divided.loc[divided["split"] == "test", "patient"]
        found = split.summary(divided, 0, 5)
        assert found["image_level_leak"] == sum(who in trained for who in tested) > 0


class TestRealArchive:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_grouped_gives_the_articles_counts(self, real_manifest, settings, seed):
        divided, left_out = split.assign(real_manifest, settings.split, seed)
        assert counts(divided) == {"train": (1283, 3473), "val": (150, 400), "test": (150, 400)}
        assert on_two_sides(divided, "patient") == on_two_sides(divided, "pixel_hash") == 0
        assert left_out.empty
        found = split.summary(divided, 0, seed)
        assert found["duplicates"] == {"groups": 30, "images": 62}
        assert 180 <= found["image_level_leak"] <= 260

    def test_official_gives_its_own(self, real_manifest, split_settings):
        divided, left_out = split.assign(
            real_manifest, split_settings("official", val=(150, 400)), 0
        )
        assert counts(divided) == {"train": (1199, 3483), "val": (150, 400), "test": (234, 390)}
        assert left_out.empty
        assert on_two_sides(divided, "patient") == on_two_sides(divided, "pixel_hash") == 0


def test_settings_are_what_params_yaml_holds(settings):
    wanted = Counts(NORMAL=150, PNEUMONIA=400)
    assert settings.split == Split(protocol="grouped", val=wanted, test=wanted, max_rejected=0.01)
