"""The manifest: its rows, its patients, rejected files and why, and equal bytes every time."""

import hashlib
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr import files
from cxr.data import archive, image, manifest, threads
from cxr.errors import InputError

NORMAL, SICK = "NORMAL/IM-0001-0001.png", "PNEUMONIA/person1_virus_1.png"


@pytest.fixture
def two(jpeg) -> dict[str, bytes]:
    """One sound image of each class, of different pixels."""
    return {NORMAL: jpeg(1, kind="PNG"), SICK: jpeg(2, kind="PNG")}


@pytest.fixture
def tiny(tiny_archive) -> pd.DataFrame:
    """The phantoms' manifest."""
    table, rejected = manifest.build(tiny_archive, 0.0)
    assert rejected.empty
    return table


class TestBuild:
    def test_describes_an_image(self, make_archive, jpeg, two):
        data = jpeg(100, size=(5, 3), mode="RGB", kind="PNG")
        made = make_archive("a.zip", two | {"x/test/PNEUMONIA/person9_bacteria_7.png": data})
        table, _ = manifest.build(made, 0.0)
        assert tuple(table.columns) == manifest.COLUMNS
        assert table["path"].tolist() == sorted(table["path"])
        row = table.set_index("path").loc["x/test/PNEUMONIA/person9_bacteria_7.png"]
        assert row["id"] == "test/PNEUMONIA/person9_bacteria_7"
        assert (row["label"], row["patient"], row["subtype"]) == (1, "bacteria-9", "bacteria")
        assert (row["width"], row["height"], row["mode"]) == (5, 3, "RGB")
        assert (row["bytes"], row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert row["official_split"] == "test"

    def test_describes_the_phantoms(self, tiny):
        assert len(tiny) == tiny["path"].nunique() == tiny["id"].nunique() == 40
        assert tiny["label"].value_counts().to_dict() == {1: 29, 0: 11}
        assert set(tiny["subtype"]) == {"", "bacteria", "virus"}
        assert set(tiny["mode"]) == {"L", "RGB"}
        assert set(tiny["official_split"]) == {"train", "test"}
        assert tiny["patient"].value_counts().max() > 2
        copies = tiny[tiny["pixel_hash"].duplicated(keep=False)]
        assert len(copies) == copies["patient"].nunique() == 2
        assert tiny["width"].between(48, 96).all() and tiny["height"].between(48, 96).all()

    def test_equal_pixels_have_one_hash_in_any_mode(self, make_archive, jpeg, two):
        made = make_archive("a.zip", two | {"NORMAL/rgb.png": jpeg(1, mode="RGB", kind="PNG")})
        table = manifest.build(made, 0.0)[0].set_index("path")
        assert table.loc["NORMAL/rgb.png", "pixel_hash"] == table.loc[NORMAL, "pixel_hash"]
        assert table.loc["NORMAL/rgb.png", "sha256"] != table.loc[NORMAL, "sha256"]
        assert table.loc[SICK, "pixel_hash"] != table.loc[NORMAL, "pixel_hash"]

    def test_gives_the_same_bytes_in_any_order_of_the_threads(
        self, tiny_archive, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(threads, "cpu_count", lambda: 1)
        files.write_csv(tmp_path / "one.csv", manifest.build(tiny_archive, 0.0)[0])
        waits = iter(np.random.default_rng(0).uniform(0, 0.01, 40))
        decode = image.decode

        def late(data: bytes) -> tuple[np.ndarray, str]:
            time.sleep(next(waits))
            return decode(data)

        monkeypatch.setattr(threads, "cpu_count", lambda: 8)
        monkeypatch.setattr(image, "decode", late)
        files.write_csv(tmp_path / "eight.csv", manifest.build(tiny_archive, 0.0)[0])
        assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "eight.csv").read_bytes()


class TestPatients:
    @pytest.fixture
    def unnamed(self, make_archive, jpeg, two) -> Path:
        """Two images with a patient in their name, three without."""
        extra = {f"site{n}/PNEUMONIA/00{n}.png": jpeg(10 + n) for n in (1, 2, 3)}
        return make_archive("a.zip", two | extra)

    def patients(self, archive: Path, given: dict[str, str]) -> list[tuple[str, bool]]:
        table, _ = manifest.build(archive, 0.0, given)
        return list(zip(table["patient"], table["patient_known"], strict=True))

    def test_of_unknown_names_are_one_an_image_and_marked(self, unnamed):
        assert self.patients(unnamed, {}) == [
            ("normal-IM-0001", True),
            ("virus-1", True),
            ("file-site1/PNEUMONIA/001.png", False),
            ("file-site2/PNEUMONIA/002.png", False),
            ("file-site3/PNEUMONIA/003.png", False),
        ]

    def test_of_equal_unknown_names_differ(self, make_archive, jpeg):
        """Otherwise the 001.png of both classes would form one group, which stays in train."""
        names = ("site1/NORMAL/001.png", "site2/NORMAL/001.png", "site1/PNEUMONIA/001.png")
        made = make_archive("own.zip", {name: jpeg(n) for n, name in enumerate(names)})
        table, _ = manifest.build(made, 0.0)
        assert table["patient"].nunique() == table["id"].nunique() == 3
        assert table["patient_known"].dtype == bool and not table["patient_known"].any()

    def test_given_override_the_names(self, unnamed):
        given = {
            "NORMAL/IM-0001-0001": "Ann",
            "site1/PNEUMONIA/001": "Bob",
            "site2/PNEUMONIA/002": "virus-1",
        }
        assert self.patients(unnamed, given) == [
            ("Ann", True),
            ("virus-1", True),
            ("Bob", True),
            ("virus-1", True),
            ("file-site3/PNEUMONIA/003.png", False),
        ]

    def test_given_for_an_unknown_id_are_refused(self, unnamed):
        with pytest.raises(InputError, match=r"id 'x': .*such as 'NORMAL/IM-0001-0001'$"):
            manifest.build(unnamed, 0.0, {"x": "Ann"})

    def test_given_for_an_unreadable_image_are_accepted(self, make_archive, two):
        made = make_archive("a.zip", two | {"NORMAL/bad.png": b""})
        table, rejected = manifest.build(made, 0.5, {"NORMAL/bad": "Ann"})
        assert rejected["path"].tolist() == ["NORMAL/bad.png"] and len(table) == 2

    def test_keep_the_subtype_of_the_name(self, unnamed):
        table, _ = manifest.build(unnamed, 0.0, {SICK.removesuffix(".png"): "Ann"})
        assert table.set_index("path").loc[SICK, ["patient", "subtype"]].tolist() == [
            "Ann",
            "virus",
        ]


class TestRejected:
    def rejected(self, path: Path) -> dict[str, str]:
        """Return path and reason of the rejected files; half of all may be rejected."""
        table, rejected = manifest.build(path, 0.5)
        assert table["path"].tolist() == [NORMAL, SICK]
        return dict(zip(rejected["path"], rejected["reason"], strict=True))

    @pytest.mark.parametrize(
        ("name", "data", "reason"),
        [
            ("NORMAL/bad.jpeg", b"", "zero bytes"),
            ("NORMAL/notes.txt", b"read by two radiologists", "not an image"),
            ("NORMAL/bad.png", b"\x89PNG\r\n\x1a\n" + bytes(8), "not an image"),
            ("NORMAL/bad.png", b"\x89PNG\r\n\x1a\n\0\0\0\1IHDR" + bytes(9), "cannot be decoded: "),
            ("NORMAL/bad.pgm", b"P5 8 x 255\n" + bytes(64), "cannot be decoded: "),
            (
                "scans/1.png",
                b"",
                "folder 'scans' is not a class: the classes are NORMAL, PNEUMONIA",
            ),
            ("README.txt", b"", "folder '' is not a class"),
        ],
        ids=[
            "zero bytes",
            "a text",
            "a signature",
            "a short header",
            "no number",
            "unknown folder",
            "no folder",
        ],
    )
    def test_with_a_reason(self, make_archive, two, name, data, reason):
        found = self.rejected(make_archive("a.zip", two | {name: data}))
        assert list(found) == [name] and found[name].startswith(reason)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    @pytest.mark.parametrize("part", [0.4, 0.9])
    def test_a_truncated_image(self, make_archive, jpeg, two, kind, part):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype="uint8")
        whole = jpeg(noise, kind=kind)
        found = self.rejected(
            make_archive("a.zip", two | {"NORMAL/x": whole[: int(part * len(whole))]})
        )
        assert found["NORMAL/x"].startswith("cannot be decoded: ")

    def test_an_image_of_16_bits(self, make_archive, jpeg, two):
        deep = jpeg(np.full((4, 4), 40_000, dtype="uint16"), mode="I;16", kind="PNG")
        found = self.rejected(make_archive("a.zip", two | {"NORMAL/x.png": deep}))
        assert found["NORMAL/x.png"].startswith("mode I;16: converting more than 8 bits")

    def test_a_file_damaged_in_the_zip(self, make_archive, jpeg, two):
        data = jpeg(77)
        made = make_archive("a.zip", two | {"NORMAL/x.jpeg": data})
        made.write_bytes(made.read_bytes().replace(data, data[:-1] + b"x"))
        reason = self.rejected(made)["NORMAL/x.jpeg"]
        assert reason.startswith("cannot be read from the zip: Bad CRC-32")

    @pytest.mark.parametrize(
        ("place", "value", "said"),
        [(8, 1, "encrypted"), (10, 99, "compression method is not supported")],
        ids=["encrypted", "an unknown compression"],
    )
    def test_a_file_that_cannot_be_unpacked(self, make_archive, jpeg, two, place, value, said):
        """A byte of the last entry in the central directory is changed."""
        made = make_archive("a.zip", two | {"NORMAL/x.jpeg": jpeg()})
        data = bytearray(made.read_bytes())
        data[data.rindex(b"PK\x01\x02") + place] = value
        made.write_bytes(data)
        assert said in self.rejected(made)["NORMAL/x.jpeg"]

    def test_a_file_larger_than_any_xray(self, make_archive, two, monkeypatch):
        monkeypatch.setattr(archive, "MAX_BYTES", 1000)
        found = self.rejected(make_archive("a.zip", two | {"NORMAL/x.jpeg": bytes(1001)}))
        assert found == {"NORMAL/x.jpeg": "1,001 bytes: an X-ray has at most 1,000"}

    def test_more_than_allowed_are_refused(self, make_archive, two):
        made = make_archive("a.zip", two | {"NORMAL/x": b"", "PNEUMONIA/y": b"text"})
        assert len(manifest.build(made, 0.5)[1]) == 2
        said = (
            "2 of 4 images cannot be used, more than split.max_rejected (49.00%) allows: "
            "NORMAL/x: zero bytes; PNEUMONIA/y: not an image in BMP, GIF, JPEG, PNG, PPM, TIFF or "
            "DICOM format. Repair the source, or raise"
        )
        with pytest.raises(InputError, match=re.escape(said)):
            manifest.build(made, 0.49)

    def test_a_whole_class_is_refused_whatever_is_allowed(self, make_archive, two):
        made = make_archive("a.zip", two | {NORMAL: b""})
        with pytest.raises(InputError, match=f"class NORMAL can be used.*{NORMAL}: zero bytes"):
            manifest.build(made, 1.0)


