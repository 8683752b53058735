"""The cache of pixels: squares known by hand, and files that agree with decoding the zip."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.data import image, manifest, parallel, preprocess, split
from cxr.errors import InputError
from cxr.params import Tensors

SIZE = 12
SQUARES = (image.squash, image.letterbox, image.center_crop)


@pytest.fixture(scope="module")
def divided(tiny_archive, split_settings) -> pd.DataFrame:
    """The phantoms' manifest with splits."""
    return split.assign(manifest.build(tiny_archive, 0.0)[0], split_settings(), 0)[0]


@pytest.fixture(scope="module")
def built(tiny_archive, divided, tmp_path_factory) -> Path:
    """The phantoms, cached."""
    folder = tmp_path_factory.mktemp("tensors") / str(SIZE)
    preprocess.build(tiny_archive, divided, SIZE, Tensors(resize="squash"), folder)
    return folder


def array(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype="uint8")


class TestSquares:
    @pytest.mark.parametrize("square", SQUARES, ids=lambda square: square.__name__)
    def test_keep_a_square_of_the_size_as_it_is(self, square):
        grey = np.arange(36, dtype="uint8").reshape(6, 6)
        np.testing.assert_array_equal(square(grey, 6), grey)

    @pytest.mark.parametrize("square", SQUARES, ids=lambda square: square.__name__)
    def test_spread_a_single_pixel(self, square):
        np.testing.assert_array_equal(square(array([77]), 4), np.full((4, 4), 77))

    @pytest.mark.parametrize("square", SQUARES, ids=lambda square: square.__name__)
    @pytest.mark.parametrize("shape", [(1, 500), (500, 1), (3, 7), (4, 4)])
    def test_have_the_size_and_the_type_whatever_comes(self, square, shape):
        found = square(np.full(shape, 9, dtype="uint8"), 4)
        assert found.shape == (4, 4) and found.dtype == np.uint8 and found.max() == 9

    def test_squash_stretches_to_the_whole_square(self):
        """Two wide halves of 2 x 4 stay halves; no pixel straddles them."""
        grey = array([10, 10, 10, 10, 200, 200, 200, 200], [10, 10, 10, 10, 200, 200, 200, 200])
        found = image.squash(grey, 2)
        assert found.shape == (2, 2)
        assert (np.diff(found, axis=0) == 0).all() and found[0, 0] < 40 and found[0, 1] > 170

    def test_squash_averages_what_a_pixel_covers(self):
        """A fine checkerboard turns to even grey: no aliasing."""
        board = np.indices((64, 64)).sum(axis=0) % 2 * 200
        found = image.squash(board.astype("uint8"), 4)
        np.testing.assert_allclose(found, 100, atol=2)

    @pytest.mark.parametrize(
        ("shape", "inside"),
        [
            ((2, 4), np.s_[1:3, :]),
            ((4, 2), np.s_[:, 1:3]),
            ((8, 16), np.s_[1:3, :]),
            ((1, 2), np.s_[1:3, :]),
            ((3, 4), np.s_[0:3, :]),
            ((1, 500), np.s_[1:2, :]),
            ((500, 1), np.s_[:, 1:2]),
        ],
        ids=["wide", "high", "larger", "smaller", "an odd row", "a line", "a column"],
    )
    def test_letterbox_keeps_the_aspect_and_pads_with_black(self, shape, inside):
        expected = np.zeros((4, 4), dtype="uint8")
        expected[inside] = 50
        np.testing.assert_array_equal(image.letterbox(np.full(shape, 50, "uint8"), 4), expected)

    @pytest.mark.parametrize(
        ("grey", "expected"),
        [
            (array([1, 2, 3, 4], [5, 6, 7, 8]), array([2, 3], [6, 7])),
            (array([1, 2], [3, 4], [5, 6], [7, 8]), array([3, 4], [5, 6])),
            (array([1, 2, 3], [4, 5, 6]), array([1, 2], [4, 5])),
            (array([0, 0, 9, 0, 0]), array([9, 9], [9, 9])),
        ],
        ids=["wide", "high", "an odd column", "one row"],
    )
    def test_center_crop_cuts_the_longer_side(self, grey, expected):
        np.testing.assert_array_equal(image.center_crop(grey, 2), expected)


