"""Hostile zips: each is used correctly, or refused in one line, in bounded memory."""

import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr import files
from cxr.data import archive, manifest, source, tensors
from cxr.errors import InputError
from tests.hostile import tried

NORMAL, SICK = "NORMAL/IM-0001-0001.png", "PNEUMONIA/person1_virus_1.png"


@pytest.fixture
def two(jpeg) -> dict[str, bytes]:
    """One sound image of each class."""
    return {NORMAL: jpeg(1, kind="PNG"), SICK: jpeg(2, kind="PNG")}


def zipped(held: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as written:
        for name, data in held.items():
            written.writestr(zipfile.ZipInfo(name), data, method)
    return stream.getvalue()


def used(data: bytes, out: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Run download and split on a zip; return the used files' sha256 and the others' reasons."""
    given, raw = out / "given.zip", out / "raw" / "xrays.zip"
    given.write_bytes(data)
    source.to_zip(str(given), raw)
    table, rejected = manifest.build(raw, 1.0)
    assert table["id"].is_unique and table["path"].is_unique
    with archive.open_zip(raw) as opened:
        assert len(table) + len(rejected) == len(archive.entries(opened))  # nothing is lost
    for reason in rejected["reason"]:
        assert reason.isprintable()
    return (
        dict(zip(table["path"], table["sha256"], strict=True)),
        dict(zip(rejected["path"], rejected["reason"], strict=True)),
    )


def refusal(data: bytes, out: Path) -> str:
    tried.count("zips")
    with pytest.raises(InputError) as stop:
        used(data, out)
    tried.assert_one_line(stop.value)
    assert not (out / "raw" / "xrays.zip").exists()
    return str(stop.value)


class TestDamaged:
    def test_any_bytes_give_the_same_images_or_a_reason(self, two, jpeg, out):
        """An accepted image has its original bytes: the zip's checksums find every change."""
        held = two | {"train/NORMAL/b.jpeg": jpeg(9), "README.txt": b"text"}
        sums = {files.bytes_sha256(data) for data in held.values()}
        outcomes = {"used": 0, "refused": 0}
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            for data in tried.damaged("zips", zipped(held, method), 500):
                try:
                    accepted, _ = used(data, out)
                except InputError as error:
                    tried.assert_one_line(error)
                    outcomes["refused"] += 1
                else:
                    assert sums.issuperset(accepted.values())
                    outcomes["used"] += 1
        assert min(outcomes.values()) > 100

    def test_cut_at_every_tenth_byte_is_refused(self, two, out):
        whole = zipped(two)
        for end in range(0, len(whole), 10):
            assert "not a whole zip" in refusal(whole[:end], out)

    def test_truncated_by_lost_bytes_within_is_refused_or_rejects_the_image(self, two, out):
        """Ten bytes are missing in the middle, as after a broken upload in parts."""
        whole = zipped(two)
        for at in range(0, len(whole), 10):
            tried.count("zips")
            try:
                accepted, rejected = used(whole[:at] + whole[at + 10 :], out)
            except InputError as error:
                tried.assert_one_line(error)
            else:
                assert len(accepted) + len(rejected) == 2


class TestNames:
    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("/etc/NORMAL/1.png", "leads outside"),
            ("../NORMAL/1.png", "leads outside"),
            ("NORMAL/" + "a" * 2000 + ".png", "a name of 2,011 characters"),
            ("NORMAL/" + "é" * 1018, "a name of 1,025 characters"),
            ("a" * 65_000, "a name of 65,000 characters"),
            (".", "a file without a name: '.'"),
            ("NORMAL\\1.png", "a backslash or a control character: 'NORMAL\\\\1.png'"),
            ("NORMAL/a\nb.png", "a backslash or a control character: 'NORMAL/a\\nb.png'"),
            ("NORMAL/\x1b[2J.png", "a backslash or a control character"),
            ("NORMAL/a\u2028b.png", "a backslash or a control character"),
            ("NORMAL//IM-0001-0001.png", "two files named 'NORMAL//IM-0001-0001.png'"),
            ("./NORMAL/IM-0001-0001.png", "two files named './NORMAL/IM-0001-0001.png'"),
        ],
    )
    def test_that_no_system_could_keep_are_refused(self, two, jpeg, out, name, said):
        assert said in refusal(zipped(two | {name: jpeg(3)}), out)

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_given_twice_are_refused_by_name(self, two, jpeg, out):
        stream = io.BytesIO(zipped(two))
        with zipfile.ZipFile(stream, "a") as written:
            written.writestr(NORMAL, jpeg(200))
        message = refusal(stream.getvalue(), out)
        assert f"contains two files named {NORMAL!r}, and only one could be used" in message
        assert "rename or remove one" in message

    def test_of_folders_may_occur_twice(self, two, out):
        folders = {"./": b"", "NORMAL/": b""}
        stream = io.BytesIO(zipped(folders | two))
        with zipfile.ZipFile(stream, "a") as written, pytest.warns(UserWarning, match="Duplicate"):
            written.writestr("NORMAL/", b"")
        assert set(used(stream.getvalue(), out)[0]) == set(two)

    def test_with_a_zero_byte_are_refused_although_python_cuts_them(self, two, jpeg, out):
        data = zipped(two | {"NORMAL/a_b.png": jpeg(3)}).replace(b"a_b.png", b"a\0b.png")
        assert "'NORMAL/a\\x00b.png'" in refusal(data, out)

    def test_that_are_not_the_utf_8_they_declare_are_refused(self, two, jpeg, out):
        data = zipped(two | {"NORMAL/é.png": jpeg(3)}).replace("é".encode(), b"\xe9\xff")
        assert "whose name is not in the encoding that it declares (UTF-8)" in refusal(data, out)

    def test_in_an_old_code_page_are_used(self, two, jpeg, out):
        """Without the mark for UTF-8 a name is in code page 437, whatever was meant."""
        data = zipped(two | {"NORMAL/a_.png": jpeg(3)}).replace(b"a_.png", b"a\xe9.png")
        assert "NORMAL/aΘ.png" in used(data, out)[0]

    @pytest.mark.parametrize(
        "other", ["NORMAL/im-0001-0001.PNG", "normal/IM-0001-0001.png", "NORMAL/IM-0001-0001.jpeg"]
    )
    def test_that_differ_in_case_or_suffix_alone_are_both_used(self, two, jpeg, out, other):
        tried.count("zips")
        accepted, rejected = used(zipped(two | {other: jpeg(3)}), out)
        assert set(accepted) == {NORMAL, SICK, other} and not rejected

    def test_that_are_another_files_id_get_an_id_of_their_own(self, two, jpeg, out):
        names = ("NORMAL/a.png", "NORMAL/a.jpeg", "NORMAL/a.png.jpeg")
        accepted, _ = used(zipped(two | {name: jpeg(n) for n, name in enumerate(names)}), out)
        assert set(names) < set(accepted)  # `used` checks that the ids differ

    # Python cuts a name at a zero byte when it writes a zip.
    @given(
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
            | st.text("./\\:aA", max_size=9),
            st.sampled_from(
                ["NORMAL/", "PNEUMONIA/", "normal/", "x/Pneumonia/", "test/NORMAL/", ""]
            ),
            max_size=8,
        )
    )
    def test_of_any_text_are_used_with_their_own_bytes_or_refused(self, jpeg, out, settings, names):
        """As far as the cache of pixels and its tables."""
        tried.count("zips")
        held = {NORMAL: jpeg(1), SICK: jpeg(2)}
        for number, (name, folder) in enumerate(names.items()):
            held[folder + name] = jpeg(10 + number)
        try:
            accepted, _ = used(zipped(held), out)
        except InputError as error:
            tried.assert_one_line(error)
            return
        for path, digest in accepted.items():
            assert files.bytes_sha256(held[path]) == digest
        table, _ = manifest.build(out / "raw" / "xrays.zip", 1.0)
        table["split"] = "train"
        files.write_csv(out / "manifest.csv", table)
        back = files.read_csv(out / "manifest.csv")
        pd.testing.assert_frame_equal(back, table)
        tensors.build(out / "raw" / "xrays.zip", back, 4, settings.tensors, out / "tensors")
        assert files.read_csv(out / "tensors" / "index.csv")["id"].tolist() == table["id"].tolist()


