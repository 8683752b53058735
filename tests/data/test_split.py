"""The split: exact numbers, no patient in two splits, and an error where that is impossible."""

import re

import numpy as np
import pandas as pd
import pytest

from cxr.data import manifest, split
from cxr.errors import InputError
from cxr.params import Counts, Split
from tests import memory


def table_of(*rows: tuple) -> pd.DataFrame:
    """Make a manifest from (label, patient, pixels, official split); the last two are optional.

    An image without pixels equals no other.
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
                "patient_known": not patient.startswith("file-"),
                "mode": "L",
                "pixel_hash": pixels or f"own-{number}",
                "official_split": official,
            }
        )
    return pd.DataFrame(cells)


def patients(label: int, *sizes: int, official: str = "", first: int = 0) -> list[tuple]:
    """Rows of one class for :func:`table_of`: a patient of so many images for each size."""
    return [
        (label, f"{label}-{first + number}", "", official)
        for number, size in enumerate(sizes)
        for _ in range(size)
    ]


def counts(result: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Images of each split: NORMAL, PNEUMONIA."""
    return {
        name: tuple(int((rows["label"] == label).sum()) for label in (0, 1))
        for name, rows in result.groupby("split")
    }


def in_two_splits(result: pd.DataFrame, column: str) -> int:
    return int((result.groupby(column)["split"].nunique() > 1).sum())


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
        assert split.groups(table_of(*rows)).tolist() == groups

    @pytest.mark.parametrize("seed", range(8))
    def test_are_the_images_that_links_connect(self, seed):
        """Against the definition: grow each image's group until no link leads out of it."""
        draws = np.random.default_rng(seed)
        table = table_of(*[(0, f"p{p}", f"x{x}") for p, x in draws.integers(0, 25, (30, 2))])
        patients, pixels = table["patient"].to_numpy(), table["pixel_hash"].to_numpy()
        linked = (patients[:, None] == patients) | (pixels[:, None] == pixels)
        numbers: list[int] = []
        for row in range(len(table)):
            group = {row}
            while (grown := set(np.flatnonzero(linked[list(group)].any(axis=0)))) != group:
                group = grown
            first = int(min(group))
            numbers.append(numbers[first] if first < row else max(numbers, default=-1) + 1)
        assert 1 < max(numbers) + 1 < 30
        assert split.groups(table).tolist() == numbers

    def test_a_chain_of_many_links_is_one(self):
        links = [(0, f"p{n // 2}", f"x{(n + 1) // 2}") for n in range(200)]
        order = np.random.default_rng(0).permutation(200)
        assert set(split.groups(table_of(*[links[n] for n in order]))) == {0}


