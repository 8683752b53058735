"""The archive: one zip of X-rays, read by name and never unpacked."""

import logging
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cxr import files
from cxr.errors import InputError
from cxr.labels import CLASSES

OFFICIAL = ("train", "val", "test")  # the folder names of an archive's own split
# A detector of 43 x 43 cm with 0.1 mm per pixel has 18.5 million pixels: 74 MB as raw RGBA.
# A larger file is not an X-ray, and one such file per thread could fill the memory.
MAX_BYTES = 100_000_000
# Deflate shrinks a raw X-ray (BMP, PGM) two or three times, and a JPEG or PNG not at all.
MAX_RATIO = 100
SMALL = 1_000_000  # bytes: a file up to this size may have any ratio, such as a small blank image
# The list of an archive's files, which Python holds in memory at about 15 times its bytes in the
# zip. The largest public set, MIMIC-CXR-JPG with 377,110 files, needs 50 MB.
MAX_LIST = 100_000_000
MAX_NAME = 1024  # characters: the longest path on macOS; Linux has 4096 bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One file of an archive that should be an X-ray.

    Attributes:
        path: its name in the zip.
        id: its last two folders and its name without the suffix; the whole path if several files
            of the archive would share that id.
        folder: name of its folder, which should be a class; a class in capitals (``normal``
            counts as ``NORMAL``).
        official_split: train, val or test if that is the folder above, in small or capital
            letters; otherwise empty.
    """

    path: str
    id: str
    folder: str
    official_split: str


def entries(archive: zipfile.ZipFile) -> list[Entry]:
    """Return the files that should be X-rays, in the order of their names.

    Folders, ``__MACOSX`` and hidden files (``.DS_Store``) are skipped. So are second copies: files
    with the same name, class, official split and content. Kaggle's zip holds all of its files again
    in ``chest_xray/chest_xray/``, which would double every count.
    """
    paths: dict[tuple[str, str, str, int, int], str] = {}
    copies = 0
    for info in sorted(archive.infolist(), key=lambda info: info.filename):
        path = info.filename
        parts = PurePosixPath(path).parts
        if path.endswith("/") or any(p == "__MACOSX" or p.startswith(".") for p in parts):
            continue
        file = (_official_split(path), _folder(path), parts[-1], info.CRC, info.file_size)
        copies += file in paths
        paths.setdefault(file, path)
    if copies:
        log.warning("%d files in the archive are second copies and are not used", copies)
    files_of_id = Counter(map(_id, paths.values()))
    used = set(paths.values())
    return [
        Entry(
            path=path,
            # The id must be neither another file's id nor another file's path.
            id=_id(path) if files_of_id[_id(path)] == 1 and _id(path) not in used else path,
            folder=_folder(path),
            official_split=_official_split(path),
        )
        for path in paths.values()
    ]


def class_of(folder: str) -> str | None:
    """Return the class that a folder's name means, in any case, or None."""
    return folder.upper() if folder.upper() in CLASSES else None


def _folder(path: str) -> str:
    name = PurePosixPath(path).parent.name
    return class_of(name) or name


def _official_split(path: str) -> str:
    above = PurePosixPath(path).parent.parent.name.lower()
    return above if above in OFFICIAL else ""


def _id(path: str) -> str:
    return "/".join(PurePosixPath(path).with_suffix("").parts[-3:])


def open_zip(path: Path, name: str | None = None) -> zipfile.ZipFile:
    """Open a zip for reading, also from several threads, and check its list of files.

    Nothing is inflated. The list tells the sizes and names, and bounds what reading can cost.

    Args:
        path: the zip.
        name: its name in error messages; by default its path.

    Raises:
        InputError: the file is missing, truncated or not a zip; it is a zip bomb; or the name of a
            file leads outside of the zip, occurs twice, or is not plain text.
    """
    name = name or str(path)
    try:
        _check_list(path, name)
        opened = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        message = f"{name} is missing: run `dvc repro download`"
        raise InputError(message) from error
    except PermissionError:
        raise
    except UnicodeDecodeError as error:
        message = f"{name} has a file whose name is not in the encoding that it declares (UTF-8)"
        raise InputError(f"{message}: zip it again") from error
    except (zipfile.BadZipFile, NotImplementedError, struct.error, OSError) as error:
        message = (
            f"{name} is not a whole zip ({str(error).lower()}): it may be truncated; "
            "fetch it again and compare its size and hash"
        )
        raise InputError(message) from error
    try:
        _check_sizes(opened, path.stat().st_size, name)
        _check_names(opened, name)
    except InputError:
        opened.close()
        raise
    return opened