class TestClassFolders:
    @pytest.mark.parametrize("names", [("normal", "pneumonia"), ("Normal", "PNEUMONIA")])
    def test_count_in_any_case(self, jpeg, out, names):
        accepted, _ = used(zipped({f"{name}/1.jpeg": jpeg(n) for n, name in enumerate(names)}), out)
        assert len(accepted) == 2

    def test_of_the_official_test_count_in_any_case(self, jpeg, out):
        names = ("Test", "TEST", "train", "other")
        held = {f"{split}/NORMAL/1.png": split.encode() for split in names}
        (out / "a.zip").write_bytes(zipped(held))
        with archive.open_zip(out / "a.zip") as opened:
            splits = {
                entry.path.split("/")[0]: entry.official_split for entry in archive.entries(opened)
            }
        assert splits == {"Test": "test", "TEST": "test", "train": "train", "other": ""}

    def test_of_other_names_are_listed_with_their_images(self, two, jpeg, out):
        accepted, rejected = used(zipped(two | {"NORMALS/1.jpeg": jpeg(3)}), out)
        assert len(accepted) == 2
        assert rejected == {
            "NORMALS/1.jpeg": "folder 'NORMALS' is not a class: the classes are NORMAL, PNEUMONIA"
        }


class TestEntries:
    def rejected(self, data: bytes, out: Path) -> str:
        """Return why the one bad file was rejected."""
        tried.count("zips")
        accepted, rejected = used(data, out)
        assert len(accepted) == 2
        return next(iter(rejected.values()))

    def test_a_symbolic_link_is_no_image(self, two, out):
        stream = io.BytesIO(zipped(two))
        link = zipfile.ZipInfo("NORMAL/link.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(stream, "a") as written:
            written.writestr(link, "../../etc/passwd")
        assert self.rejected(stream.getvalue(), out).startswith("a symbolic link: zip the file")

    def test_a_zip_in_the_zip_is_not_opened(self, two, out):
        nested = zipped({f"NORMAL/{n}.zip": zipped(two) for n in range(3)})
        reason = self.rejected(zipped(two | {"NORMAL/nested.zip": nested}), out)
        assert reason == "not an image in BMP, GIF, JPEG, PNG, PPM, TIFF or DICOM format"

    def test_a_zip_that_holds_only_a_zip_is_refused(self, two, out):
        assert "has no image in a folder NORMAL" in refusal(zipped({"x/a.zip": zipped(two)}), out)

    def test_an_encrypted_file_is_rejected(self, two, jpeg, out):
        data = bytearray(zipped(two | {"NORMAL/z.png": jpeg(3)}))
        data[data.rindex(b"PK\x01\x02") + 8] |= 1
        assert "is encrypted, password required" in self.rejected(bytes(data), out)

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_other_compressions_are_rejected_before_they_inflate(self, two, out, method):
        stream = io.BytesIO(zipped(two))
        with zipfile.ZipFile(stream, "a") as written:
            written.writestr("NORMAL/bomb.png", bytes(500_000), method)
        assert f"is not supported ({method}): use deflate" in self.rejected(stream.getvalue(), out)

    def test_a_blank_image_may_shrink_more_than_others(self, two, out, jpeg):
        blank = jpeg(np.zeros((900, 1000), "uint8"), kind="BMP")
        stream = io.BytesIO(zipped(two))
        with zipfile.ZipFile(stream, "a") as written:
            written.writestr("NORMAL/blank.bmp", blank, zipfile.ZIP_DEFLATED)
        assert len(used(stream.getvalue(), out)[0]) == 3

    def test_a_file_that_inflates_a_hundred_times_is_rejected(self, two, out):
        stream = io.BytesIO(zipped(two))
        with zipfile.ZipFile(stream, "a") as written:
            written.writestr("NORMAL/bomb.png", bytes(20_000_000), zipfile.ZIP_DEFLATED)
        assert "more than 100 times as many" in self.rejected(stream.getvalue(), out)


def overlapping(entries: int, size: int) -> bytes:
    """Return a zip whose many entries all are the same compressed bytes, as in Fifield's bomb."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(bytes(size)) + deflate.flush()
    body, records = b"", b""
    names = [f"{('NORMAL', 'PNEUMONIA')[n % 2]}/{n:06d}.png".encode() for n in range(entries)]
    crc = zlib.crc32(bytes(size))
    for name in names:
        records += struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 33, crc, len(packed), size, len(name),
            0, 0, 0, 0, 0, 0,
        ) + name  # fmt: skip
    body = struct.pack(
        "<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 33, crc, len(packed), size, len(names[0]), 0
    )
    body += names[0] + packed
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, entries, entries, len(records), len(body), 0)
    return body + records + end


READ_ARCHIVE = """
from cxr.data import manifest, source, threads
threads.tqdm = lambda results, *_, **__: results
try:
    source.to_zip(sys.argv[1], Path(sys.argv[2]))
    print("used", len(manifest.build(Path(sys.argv[2]), 1.0)[0]))
except InputError as error:
    print(error)
"""


class TestBombs:
    """Reading takes no more memory than Python and its libraries, about 140 MB."""

    def test_overlapping_entries_are_refused_before_they_inflate(self, out):
        tried.count("zips")
        bomb = overlapping(20_000, 90_000_000)  # 1.8 TB in 1.3 MB
        (out / "bomb.zip").write_bytes(bomb)
        said, memory = tried.peak(READ_ARCHIVE, out / "bomb.zip", out / "raw.zip")
        assert "is a zip bomb: its" in said and "inflate to 1,800,000,000,000" in said
        assert memory < 200

    def test_a_list_of_files_that_is_too_long_is_refused_unread(self, two, out, monkeypatch):
        monkeypatch.setattr(archive, "MAX_LIST", 100)
        assert "has a list of files of" in refusal(zipped(two), out)

    @pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_that_declare_a_small_size_fill_no_memory(self, two, out, method):
        """400 MB of zeros declare 1,000 bytes in both headers."""
        tried.count("zips")
        stream = io.BytesIO(zipped(two))
        with (
            zipfile.ZipFile(stream, "a", method) as written,
            written.open("NORMAL/z.png", "w") as target,
        ):
            for _ in range(40):
                target.write(bytes(10_000_000))
        true, false = (size.to_bytes(4, "little") for size in (400_000_000, 1000))
        (out / "bomb.zip").write_bytes(stream.getvalue().replace(true, false))
        said, memory = tried.peak(READ_ARCHIVE, out / "bomb.zip", out / "raw.zip")
        assert said == "used 2" and memory < 200
