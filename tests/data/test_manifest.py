"""The manifest: who is who, what is refused and why, and the same bytes every time."""

import hashlib
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.data import image, manifest, parallel
from cxr.data.patient import from_path
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


class TestPatient:
    @pytest.mark.parametrize(
        ("name", "patient", "subtype"),
        [
            ("IM-0115-0001", "normal-IM-0115", ""),
            ("IM-0115-0002", "normal-IM-0115", ""),
            ("IM-0187-0001-0002", "normal-IM-0187", ""),
            ("NORMAL2-IM-0383-0001", "normal-NORMAL2-IM-0383", ""),
            ("NORMAL2-IM-0383-0001-0002", "normal-NORMAL2-IM-0383", ""),
            ("person23_bacteria_78", "bacteria-23", "bacteria"),
            ("person23_virus_56", "virus-23", "virus"),
            ("person1_virus_6", "virus-1", "virus"),
            ("person1946_bacteria_4874", "bacteria-1946", "bacteria"),
            ("NORMAL-115218-0001", "normal-115218", ""),
            ("BACTERIA-7422-0001", "bacteria-7422", "bacteria"),
            ("VIRUS-1010-0002", "virus-1010", "virus"),
        ],
    )
    def test_is_told_by_kaggles_and_mendeleys_names(self, name, patient, subtype):
        assert from_path(name) == (patient, subtype)
        assert from_path(f"a/train/PNEUMONIA/{name}.jpeg") == (patient, subtype)

    @pytest.mark.parametrize(
        "name",
        ["film", "person_bacteria_1", "xperson1_virus_2", "IM-0115", "NORMAL-1", "VIRUS-1-x"],
    )
    def test_of_another_name_is_one_of_its_own(self, name):
        assert from_path(f"NORMAL/{name}.png") == (f"file-NORMAL/{name}.png", "")

    def test_ids_differ_where_folders_and_names_are_the_same(self, make_archive, jpeg):
        made = make_archive(
            "ids.zip",
            {
                "a/test/NORMAL/1.png": jpeg(1, kind="PNG"),
                "b/test/NORMAL/1.png": jpeg(2, kind="PNG"),
                "a/test/PNEUMONIA/1.png": jpeg(3, kind="PNG"),
                "a/test/PNEUMONIA/1.jpeg": jpeg(4),
                "a/test/PNEUMONIA/2.jpeg": jpeg(5),
            },
        )
        table, _ = manifest.build(made, 0.0)
        assert table["id"].tolist() == [
            "a/test/NORMAL/1.png",
            "a/test/PNEUMONIA/1.jpeg",
            "a/test/PNEUMONIA/1.png",
            "test/PNEUMONIA/2",
            "b/test/NORMAL/1.png",
        ]

    def test_two_films_of_one_unknown_name_are_two_patients(self, make_archive, jpeg):
        """Else each class's 001.png would make one group with the other's and go to train."""
        made = make_archive(
            "own.zip",
            {
                "site1/NORMAL/001.png": jpeg(1),
                "site2/NORMAL/001.png": jpeg(2),
                "site1/PNEUMONIA/001.png": jpeg(3),
            },
        )
        table, _ = manifest.build(made, 0.0)
        assert table["patient"].nunique() == table["id"].nunique() == 3


class TestDecode:
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK"])
    def test_gives_grey_of_any_mode_of_8_bits(self, jpeg, mode):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        pixels, stored = image.decode(jpeg(200, size=(3, 2), mode=mode, kind=kind))
        np.testing.assert_array_equal(pixels, np.full((2, 3), 200))
        assert pixels.dtype == np.uint8 and stored == mode

    def test_one_bit_is_black_and_white(self, jpeg):
        picture = np.array([[0, 255]], dtype="uint8")
        pixels, stored = image.decode(jpeg(picture, mode="1", kind="PNG"))
        assert stored == "1" and pixels.tolist() == [[0, 255]]

    def test_weighs_colours_by_their_luma(self, jpeg):
        """ITU-R 601: 0.299 R + 0.587 G + 0.114 B."""
        red, green, blue = (np.eye(3, dtype="uint8")[i].reshape(1, 1, 3) * 255 for i in range(3))
        found = [
            int(image.decode(jpeg(colour, mode="RGB", kind="PNG"))[0].item())
            for colour in (red, green, blue)
        ]
        assert found == [76, 150, 29]

    @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
    def test_rgb_that_holds_grey_gives_the_grey_pixels(self, jpeg, kind):
        picture = np.arange(256, dtype="uint8").reshape(16, 16)
        grey, _ = image.decode(jpeg(picture, kind=kind))
        rgb, mode = image.decode(jpeg(picture, mode="RGB", kind=kind))
        assert mode == "RGB"
        np.testing.assert_array_equal(rgb, grey)


