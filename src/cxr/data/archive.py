"""The archive: one zip of X-rays, read by name and never unpacked."""

import logging
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cxr.errors import InputError

OFFICIAL = ("train", "val", "test")  # the folder names of an archive's own split
# A detector of 43 x 43 cm with 0.1 mm per pixel has 18.5 million pixels: 74 MB as raw RGBA.
# A larger file is not an X-ray, and one such file per thread could fill the memory.
MAX_BYTES = 100_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One file of an archive that should be an X-ray.

    Attributes:
        path: its name in the zip.
        id: its last two folders and its name without the suffix; the whole path if several files
            of the archive would share that id.
        folder: name of its folder, which should be a class.
        official_split: train, val or test if that is the folder above, otherwise empty.
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
    for path, info in sorted({info.filename: info for info in archive.infolist()}.items()):
        parts = PurePosixPath(path).parts
        if path.endswith("/") or any(p == "__MACOSX" or p.startswith(".") for p in parts):
            continue
        file = (_official_split(path), _folder(path), parts[-1], info.CRC, info.file_size)
        copies += file in paths
        paths.setdefault(file, path)
    if copies:
        log.warning("%d files in the archive are second copies and are not used", copies)
    files_of_id = Counter(map(_id, paths.values()))
    return [
        Entry(
            path=path,
            id=_id(path) if files_of_id[_id(path)] == 1 else path,
            folder=_folder(path),
            official_split=_official_split(path),
        )
        for path in paths.values()
    ]


def _folder(path: str) -> str:
    return PurePosixPath(path).parent.name


def _official_split(path: str) -> str:
    above = PurePosixPath(path).parent.parent.name
    return above if above in OFFICIAL else ""


def _id(path: str) -> str:
    return "/".join(PurePosixPath(path).with_suffix("").parts[-3:])


def open_zip(path: Path, name: str | None = None) -> zipfile.ZipFile:
    """Open a zip for reading, also from several threads.

    Args:
        path: the zip.
        name: its name in error messages; by default its path.

    Raises:
        InputError: the file is missing, truncated or not a zip.
    """
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as error:
        message = f"{name or path} is missing: run `dvc repro download`"
        raise InputError(message) from error
    except zipfile.BadZipFile as error:
        message = (
            f"{name or path} is not a whole zip ({str(error).lower()}): it may be truncated; "
            "fetch it again and compare its size and hash"
        )
        raise InputError(message) from error


def read(archive: zipfile.ZipFile, path: str) -> bytes:
    """Return the bytes of one file of an archive, at most :data:`MAX_BYTES`.

    Raises:
        InputError: the file is missing, too large, corrupt, encrypted, or compressed by a method
            that Python does not know.
    """
    try:
        info = archive.getinfo(path)
        if info.file_size > MAX_BYTES:
            message = f"{info.file_size:,} bytes: an X-ray has at most {MAX_BYTES:,}"
            raise InputError(message)
        # ZipFile.read would inflate the whole file before it checks the declared size.
        with archive.open(info) as stream:
            return stream.read(info.file_size + 1)
    except KeyError as error:
        message = "not in the zip"
        raise InputError(message) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        message = f"cannot be read from the zip: {error}"
        raise InputError(message) from error
