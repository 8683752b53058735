"""The archive: which files it lists, and how it reads one of them."""

import tracemalloc
import zipfile
from pathlib import Path

import pytest

from cxr.data import archive
from cxr.errors import InputError


class TestEntries:
    def test_are_ordered_and_have_id_folder_and_official_split(self, make_archive):
        names = [
            "chest_xray/val/NORMAL/c.jpeg",
            "chest_xray/test/PNEUMONIA/b.jpeg",
            "NORMAL/a.jpeg",
            "other/NORMAL/d.jpeg",
            "e.jpeg",
            "chest_xray/test/",
        ]
        with zipfile.ZipFile(make_archive("a.zip", dict.fromkeys(names, b""))) as opened:
            found = [(e.path, e.id, e.folder, e.official_split) for e in archive.entries(opened)]
        assert found == [
            ("NORMAL/a.jpeg", "NORMAL/a", "NORMAL", ""),
            ("chest_xray/test/PNEUMONIA/b.jpeg", "test/PNEUMONIA/b", "PNEUMONIA", "test"),
            ("chest_xray/val/NORMAL/c.jpeg", "val/NORMAL/c", "NORMAL", "val"),
            ("e.jpeg", "e", "", ""),
            ("other/NORMAL/d.jpeg", "other/NORMAL/d", "NORMAL", ""),
        ]

    @pytest.mark.parametrize(
        "name",
        ["__MACOSX/NORMAL/._1.jpeg", "a/__MACOSX/NORMAL/1.jpeg", "NORMAL/.DS_Store", ".x/NORMAL/1"],
    )
    def test_skip_hidden_files_and_macosx(self, make_archive, name):
        made = make_archive("a.zip", {"NORMAL/1.jpeg": b"", name: b""})
        with zipfile.ZipFile(made) as opened:
            assert [entry.path for entry in archive.entries(opened)] == ["NORMAL/1.jpeg"]

    def test_ids_differ_where_folders_and_names_are_equal(self, make_archive):
        """a.jpeg beside a.png, or two sites with the same folders: the ids are whole paths."""
        names = [
            "a/test/NORMAL/1.png",
            "a/test/PNEUMONIA/1.jpeg",
            "a/test/PNEUMONIA/1.png",
            "a/test/PNEUMONIA/2.jpeg",
            "b/test/NORMAL/1.png",
        ]
        made = make_archive("ids.zip", {name: name.encode() for name in names})
        with zipfile.ZipFile(made) as opened:
            found = [entry.id for entry in archive.entries(opened)]
        assert found == [*names[:3], "test/PNEUMONIA/2", names[4]]

    def test_include_one_of_the_two_copies_in_kaggles_zip(self, make_archive, jpeg, caplog):
        xrays = {
            "chest_xray/test/NORMAL/1.jpeg": jpeg(1),
            "chest_xray/train/NORMAL/1.jpeg": jpeg(1),
            "chest_xray/train/PNEUMONIA/1.jpeg": jpeg(1),
            "chest_xray/train/PNEUMONIA/2.jpeg": jpeg(1),
        }
        nested = {f"chest_xray/{name}": data for name, data in xrays.items()}
        with zipfile.ZipFile(make_archive("kaggle.zip", xrays | nested)) as opened:
            found = [entry.folder for entry in archive.entries(opened)]
        assert sorted(found) == ["NORMAL"] * 2 + ["PNEUMONIA"] * 2
        assert "4 files in the archive are second copies" in caplog.text

    def test_include_files_of_equal_names_and_different_content(self, make_archive, jpeg):
        made = make_archive("a.zip", {"x/NORMAL/1.jpeg": jpeg(1), "y/NORMAL/1.jpeg": jpeg(2)})
        with zipfile.ZipFile(made) as opened:
            assert len(archive.entries(opened)) == 2


class TestRead:
    @pytest.fixture
    def bomb(self, tmp_path, monkeypatch) -> Path:
        """A small zip whose one file inflates to 50 MB, where 1 MB is allowed."""
        monkeypatch.setattr(archive, "MAX_BYTES", 1_000_000)
        path = tmp_path / "bomb.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("NORMAL/x.png", bytes(50_000_000))
        assert path.stat().st_size < 100_000
        return path

    def refused(self, path: Path) -> tuple[str, int]:
        """Return the message and the greatest memory in bytes that reading the one file took."""
        with zipfile.ZipFile(path) as opened:
            tracemalloc.start()
            try:
                with pytest.raises(InputError) as stop:
                    archive.read(opened, "NORMAL/x.png")
                return str(stop.value), tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    @pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_returns_the_bytes_up_to_the_limit(self, tmp_path, monkeypatch, compression):
        monkeypatch.setattr(archive, "MAX_BYTES", 1000)
        path = tmp_path / "a.zip"
        files = {"exact": bytes(range(250)) * 4, "empty": b"", "over": bytes(1001)}
        with zipfile.ZipFile(path, "w", compression) as opened:
            for name, data in files.items():
                opened.writestr(name, data)
        with zipfile.ZipFile(path) as opened:
            assert archive.read(opened, "exact") == files["exact"]
            assert archive.read(opened, "empty") == b""
            with pytest.raises(InputError, match=r"^1,001 bytes: an X-ray has at most 1,000$"):
                archive.read(opened, "over")

    def test_refuses_a_file_over_the_limit_without_inflating_it(self, bomb):
        message, memory = self.refused(bomb)
        assert message == "50,000,000 bytes: an X-ray has at most 1,000,000"
        assert memory < 1_000_000

    def test_a_file_that_declares_too_small_a_size_fills_no_memory(self, bomb):
        """The size is changed to 1,000 in both headers."""
        true, false = (size.to_bytes(4, "little") for size in (50_000_000, 1000))
        data = bomb.read_bytes()
        assert data.count(true) == 2
        bomb.write_bytes(data.replace(true, false))
        message, memory = self.refused(bomb)
        assert message.startswith("cannot be read from the zip: Bad CRC-32")
        assert memory < 1_000_000

    def test_a_name_that_is_not_there_is_refused(self, make_archive):
        with (
            zipfile.ZipFile(make_archive("a.zip", {"a": b""})) as opened,
            pytest.raises(InputError, match=r"^not in the zip$"),
        ):
            archive.read(opened, "b")


def test_a_missing_archive_is_refused_with_the_stage_that_makes_it(tmp_path):
    with pytest.raises(InputError, match=r"xrays.zip is missing: run `dvc repro download`"):
        archive.open_zip(tmp_path / "xrays.zip")