class TestBuild:
    def test_describes_an_image_as_looking_at_it_does(self, make_archive, jpeg, two):
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

    def test_of_the_phantoms_finds_every_kind_and_trap(self, tiny):
        assert len(tiny) == tiny["path"].nunique() == tiny["id"].nunique() == 40
        assert tiny["label"].value_counts().to_dict() == {1: 29, 0: 11}
        assert set(tiny["subtype"]) == {"", "bacteria", "virus"}
        assert set(tiny["mode"]) == {"L", "RGB"}
        assert set(tiny["official_split"]) == {"train", "test"}
        assert tiny["patient"].value_counts().max() > 2
        copies = tiny[tiny["pixel_hash"].duplicated(keep=False)]
        assert len(copies) == copies["patient"].nunique() == 2
        assert tiny["width"].between(48, 96).all() and tiny["height"].between(48, 96).all()

    def test_equal_pixels_share_a_hash_however_stored(self, make_archive, jpeg, two):
        made = make_archive("a.zip", two | {"NORMAL/rgb.png": jpeg(1, mode="RGB", kind="PNG")})
        table = manifest.build(made, 0.0)[0].set_index("path")
        assert table.loc["NORMAL/rgb.png", "pixel_hash"] == table.loc[NORMAL, "pixel_hash"]
        assert table.loc["NORMAL/rgb.png", "sha256"] != table.loc[NORMAL, "sha256"]
        assert table.loc[SICK, "pixel_hash"] != table.loc[NORMAL, "pixel_hash"]

    def test_gives_the_same_bytes_whatever_thread_comes_first(
        self, tiny_archive, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(parallel, "cpu_count", lambda: 1)
        manifest.write(manifest.build(tiny_archive, 0.0)[0], tmp_path / "one.csv")
        waits = iter(np.random.default_rng(0).uniform(0, 0.01, 40))
        decode = image.decode

        def late(data: bytes) -> tuple[np.ndarray, str]:
            time.sleep(next(waits))
            return decode(data)

        monkeypatch.setattr(parallel, "cpu_count", lambda: 8)
        monkeypatch.setattr(image, "decode", late)
        manifest.write(manifest.build(tiny_archive, 0.0)[0], tmp_path / "eight.csv")
        assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "eight.csv").read_bytes()


