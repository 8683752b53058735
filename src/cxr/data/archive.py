"""The archive: one zip of X-rays, read by name and never unpacked."""

import logging
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cxr.errors import InputError

OFFICIAL = ("train", "val", "test")  # folders by which an archive divides itself
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One file of an archive that should be an X-ray.

    Attributes:
        path: its name in the zip.
        folder: the folder it lies in; a class, where all is well.
        official_split: train, val or test where the archive says so, else empty.
    """

    path: str
    folder: str
    official_split: str


def entries(archive: zipfile.ZipFile) -> list[Entry]:
    """List the files that should be X-rays, in the order of their names.

    Folders, ``__MACOSX`` and hidden files (``.DS_Store``) are no images and are passed over. So is
    a second copy of a file, of the same name, class and official split: Kaggle's zip holds all of
    its files once more in ``chest_xray/chest_xray/``, which would double every count.
    """
    found: dict[tuple[str, str, str, int, int], Entry] = {}
    listed = {info.filename: info for info in archive.infolist()}
    copies = 0
    for name, info in sorted(listed.items()):
        parts = PurePosixPath(name).parts
        if name.endswith("/") or any(p == "__MACOSX" or p.startswith(".") for p in parts):
            continue
        above = parts[-3] if len(parts) > 2 else ""
        official = above if above in OFFICIAL else ""
        folder = parts[-2] if len(parts) > 1 else ""
        file = (official, folder, parts[-1], info.CRC, info.file_size)
        copies += file in found
        found.setdefault(file, Entry(name, folder, official))
    if copies:
        log.warning("%d files are in the archive twice; one copy of each is used", copies)
    return list(found.values())


def open_zip(path: Path, name: str | None = None) -> zipfile.ZipFile:
    """Open a zip; reading from it is safe from several threads.

    Raises:
        InputError: where it is missing, truncated or no zip at all.
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


def read(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read one file of an archive.

    Raises:
        InputError: where it is not there, damaged, encrypted, or packed in a way unknown here.
    """
    try:
        return archive.read(name)
    except KeyError as error:
        message = "not in the zip"
        raise InputError(message) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        message = f"cannot be read from the zip: {error}"
        raise InputError(message) from error