class TestGrouped:
    @pytest.mark.parametrize("seed", range(5))
    def test_gives_exact_counts_with_no_patient_in_two_splits(self, tiny, split_settings, seed):
        result, excluded = split.assign(tiny, split_settings(val=(2, 7), test=(3, 5)), seed)
        assert counts(result) == {"train": (6, 17), "val": (2, 7), "test": (3, 5)}
        assert in_two_splits(result, "patient") == in_two_splits(result, "pixel_hash") == 0
        assert excluded.empty and list(excluded.columns) == ["path", "reason"]

    def test_changes_no_row(self, tiny, split_settings):
        result, _ = split.assign(tiny, split_settings(), 0)
        pd.testing.assert_frame_equal(result.drop(columns="split"), tiny)

    def test_does_not_depend_on_the_order_of_the_rows(self, tiny, split_settings):
        one, _ = split.assign(tiny, split_settings(), 3)
        two, _ = split.assign(tiny.sample(frac=1, random_state=7), split_settings(), 3)
        pd.testing.assert_frame_equal(one, two)

    def test_depends_on_the_seed(self, tiny, split_settings):
        splits = {
            tuple(split.assign(tiny, split_settings(), seed)[0]["split"]) for seed in range(4)
        }
        assert len(splits) == 4

    def test_the_test_set_does_not_depend_on_the_size_of_val(self, tiny, split_settings):
        def tested(val: tuple[int, int]) -> list[str]:
            result, _ = split.assign(tiny, split_settings(val=val), 0)
            return result.loc[result["split"] == "test", "path"].tolist()

        assert tested((1, 1)) == tested((3, 6))

    def test_every_patient_can_be_in_the_test_set(self, split_settings):
        """Large ones too, which a fill by size would leave in train."""
        table = table_of(*patients(0, 1, 1, 1, 2), *patients(1, *[1] * 4))
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
        table = table_of(*patients(0, 3, 3, 5, 3), *patients(1, 1, 1, 1))
        result, _ = split.assign(table, split_settings(val=(3, 1), test=(8, 1)), seed)
        assert counts(result) == {"train": (3, 1), "val": (3, 1), "test": (8, 1)}
        assert in_two_splits(result, "patient") == 0

    def test_memory_grows_no_faster_than_the_number_of_patients(self, split_settings):
        def taken(number: int) -> int:
            table = table_of(*patients(0, *[2] * number), *patients(1, *[2] * number))
            settings = split_settings(val=(number // 5, number // 5), test=(2, 2))
            return memory.peak(lambda: split.assign(table, settings, 0))

        assert taken(8_000) < 6 * taken(2_000)

    @pytest.mark.parametrize(
        ("sizes", "asked", "nearest"),
        [((2, 2, 2), 3, 2), ((4, 4, 4), 7, 8), ((3, 3), 1, 3), ((5, 5), 8, 5), ((5,), 3, "none")],
        ids=["below", "above", "never zero", "never all", "one patient"],
    )
    def test_an_impossible_count_is_refused_with_the_nearest_possible_one(
        self, split_settings, sizes, asked, nearest
    ):
        table = table_of(*patients(0, *sizes), *patients(1, 1, 1, 1))
        said = (
            f"test NORMAL: no set of whole patients has exactly {asked} images; the nearest "
            f"possible number is {nearest}"
        )
        with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
            split.assign(table, split_settings(val=(1, 1), test=(asked, 1)), 0)

    def test_counts_above_the_available_images_are_refused(self, split_settings):
        table = table_of(*patients(0, *[1] * 9), *patients(1, 1, 1, 1))
        settings = split_settings(val=(1, 1), test=(1, 2))
        said = (
            "split.test.PNEUMONIA 2 and split.val.PNEUMONIA 1 need 3 PNEUMONIA images and at least "
            "one more to train on, but only 3 are available: lower the counts"
        )
        with pytest.raises(InputError, match=f"^{said}$"):
            split.assign(table, settings, 0)
        more = table_of(*patients(0, *[1] * 9), *patients(1, 1, 1, 1, 1))
        assert counts(split.assign(more, settings, 0)[0])["train"] == (7, 1)

    def test_a_group_of_both_classes_stays_in_train(self, split_settings, caplog):
        table = table_of(
            *patients(0, 1, 1, 1),
            *patients(1, 1, 1, 1),
            (0, "mixed", "x"),
            (1, "other", "x"),
            (1, "other"),
        )
        for seed in range(10):
            result, _ = split.assign(table, split_settings(val=(1, 1), test=(1, 1)), seed)
            assert counts(result) == {"train": (2, 3), "val": (1, 1), "test": (1, 1)}
            mixed = result["patient"].isin(["mixed", "other"])
            assert set(result.loc[mixed, "split"]) == {"train"}
        assert (
            "3 images share their patient or their pixels with an image of the other" in caplog.text
        )

    def test_groups_that_all_have_both_classes_are_refused(self, split_settings):
        table = table_of(*[(label, f"{label}-{n}", f"x{n}") for n in range(4) for label in (0, 1)])
        with pytest.raises(
            InputError, match="test NORMAL: no set of whole patients has exactly 1 images"
        ):
            split.assign(table, split_settings(val=(1, 1), test=(1, 1)), 0)


class TestImage:
    def test_gives_exact_counts_and_leaks_patients(self, tiny, split_settings):
        result, _ = split.assign(tiny, split_settings("image", val=(2, 7), test=(3, 5)), 0)
        assert counts(result) == {"train": (6, 17), "val": (2, 7), "test": (3, 5)}
        assert in_two_splits(result, "patient") > 0

    def test_gives_counts_that_are_impossible_with_whole_patients(self, split_settings):
        table = table_of(*patients(0, 2, 2, 2), *patients(1, 2, 2, 2))
        result, _ = split.assign(table, split_settings("image", val=(1, 1), test=(3, 3)), 0)
        assert counts(result) == {"train": (2, 2), "val": (1, 1), "test": (3, 3)}


class TestOfficial:
    def test_uses_the_archives_test_set_and_draws_val_by_patient(self, tiny, split_settings):
        official = tiny.loc[tiny["official_split"] == "test", "path"].tolist()
        result, excluded = split.assign(tiny, split_settings("official", test=(900, 900)), 0)
        assert result.loc[result["split"] == "test", "path"].tolist() == official
        assert counts(result)["val"] == (2, 4)
        assert in_two_splits(result, "patient") == in_two_splits(result, "pixel_hash") == 0
        assert len(result) + len(excluded) == 40

    def test_excludes_patients_and_pixels_of_the_test_set(self, split_settings):
        table = table_of(
            (0, "a", "", "test"),
            (0, "a", "", "train"),
            (1, "b", "x", "test"),
            (1, "c", "x", "train"),
            (1, "c", "", "train"),
            *patients(0, 1, 1, official="train"),
            *patients(1, 1, 1, official="val"),
        )
        for seed in range(10):
            result, excluded = split.assign(table, split_settings("official", val=(1, 1)), seed)
            assert excluded["path"].tolist() == ["001.png", "003.png", "004.png"]
            assert set(excluded["reason"]) == {
                "same patient or pixels as an image of the official test"
            }
            assert counts(result) == {"train": (1, 1), "val": (1, 1), "test": (1, 1)}
            assert list(result.index) == list(range(6))

    def test_does_not_count_excluded_images_as_available(self, split_settings):
        table = table_of(
            (0, "a", "", "test"),
            (1, "b", "", "test"),
            (0, "a", "", "train"),
            *patients(0, 1, official="train"),
            *patients(1, 1, 1, 1, official="train"),
        )
        said = (
            "split.val.NORMAL 1 need 1 NORMAL images and at least one more to train on, but only 1 "
        )
        with pytest.raises(InputError, match=said):
            split.assign(table, split_settings("official", val=(1, 1)), 0)

    @pytest.mark.parametrize(
        ("normal", "pneumonia", "missing"),
        [("train", "train", "NORMAL"), ("", "", "NORMAL"), ("test", "val", "PNEUMONIA")],
        ids=["only a train folder", "no such folders", "a test folder of one class"],
    )
    def test_is_refused_for_an_archive_without_a_test_set(
        self, split_settings, normal, pneumonia, missing
    ):
        table = table_of(
            *patients(0, *[1] * 5, official="train"),
            *patients(1, *[1] * 5, official="train"),
            (0, "last", "", normal),
            (1, "also last", "", pneumonia),
        )
        said = f"has no folder test with {missing} images: use the protocol grouped"
        with pytest.raises(InputError, match=said):
            split.assign(table, split_settings("official", val=(1, 1)), 0)


class TestSummary:
    def test_counts_a_tiny_split(self):
        """Two images of patient a; b and c share pixels; d is RGB; f is val, g is test.

        No image of a test patient is in train, whichever single images are drawn: the leak is 0.
        """
        table = table_of(
            *[(0, "a"), (0, "a"), (0, "b", "x"), (0, "c", "x"), (1, "d"), (1, "e")],
            *[(0, "f"), (1, "file-g")],
        )
        table["split"] = ["train"] * 6 + ["val", "test"]
        table.loc[4, "mode"] = "RGB"
        assert split.summary(table, 3, 0) == {
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
            "patients_known": 7,
            "patients_in_two_splits": 0,
            "image_level_leak": 0,
        }

    def test_counts_a_patient_in_two_splits(self):
        table = table_of((0, "a"), (0, "a"), (0, "b"), (0, "c"), (1, "d"), (1, "e"), (1, "f"))
        table["split"] = ["train", "test", "val", "train", "train", "val", "test"]
        assert split.summary(table, 0, 0)["patients_in_two_splits"] == 1

    @pytest.mark.parametrize(
        ("sizes", "leak"), [([1] * 12, 0), ([12], 8)], ids=["single images", "one patient a class"]
    )
    def test_measures_the_leak_of_an_image_level_split(self, split_settings, sizes, leak):
        """With one patient a class every test image leaks; with single images none can."""
        table = table_of(*patients(0, *sizes), *patients(1, *sizes))
        result, _ = split.assign(table, split_settings("image", val=(2, 2), test=(4, 4)), 0)
        assert split.summary(result, 0, 0)["image_level_leak"] == leak

    def test_leak_of_an_image_level_split_is_that_of_this_split(self, tiny, split_settings):
        result, _ = split.assign(tiny, split_settings("image"), 5)
        trained = set(result.loc[result["split"] == "train", "patient"])
        tested = result.loc[result["split"] == "test", "patient"]
        found = split.summary(result, 0, 5)
        assert found["image_level_leak"] == sum(who in trained for who in tested) > 0


class TestRealArchive:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_grouped_gives_the_articles_counts(self, real_manifest, settings, seed):
        result, excluded = split.assign(real_manifest, settings.split, seed)
        assert counts(result) == {"train": (1283, 3473), "val": (150, 400), "test": (150, 400)}
        assert in_two_splits(result, "patient") == in_two_splits(result, "pixel_hash") == 0
        assert excluded.empty
        found = split.summary(result, 0, seed)
        assert found["duplicates"] == {"groups": 30, "images": 62}
        assert found["patients_known"] == found["total"] == 5856
        assert found["patients_in_two_splits"] == 0
        assert sum(sum(by_class.values()) for by_class in found["patients"].values()) == 4097
        assert 180 <= found["image_level_leak"] <= 260

    def test_official_gives_the_archives_test_set(self, real_manifest, split_settings):
        result, excluded = split.assign(
            real_manifest, split_settings("official", val=(150, 400)), 0
        )
        assert counts(result) == {"train": (1199, 3483), "val": (150, 400), "test": (234, 390)}
        assert excluded.empty
        assert in_two_splits(result, "patient") == in_two_splits(result, "pixel_hash") == 0


def test_params_yaml_has_the_articles_counts(settings):
    wanted = Counts(NORMAL=150, PNEUMONIA=400)
    assert settings.split == Split(
        protocol="grouped",
        val=wanted,
        test=wanted,
        max_rejected=0.01,
        patients="sources/patients.csv",
    )