class TestRejected:
    def refused(self, archive: Path) -> dict[str, str]:
        """Path to reason of the rejected, where half of the images may be."""
        table, rejected = manifest.build(archive, 0.5)
        assert table["path"].tolist() == [NORMAL, SICK]
        return dict(zip(rejected["path"], rejected["reason"], strict=True))

    @pytest.mark.parametrize(
        ("name", "data", "reason"),
        [
            ("NORMAL/bad.jpeg", b"", "zero bytes"),
            ("NORMAL/notes.txt", b"seen by two readers", "not an image"),
            ("NORMAL/bad.png", b"\x89PNG\r\n\x1a\n" + bytes(8), "not an image"),
            ("NORMAL/bad.png", b"\x89PNG\r\n\x1a\n\0\0\0\1IHDR" + bytes(9), "cannot be decoded: "),
            ("NORMAL/bad.pgm", b"P5 8 x 255\n" + bytes(64), "cannot be decoded: "),
            ("films/1.png", b"", "folder 'films' is no class: those are NORMAL, PNEUMONIA"),
            ("README.txt", b"", "folder '' is no class"),
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
        found = self.refused(make_archive("a.zip", two | {name: data}))
        assert list(found) == [name] and found[name].startswith(reason)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    @pytest.mark.parametrize("part", [0.4, 0.9])
    def test_a_truncated_image(self, make_archive, jpeg, two, kind, part):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype="uint8")
        whole = jpeg(noise, kind=kind)
        found = self.refused(
            make_archive("a.zip", two | {"NORMAL/x": whole[: int(part * len(whole))]})
        )
        assert found["NORMAL/x"].startswith("cannot be decoded: ")

    def test_16_bits_which_a_cut_to_8_would_distort(self, make_archive, jpeg, two):
        deep = jpeg(np.full((4, 4), 40_000, dtype="uint16"), mode="I;16", kind="PNG")
        found = self.refused(make_archive("a.zip", two | {"NORMAL/x.png": deep}))
        assert found["NORMAL/x.png"].startswith("mode I;16: more than 8 bits")

    def test_what_is_damaged_in_the_zip(self, make_archive, jpeg, two):
        data = jpeg(77)
        made = make_archive("a.zip", two | {"NORMAL/x.jpeg": data})
        made.write_bytes(made.read_bytes().replace(data, data[:-1] + b"x"))
        reason = self.refused(made)["NORMAL/x.jpeg"]
        assert reason.startswith("cannot be read from the zip: Bad CRC-32")

    @pytest.mark.parametrize(
        ("place", "value", "said"),
        [(8, 1, "encrypted"), (10, 99, "compression method is not supported")],
        ids=["encrypted", "packed in an unknown way"],
    )
    def test_what_the_zip_keeps_to_itself(self, make_archive, jpeg, two, place, value, said):
        """A byte of the last entry in the central directory is changed."""
        made = make_archive("a.zip", two | {"NORMAL/x.jpeg": jpeg()})
        data = bytearray(made.read_bytes())
        data[data.rindex(b"PK\x01\x02") + place] = value
        made.write_bytes(data)
        assert said in self.refused(made)["NORMAL/x.jpeg"]

    def test_a_part_may_be_no_more(self, make_archive, two):
        made = make_archive("a.zip", two | {"NORMAL/x": b"", "PNEUMONIA/y": b"text"})
        assert len(manifest.build(made, 0.5)[1]) == 2
        said = (
            "2 of 4 images cannot be used, more than split.max_rejected (49.00%) allows: "
            "NORMAL/x: zero bytes; PNEUMONIA/y: not an image. Mend the source, or raise"
        )
        with pytest.raises(InputError, match=re.escape(said)):
            manifest.build(made, 0.49)

    def test_a_whole_class_is_too_much_whatever_may_be_rejected(self, make_archive, two):
        made = make_archive("a.zip", two | {NORMAL: b""})
        with pytest.raises(InputError, match=f"class NORMAL is left.*{NORMAL}: zero bytes"):
            manifest.build(made, 1.0)


class TestFile:
    def test_comes_back_from_csv_as_it_was(self, tiny, tmp_path):
        path = tmp_path / "splits" / "manifest.csv"
        manifest.write(tiny.assign(split="train"), path)
        pd.testing.assert_frame_equal(manifest.read(path), tiny.assign(split="train"))

    def test_text_that_looks_like_something_else_comes_back_as_text(self, tiny, tmp_path):
        odd = tiny.head(2).assign(id=["001", "002"], pixel_hash=["0" * 32, "3e10"], split="NA")
        odd = odd.assign(path=["a,b.png", 'a "b".png'], subtype="", patient=["1", "nan"])
        manifest.write(odd, tmp_path / "a.csv")
        pd.testing.assert_frame_equal(manifest.read(tmp_path / "a.csv"), odd)
        assert b"\r" not in (tmp_path / "a.csv").read_bytes()

    def test_missing_says_which_stage_writes_it(self, tmp_path):
        with pytest.raises(InputError, match=r"manifest.csv is missing: run `dvc repro split`"):
            manifest.read(tmp_path / "manifest.csv")


def test_threads_keep_the_order_and_pass_an_error_on():
    def slow_first(item: int) -> int:
        time.sleep(0.02 * (item == 0))
        return item * item

    assert parallel.in_threads(slow_first, range(5), "squares") == [0, 1, 4, 9, 16]
    assert parallel.in_threads(slow_first, [], "nothing") == []
    with pytest.raises(InputError, match="third"):
        parallel.in_threads(
            lambda item: (_ for _ in ()).throw(InputError("third")) if item == 3 else item,
            range(5),
            "an error",
        )


class TestRealArchive:
    def test_has_the_films_and_patients_that_are_known(self, real_manifest):
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
        assert not real_manifest["patient"].str.startswith("file-").any()

    def test_has_the_pixel_equal_films_that_are_known(self, real_manifest):
        copies = real_manifest["pixel_hash"].value_counts()
        assert (copies[copies > 1].size, copies[copies > 1].sum()) == (30, 62)
        twice = real_manifest[real_manifest["pixel_hash"].duplicated(keep=False)]
        assert (twice.groupby("pixel_hash")["label"].nunique() == 1).all()