class TestFile:
    def test_comes_back_from_csv_as_it_was(self, tiny, tmp_path):
        path = tmp_path / "splits" / "manifest.csv"
        files.write_csv(path, tiny.assign(split="train"))
        pd.testing.assert_frame_equal(files.read_csv(path), tiny.assign(split="train"))

    def test_text_that_looks_like_something_else_comes_back_as_text(self, tiny, tmp_path):
        odd = tiny.head(2).assign(id=["001", "002"], pixel_hash=["0" * 32, "3e10"], split="NA")
        odd = odd.assign(path=["a,b.png", 'a "b".png'], subtype="", patient=["1", "nan"])
        odd = odd.assign(patient_known=[True, False], mode="1", sha256="1" * 64)
        files.write_csv(tmp_path / "a.csv", odd)
        pd.testing.assert_frame_equal(files.read_csv(tmp_path / "a.csv"), odd)
        assert b"\r" not in (tmp_path / "a.csv").read_bytes()


class TestRealArchive:
    def test_has_the_published_images_and_patients(self, real_manifest):
        assert (
            len(real_manifest)
            == real_manifest["path"].nunique()
            == real_manifest["id"].nunique()
            == 5856
        )
        assert real_manifest["label"].value_counts().to_dict() == {0: 1583, 1: 4273}
        assert real_manifest["subtype"].value_counts().to_dict() == {
            "": 1583,
            "bacteria": 2780,
            "virus": 1493,
        }
        assert real_manifest.groupby("label")["patient"].nunique().to_dict() == {0: 1444, 1: 2653}
        assert real_manifest["patient"].nunique() == 4097
        assert real_manifest["patient_known"].all()

    def test_has_the_known_groups_of_equal_pixels(self, real_manifest):
        copies = real_manifest["pixel_hash"].value_counts()
        assert (copies[copies > 1].size, copies[copies > 1].sum()) == (30, 62)
        twice = real_manifest[real_manifest["pixel_hash"].duplicated(keep=False)]
        assert (twice.groupby("pixel_hash")["label"].nunique() == 1).all()
