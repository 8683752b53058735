"""Hostile folders as a source: links out of it, devices, pipes, and names that are no text."""

import logging
import os
import stat
from pathlib import Path

import pytest

from cxr.data import archive, source
from cxr.errors import InputError
from tests.hostile import tried


@pytest.fixture
def folder(out: Path, jpeg) -> Path:
    """A folder with one image of each class."""
    for number, name in enumerate(("NORMAL/1.png", "PNEUMONIA/1.png")):
        path = out / "xrays" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(jpeg(number, kind="PNG"))
    return out / "xrays"


def stored(folder: Path) -> list[str]:
    """Return the names in the zip that a folder gives."""
    tried.count("folders")
    target = folder.parent / "raw" / "xrays.zip"
    source.to_zip(str(folder), target)
    with archive.open_zip(target) as opened:
        return opened.namelist()


def refusal(folder: Path) -> str:
    tried.count("folders")
    target = folder.parent / "raw" / "xrays.zip"
    with pytest.raises(InputError) as stop:
        source.to_zip(str(folder), target)
    tried.assert_one_line(stop.value)
    assert not target.exists()
    return str(stop.value)


class TestLinks:
    @pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
    def test_to_a_file_outside_are_refused(self, folder, absolute):
        secret = folder.parent.parent / "etc" / "passwd"
        target = secret if absolute else Path(os.path.relpath(secret, folder / "NORMAL"))
        (folder / "NORMAL" / "2.png").symlink_to(target)
        message = refusal(folder)
        assert f"{str(folder / 'NORMAL/2.png')!r} is a link to something outside" in message
        assert "cp -rL" in message

    @pytest.mark.parametrize("place", ["NORMAL/more", "more", "train"])
    def test_to_a_folder_are_refused_because_its_images_would_be_lost(self, folder, place):
        (folder / place).symlink_to(folder.parent.parent / "NORMAL")
        message = refusal(folder)
        assert f"{str(folder / place)!r} is a link to a folder: put a copy in its place" in message

    def test_to_themselves_or_to_nothing_are_refused(self, folder):
        for target in ("2.png", "nowhere"):
            link = folder / "NORMAL" / "2.png"
            link.symlink_to(target)
            assert "is not a file but a pipe, a device or a broken link" in refusal(folder)
            link.unlink()

    def test_to_a_file_inside_are_stored_as_that_file(self, folder):
        (folder / "NORMAL" / "2.png").symlink_to("../PNEUMONIA/1.png")
        assert stored(folder) == ["NORMAL/1.png", "NORMAL/2.png", "PNEUMONIA/1.png"]
        with archive.open_zip(folder.parent / "raw" / "xrays.zip") as opened:
            assert not any(stat.S_ISLNK(e.external_attr >> 16) for e in opened.infolist())

    def test_that_are_the_source_itself_are_followed(self, folder):
        link = folder.parent / "link"
        link.symlink_to(folder)
        assert stored(link) == ["NORMAL/1.png", "PNEUMONIA/1.png"]


class TestNoFiles:
    def test_a_pipe_among_the_images_is_refused_and_not_read(self, folder):
        os.mkfifo(folder / "NORMAL" / "2.png")
        assert "2.png' is not a file but a pipe, a device or" in refusal(folder)

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can make a device")
    def test_a_device_among_the_images_is_refused(self, folder):
        try:
            os.mknod(folder / "NORMAL" / "2.png", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("this container lets nobody make a device")
        assert "2.png' is not a file but a pipe, a device or" in refusal(folder)

    @pytest.mark.parametrize("name", ["pipe", "pipe.zip", "pipe.yaml"])
    def test_a_pipe_as_the_source_is_refused_and_not_read(self, out, name):
        os.mkfifo(out / name)
        assert "is neither a file nor a folder: give a descriptor" in refusal(out / name)

    def test_a_device_as_the_source_is_refused(self, out):
        tried.count("folders")
        with pytest.raises(InputError, match="source /dev/zero is neither a file nor a folder"):
            source.to_zip("/dev/zero", out / "raw" / "xrays.zip")

    def test_a_file_of_a_terabyte_is_refused_unread(self, folder):
        with (folder / "NORMAL" / "2.png").open("wb") as sparse:
            sparse.truncate(10**12)
        assert "has 1,000,000,000,000 bytes: an X-ray has at most 100,000,000" in refusal(folder)


class TestNames:
    @pytest.mark.parametrize("place", ["NORMAL/\udce9.png", "\udce9/NORMAL/2.png", "NORMAL/a\nb"])
    def test_that_are_no_plain_text_are_refused(self, folder, jpeg, place):
        path = folder / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg())
        except OSError as error:
            pytest.skip(f"this file system takes no such name: {error.strerror}")
        assert "has a name that is not UTF-8, or that has a control character" in refusal(folder)

    def test_with_a_backslash_are_refused(self, folder, jpeg):
        (folder / "NORMAL" / "a\\b.png").write_bytes(jpeg())
        assert "contains a name with a backslash" in refusal(folder)

    def test_as_long_as_the_system_allows_are_stored(self, folder, jpeg):
        (folder / "NORMAL" / ("x" * 255)).write_bytes(jpeg())
        assert f"NORMAL/{'x' * 255}" in stored(folder)

    @pytest.mark.parametrize("name", ["normal", "Pneumonia"])
    def test_of_class_folders_count_in_any_case(self, folder, jpeg, name):
        (folder / "site2" / name).mkdir(parents=True)
        (folder / "site2" / name / "2.png").write_bytes(jpeg())
        assert f"site2/{name}/2.png" in stored(folder)


def test_files_outside_of_class_folders_are_counted_in_a_warning(folder, jpeg, caplog):
    for name in ("README.txt", "scans/2.png", "scans/3.png", ".DS_Store"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(jpeg())
    with caplog.at_level(logging.WARNING):
        assert stored(folder) == ["NORMAL/1.png", "PNEUMONIA/1.png"]
    assert "3 files are in no folder NORMAL or PNEUMONIA and are not used, such as" in caplog.text


@pytest.mark.skipif(os.getuid() == 0, reason="root can read everything")
def test_a_folder_that_cannot_be_read_is_not_skipped(folder):
    (folder / "NORMAL").chmod(0)
    try:
        with pytest.raises(PermissionError):
            source.to_zip(str(folder), folder.parent / "raw" / "xrays.zip")
    finally:
        (folder / "NORMAL").chmod(0o755)
