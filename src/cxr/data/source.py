"""The source of the X-rays: a download, a zip or a folder, made one zip and checked."""

import logging
import re
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import pooch
import requests
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cxr import files
from cxr.data import archive
from cxr.errors import InputError
from cxr.params import CLASSES

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
    with files.replacing(target) as beside:
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
        measured = {"sha256": files.file_sha256(beside), "bytes": beside.stat().st_size}
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


def _check(path: Path, source: str) -> dict[str, int]:
    """Refuse an archive that is unsound or lacks a class; return the images of each class."""
    with archive.open_zip(path, f"source {source}") as opened:
        for name in opened.namelist():
            parts = re.split(r"[/\\]", name)
            if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name):
                message = (
                    f"source {source} names a file outside of itself: {name!r}. "
                    "Only relative names without '..' are taken; do not use this archive"
                )
                raise InputError(message)
        listed = archive.entries(opened)
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
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as written:
        for path in sorted(files, key=lambda p: p.relative_to(folder).as_posix()):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), date_time=EPOCH)
            info.external_attr = 0o644 << 16
            written.writestr(info, path.read_bytes())