class TestBuild:
    def test_caches_what_decoding_by_hand_gives(self, built, tiny_archive, divided):
        images = np.load(built / "images.npy", mmap_mode="r")
        assert images.shape == (40, SIZE, SIZE) and images.dtype == np.uint8
        with zipfile.ZipFile(tiny_archive) as opened:
            for cached, path in zip(images, divided["path"], strict=True):
                film = Image.open(io.BytesIO(opened.read(path))).convert("L")
                expected = film.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
                np.testing.assert_array_equal(cached, np.asarray(expected), err_msg=path)

    def test_the_index_names_the_rows_in_their_order(self, built, divided):
        index = pd.read_csv(built / "index.csv", dtype={"id": str, "patient": str})
        pd.testing.assert_frame_equal(index, divided[["id", "label", "split", "patient"]])

    def test_leaves_three_files_and_no_more(self, built):
        names = {path.name for path in built.iterdir()}
        assert names == {"images.npy", "index.csv", "contact_sheet.png"}

    @pytest.mark.parametrize("resize", ["letterbox", "center_crop"])
    def test_takes_the_resize_that_is_set(self, tiny_archive, divided, tmp_path, resize):
        preprocess.build(tiny_archive, divided.head(3), 8, Tensors(resize=resize), tmp_path)
        with zipfile.ZipFile(tiny_archive) as opened:
            grey, _ = image.decode(opened.read(divided["path"][2]))
        expected = getattr(image, resize)(grey, 8)
        np.testing.assert_array_equal(np.load(tmp_path / "images.npy")[2], expected)

    @pytest.mark.parametrize("threads", [1, 7])
    def test_gives_the_same_bytes_on_any_number_of_threads(
        self, built, tiny_archive, divided, tmp_path, monkeypatch, threads
    ):
        monkeypatch.setattr(parallel, "cpu_count", lambda: threads)
        preprocess.build(tiny_archive, divided, SIZE, Tensors(resize="squash"), tmp_path)
        for path in built.iterdir():
            assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name

    def test_replaces_what_stood_there(self, tiny_archive, divided, tmp_path):
        preprocess.build(tiny_archive, divided, 8, Tensors(resize="squash"), tmp_path)
        preprocess.build(tiny_archive, divided.tail(4), 5, Tensors(resize="squash"), tmp_path)
        assert np.load(tmp_path / "images.npy").shape == (4, 5, 5)
        assert len(pd.read_csv(tmp_path / "index.csv")) == 4


class TestChangedArchive:
    """The zip is another than the one that was split."""

    NAMES = ("NORMAL/IM-0001-0001.jpeg", "PNEUMONIA/person1_virus_1.jpeg")

    @pytest.fixture
    def films(self, jpeg) -> dict[str, bytes]:
        return {name: jpeg(grey) for grey, name in enumerate(self.NAMES)}

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda data: None, "not in the zip"),
            (lambda data: b"", "zero bytes"),
            (lambda data: b"text", "not an image"),
            (lambda data: data[: len(data) // 2], "cannot be decoded"),
            (lambda data: data + b" ", "not the file that was split"),
        ],
        ids=["gone", "empty", "no image", "truncated", "another image"],
    )
    def test_is_refused_and_leaves_what_was_there(
        self, make_archive, films, tmp_path, change, said
    ):
        table = manifest.build(make_archive("a.zip", films), 0.0)[0].assign(split="train")
        folder = tmp_path / "tensors"
        preprocess.build(tmp_path / "a.zip", table, 4, Tensors(resize="squash"), folder)
        before = {path: path.read_bytes() for path in folder.iterdir()}

        changed = change(films[self.NAMES[1]])
        rest = {self.NAMES[0]: films[self.NAMES[0]]}
        other = make_archive(
            "b.zip", rest | ({self.NAMES[1]: changed} if changed is not None else {})
        )
        message = f"{self.NAMES[1]} in .*b.zip: {said}.*run `dvc repro -f split`"
        with pytest.raises(InputError, match=message):
            preprocess.build(other, table, 4, Tensors(resize="squash"), folder)
        assert {path: path.read_bytes() for path in folder.iterdir()} == before

    def test_damaged_is_refused_and_leaves_nothing(self, make_archive, films, tmp_path):
        made = make_archive("a.zip", films)
        table = manifest.build(made, 0.0)[0].assign(split="train")
        data = films[self.NAMES[1]]
        made.write_bytes(made.read_bytes().replace(data, data[:-1] + b"x"))
        folder = tmp_path / "tensors"
        with pytest.raises(InputError, match="cannot be read from the zip: Bad CRC-32"):
            preprocess.build(made, table, 4, Tensors(resize="squash"), folder)
        assert not list(folder.iterdir())

    def test_missing_says_which_stage_makes_it(self, divided, tmp_path):
        with pytest.raises(InputError, match="run `dvc repro download`"):
            preprocess.build(tmp_path / "a.zip", divided, 4, Tensors(resize="squash"), tmp_path)


class TestContactSheet:
    def test_shows_a_row_for_each_split_and_class(self):
        """Black images on white paper: where a split lacks a class, its row stays white."""
        table = pd.DataFrame({"split": ["train"] * 6 + ["test"], "label": [0] * 6 + [1]})
        table["id"] = [f"NORMAL/{n}" for n in range(7)]
        sheet = np.asarray(preprocess.contact_sheet(np.zeros((7, 8, 8), "uint8"), table))
        rows = np.array_split(sheet[4:-4], 6)
        shown = [round(float((row == 0).sum()) / preprocess.SHEET_SIDE**2) for row in rows]
        assert shown == [4, 0, 0, 0, 0, 1]

    def test_spreads_its_columns_over_what_there_is(self):
        images = np.arange(0, 90, 10, dtype="uint8")[:, None, None] * np.ones((1, 4, 4), "uint8")
        table = pd.DataFrame({"split": "train", "label": 0, "id": [str(n) for n in range(9)]})
        sheet = np.asarray(preprocess.contact_sheet(images, table, columns=3))
        assert [sheet[100, 8 + 80 + column * 168] for column in range(3)] == [0, 40, 80]

    def test_is_written_of_the_cached_pixels(self, built, divided):
        images = np.load(built / "images.npy")
        expected = preprocess.contact_sheet(images, divided)
        with Image.open(built / "contact_sheet.png") as sheet:
            np.testing.assert_array_equal(np.asarray(sheet), np.asarray(expected))