def read(archive: zipfile.ZipFile, path: str) -> bytes:
    """Return the bytes of one file of an archive, at most :data:`MAX_BYTES`.

    Raises:
        InputError: the file is missing, too large, a bomb, a link, corrupt, encrypted, or
            compressed by another method than deflate.
    """
    try:
        info = archive.getinfo(path)
    except KeyError as error:
        message = "not in the zip"
        raise InputError(message) from error
    _check_entry(info)
    try:
        # ZipFile.read would inflate the whole file before it checks the declared size.
        with archive.open(info) as stream:
            return stream.read(info.file_size + 1)
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError,
    ) as error:  # fmt: skip
        message = f"cannot be read from the zip: {error}"
        raise InputError(message) from error


def _check_entry(info: zipfile.ZipInfo) -> None:
    """Check that one file of an archive can be read in bounded memory."""
    if stat.S_ISLNK(info.external_attr >> 16):
        message = "a symbolic link: zip the file that it points to"
        raise InputError(message)
    if info.file_size > MAX_BYTES:
        message = f"{info.file_size:,} bytes: an X-ray has at most {MAX_BYTES:,}"
        raise InputError(message)
    if info.file_size > max(SMALL, MAX_RATIO * info.compress_size):
        message = (
            f"{info.file_size:,} bytes from {info.compress_size:,} in the zip, more than "
            f"{MAX_RATIO} times as many: no X-ray shrinks so far"
        )
        raise InputError(message)
    # Python inflates bzip2 and LZMA in whole blocks, whatever size is asked for.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        message = (
            f"its compression method is not supported ({info.compress_type}): use deflate, or none"
        )
        raise InputError(message)


def _check_list(path: Path, name: str) -> None:
    """Check the size of an archive's list of files before Python reads it into memory."""
    with path.open("rb") as stream:
        # Private, but it finds the end record exactly as ZipFile does, also in Zip64.
        end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
    if end and end[5] > MAX_LIST:  # the bytes of the list
        message = (
            f"{name} has a list of files of {end[5]:,} bytes, where {MAX_LIST:,} are allowed: "
            "divide it into several archives"
        )
        raise InputError(message)


def _check_sizes(opened: zipfile.ZipFile, stored: int, name: str) -> None:
    """Check the inflated size of all files together: overlapping entries can add up to a bomb."""
    total = sum(info.file_size for info in opened.infolist())
    if total > max(MAX_BYTES, MAX_RATIO * stored):
        message = (
            f"{name} is a zip bomb: its {stored:,} bytes inflate to {total:,}, more than "
            f"{MAX_RATIO} times as many; do not use this archive"
        )
        raise InputError(message)


def _check_names(opened: zipfile.ZipFile, name: str) -> None:
    """Check that every file has one relative path of plain text."""
    seen: set[PurePosixPath] = set()
    for info in opened.infolist():
        path = info.orig_filename  # Python cuts ``filename`` at a zero byte
        parts = re.split(r"[/\\]", path)
        folder = path.endswith("/")
        if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", path):
            message = (
                f"{name} contains a path that leads outside of it: {path!r}. Only relative paths "
                "without '..' are allowed; do not use this archive"
            )
        elif len(path) > MAX_NAME:
            message = (
                f"{name} contains a name of {len(path):,} characters, {path[:40]!r}...: at most "
                f"{MAX_NAME:,} are allowed; rename it"
            )
        elif "\\" in path or not files.is_plain(path):
            message = (
                f"{name} contains a name with a backslash or a control character: {path!r}. "
                "Folders are divided by '/'; rename it and zip it again"
            )
        elif not folder and not PurePosixPath(path).name:
            message = f"{name} contains a file without a name: {path!r}; remove it"
        elif not folder and PurePosixPath(path) in seen:
            message = (
                f"{name} contains two files named {path!r}, and only one could be used: rename or "
                "remove one and zip it again"
            )
        else:
            if not folder:
                seen.add(PurePosixPath(path))
            continue
        raise InputError(message)
