"""One zip is the data: taken from a source, checked, read by name, never unpacked."""

import logging
import re
import shutil
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import pooch
import requests
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cxr import atomic, hashing
from cxr.errors import InputError
from cxr.params import CLASSES

OFFICIAL = ("train", "val", "test")  # folders by which an archive divides itself
RETRIES = 3
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip can hold: no date of ours in the bytes

log = logging.getLogger(__name__)


class Descriptor(BaseModel):
    """Where a data set comes from, and how to know that it is the right one."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    url: str
    filename: str
    bytes: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    licence: str
    doi: str
    citation: str


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


def take(source: str, target: Path) -> dict[str, Any]:
    """Make one zip of a source and check it.

    Args:
        source: a descriptor (.yaml), a zip, or a folder with one folder per class.
        target: the zip to write.

    Returns:
        origin, sha256, bytes, counts per class, licence, citation: the same for the same source.

    Raises:
        InputError: the source is missing, cannot be downloaded, has another hash, is not a sound
            zip, names files outside of itself, or lacks a class.
    """
    path = Path(source)
    if not path.exists():
        message = (
            f"source {source} does not exist: give a descriptor (.yaml), a .zip, or a folder with "
            f"the folders {' and '.join(CLASSES)}; -S source=/absolute/path sets it"
        )
        raise InputError(message)
    origin = path.absolute().name  # of "." too
    about: dict[str, Any] = {"origin": origin, "licence": None, "doi": None, "citation": None}
    with atomic.replacing(target) as beside:
        if path.is_dir():
            _zip_folder(path, beside)
        elif path.suffix in (".yaml", ".yml"):
            descriptor = read_descriptor(path)
            _download(descriptor, beside)
            about = {"origin": descriptor.url} | descriptor.model_dump(
                include={"licence", "doi", "citation"}
            )
        else:
            shutil.copyfile(path, beside)
        counts = _check(beside, source)
        measured = {"sha256": hashing.file_sha256(beside), "bytes": beside.stat().st_size}
    return about | measured | {"counts": counts}


def read_descriptor(path: Path) -> Descriptor:
    """Read a descriptor.

    Raises:
        InputError: where it is not YAML, or a field is missing, unknown or wrong.
    """
    try:
        return Descriptor.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = f"source {path} is not YAML: {' '.join(str(error).split())}"
        raise InputError(message) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        message = (
            f"source {path}: {field}: {first['msg']}; a descriptor has "
            f"{', '.join(Descriptor.model_fields)}"
        )
        raise InputError(message) from error


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


def _check(path: Path, source: str) -> dict[str, int]:
    """Refuse an archive that is unsound or lacks a class; return the images of each class."""
    with open_zip(path, f"source {source}") as archive:
        for name in archive.namelist():
            parts = re.split(r"[/\\]", name)
            if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name):
                message = (
                    f"source {source} names a file outside of itself: {name!r}. "
                    "Only relative names without '..' are taken; do not use this archive"
                )
                raise InputError(message)
        listed = entries(archive)
    counts = Counter(entry.folder for entry in listed)
    missing = [name for name in CLASSES if not counts[name]]
    if missing:
        there = ", ".join(f"{name} ({n})" for name, n in sorted(counts.items()) if name) or "none"
        message = (
            f"source {source} has no image in a folder {missing[0]}: wanted are images in folders "
            f"{' and '.join(CLASSES)}; folders with files: {there}"
        )
        raise InputError(message)
    return {name: counts[name] for name in CLASSES}


def _download(descriptor: Descriptor, target: Path) -> None:
    """Fetch a descriptor's file; pooch checks the hash in a temporary file and then moves it."""
    by_hand = (
        f"fetch {descriptor.filename} by hand ({descriptor.bytes:,} bytes, sha256 "
        f"{descriptor.sha256[:12]}...) and give it with "
        f"-S source=/absolute/path/{descriptor.filename}"
    )
    log.info("downloading %s (%.1f MB)", descriptor.url, descriptor.bytes / 1e6)
    mode = target.stat().st_mode  # pooch's own file would be this user's alone
    target.unlink()  # pooch downloads only what is not there
    try:
        fetcher = pooch.create(
            path=target.parent,
            base_url="",
            registry={target.name: f"sha256:{descriptor.sha256}"},
            urls={target.name: descriptor.url},
            retry_if_failed=RETRIES,
        )
        downloader = pooch.HTTPDownloader(progressbar=True, timeout=60)
        fetcher.fetch(target.name, downloader=downloader)
        target.chmod(mode)
    except requests.exceptions.RequestException as error:
        message = f"cannot download {descriptor.url} ({type(error).__name__}): {by_hand}"
        raise InputError(message) from error
    except ValueError as error:  # pooch's word for another hash
        got = re.search(r"got ([0-9a-f]{64})", str(error))
        message = (
            f"{descriptor.url} gave a file with sha256 {got.group(1) if got else 'unknown'}, "
            f"expected is {descriptor.sha256}: it was not kept. Try again, or {by_hand}"
        )
        raise InputError(message) from error
    if target.stat().st_size != descriptor.bytes:
        message = (
            f"{descriptor.url} gave {target.stat().st_size:,} bytes of the right sha256, but the "
            f"descriptor says {descriptor.bytes:,}: correct its field bytes"
        )
        raise InputError(message)


def _zip_folder(folder: Path, target: Path) -> None:
    """Store the files of a folder's class folders in a zip whose bytes depend on them alone."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.parent.name in CLASSES)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files, key=lambda p: p.relative_to(folder).as_posix()):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), date_time=EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, path.read_bytes())
