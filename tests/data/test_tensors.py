"""The tensors: files that agree with decoding the zip by hand."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import files
from cxr.data import contact_sheet, image, manifest, split, tensors, threads
from cxr.errors import InputError
from cxr.params import Tensors

SIZE = 12


@pytest.fixture(scope="module")
def manifest_with_splits(tiny_archive, split_settings) -> pd.DataFrame:
    """The phantoms' manifest with splits."""
    return split.assign(manifest.build(tiny_archive, 0.0)[0], split_settings(), 0)[0]


@pytest.fixture(scope="module")
def built(tiny_archive, manifest_with_splits, tmp_path_factory) -> Path:
    """The phantoms, cached."""
    folder = tmp_path_factory.mktemp("tensors") / str(SIZE)
    tensors.build(tiny_archive, manifest_with_splits, SIZE, Tensors(resize="squash"), folder)
    return folder


class TestBuild:
    def test_caches_what_decoding_by_hand_gives(self, built, tiny_archive, manifest_with_splits):
        images = np.load(built / "images.npy", mmap_mode="r")
        assert images.shape == (40, SIZE, SIZE) and images.dtype == np.uint8
        with zipfile.ZipFile(tiny_archive) as opened:
            for cached, path in zip(images, manifest_with_splits["path"], strict=True):
                xray = Image.open(io.BytesIO(opened.read(path))).convert("L")
                expected = xray.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
                np.testing.assert_array_equal(cached, np.asarray(expected), err_msg=path)

    def test_writes_an_index_with_the_rows_in_order(self, built, manifest_with_splits):
        index = files.read_csv(built / "index.csv")
        pd.testing.assert_frame_equal(
            index, manifest_with_splits[["id", "label", "split", "patient"]]
        )

    def test_writes_three_files_and_leaves_no_other(self, built):
        names = {path.name for path in built.iterdir()}
        assert names == {"images.npy", "index.csv", "contact_sheet.png"}

    @pytest.mark.parametrize("resize", ["letterbox", "center_crop"])
    def test_applies_the_resize_of_the_settings(
        self, tiny_archive, manifest_with_splits, tmp_path, resize
    ):
        tensors.build(
            tiny_archive, manifest_with_splits.head(3), 8, Tensors(resize=resize), tmp_path
        )
        with zipfile.ZipFile(tiny_archive) as opened:
            grey, _ = image.decode(opened.read(manifest_with_splits["path"][2]))
        expected = getattr(image, resize)(grey, 8)
        np.testing.assert_array_equal(np.load(tmp_path / "images.npy")[2], expected)

    def test_removes_the_files_of_a_killed_run(self, tiny_archive, manifest_with_splits, tmp_path):
        left = [tmp_path / f".999999999.part.{name}" for name in ("images.npy", "index.csv")]
        for path in left:
            path.write_bytes(b"half")
        tensors.build(
            tiny_archive, manifest_with_splits.head(3), 8, Tensors(resize="squash"), tmp_path
        )
        assert len(list(tmp_path.iterdir())) == 3

    @pytest.mark.parametrize("cores", [1, 7])
    def test_gives_the_same_bytes_on_any_number_of_threads(
        self, built, tiny_archive, manifest_with_splits, tmp_path, monkeypatch, cores
    ):
        monkeypatch.setattr(threads, "cpu_count", lambda: cores)
        tensors.build(tiny_archive, manifest_with_splits, SIZE, Tensors(resize="squash"), tmp_path)
        for path in built.iterdir():
            assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name

    def test_replaces_earlier_files(self, tiny_archive, manifest_with_splits, tmp_path):
        tensors.build(tiny_archive, manifest_with_splits, 8, Tensors(resize="squash"), tmp_path)
        tensors.build(
            tiny_archive, manifest_with_splits.tail(4), 5, Tensors(resize="squash"), tmp_path
        )
        assert np.load(tmp_path / "images.npy").shape == (4, 5, 5)
        assert len(pd.read_csv(tmp_path / "index.csv")) == 4

    def test_draws_the_contact_sheet_from_the_cached_pixels(self, built, manifest_with_splits):
        images = np.load(built / "images.npy")
        expected = contact_sheet.draw(images, manifest_with_splits)
        with Image.open(built / "contact_sheet.png") as sheet:
            np.testing.assert_array_equal(np.asarray(sheet), np.asarray(expected))


class TestChangedArchive:
    """The zip has changed since it was split."""

    NAMES = ("NORMAL/IM-0001-0001.jpeg", "PNEUMONIA/person1_virus_1.jpeg")

    @pytest.fixture
    def images(self, jpeg) -> dict[str, bytes]:
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
    def test_is_refused_and_leaves_the_earlier_files(
        self, make_archive, images, tmp_path, change, said
    ):
        table = manifest.build(make_archive("a.zip", images), 0.0)[0].assign(split="train")
        folder = tmp_path / "tensors"
        tensors.build(tmp_path / "a.zip", table, 4, Tensors(resize="squash"), folder)
        before = {path: path.read_bytes() for path in folder.iterdir()}

        changed = change(images[self.NAMES[1]])
        rest = {self.NAMES[0]: images[self.NAMES[0]]}
        other = make_archive(
            "b.zip", rest | ({self.NAMES[1]: changed} if changed is not None else {})
        )
        message = f"{self.NAMES[1]} in .*b.zip: {said}.*run `dvc repro -s -f split`"
        with pytest.raises(InputError, match=message):
            tensors.build(other, table, 4, Tensors(resize="squash"), folder)
        assert {path: path.read_bytes() for path in folder.iterdir()} == before

    def test_damaged_is_refused_and_leaves_nothing(self, make_archive, images, tmp_path):
        made = make_archive("a.zip", images)
        table = manifest.build(made, 0.0)[0].assign(split="train")
        data = images[self.NAMES[1]]
        made.write_bytes(made.read_bytes().replace(data, data[:-1] + b"x"))
        folder = tmp_path / "tensors"
        with pytest.raises(InputError, match="cannot be read from the zip: Bad CRC-32"):
            tensors.build(made, table, 4, Tensors(resize="squash"), folder)
        assert not list(folder.iterdir())

    def test_missing_is_refused_with_the_stage_that_makes_it(self, manifest_with_splits, tmp_path):
        with pytest.raises(InputError, match="run `dvc repro download`"):
            tensors.build(
                tmp_path / "a.zip", manifest_with_splits, 4, Tensors(resize="squash"), tmp_path
            )
