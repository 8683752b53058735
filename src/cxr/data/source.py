"""The source of the X-rays: write a download, a zip or a folder to one zip, and check it."""

import logging
import os
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pooch
import requests
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cxr import files, urls
from cxr.data import archive
from cxr.errors import InputError
from cxr.labels import CLASSES

RETRIES = 3
CACHE_VARIABLE = "CXR_CACHE"  # environment variable: the folder of cached downloads
EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip's earliest date, so that its bytes do not depend on today's
_COPY = "put a copy in its place (cp -rL copies a folder without links)"
log = logging.getLogger(__name__)


class Descriptor(BaseModel):
    """The URL of a data set, the size and hash that identify it, and its licence and citation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    url: str
    filename: str
    bytes: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    licence: str
    doi: str
    citation: str


def to_zip(
    source: str, target: Path, required: Sequence[str] = CLASSES, setting: str = "source"
) -> dict[str, Any]:
    """Write the X-rays of a source to one zip, check it, and return its description.

    Args:
        source: a descriptor (.yaml), a zip, or a folder with one folder per class.
        target: the zip to write.
        required: the classes that must have images. None: any one of them suffices.
        setting: the key in params.yaml that names the source, for error messages.

    Returns:
        origin (a URL without credentials), licence, doi, citation, sha256, bytes, and counts by
        class: equal for equal sources.

    Raises:
        InputError: the source is missing, cannot be downloaded, has another hash, is not a valid
            zip, contains paths that lead outside of it, or lacks a class.
    """
    path = Path(source)
    if not path.is_dir() and not path.is_file():  # a pipe or a device has no end
        state = "is neither a file nor a folder" if path.exists() else "does not exist"
        message = (
            f"source {source} {state}: give a descriptor (.yaml), a .zip, or a folder with "
            f"the folders {' and '.join(CLASSES)}, with -S {setting}=/absolute/path"
        )
        raise InputError(message)
    origin = path.absolute().name  # absolute, because "." has no name
    about: dict[str, Any] = {"origin": origin, "licence": None, "doi": None, "citation": None}
    with files.replacing(target) as temporary:
        if path.is_dir():
            _zip_folder(path, temporary)
        elif path.suffix in (".yaml", ".yml"):
            descriptor = read_descriptor(path)
            # A copy, not a hard link: DVC links its outputs into its cache and makes them
            # read-only, and an edit of the output in place would change the cached download.
            shutil.copyfile(_download(descriptor, setting), temporary)
            about = {"origin": urls.public(descriptor.url)} | descriptor.model_dump(
                include={"licence", "doi", "citation"}
            )
        else:
            shutil.copyfile(path, temporary)
        counts = _check(temporary, source, required)
        measured = {"sha256": files.file_sha256(temporary), "bytes": temporary.stat().st_size}
    return about | measured | {"counts": counts}


def read_descriptor(path: Path) -> Descriptor:
    """Read a descriptor, for example sources/kermany.yaml.

    Raises:
        InputError: the file is not YAML, or a field is missing, unknown or invalid.
    """
    try:
        return Descriptor.model_validate(files.read_yaml(path, f"source {path}"))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        message = (
            f"source {path}: {field}: {first['msg']}; a descriptor has "
            f"{', '.join(Descriptor.model_fields)}"
        )
        raise InputError(message) from error


def _check(path: Path, source: str, required: Sequence[str]) -> dict[str, int]:
    """Check an archive's list of files and that it has the classes; return their images."""
    with archive.open_zip(path, f"source {source}") as opened:
        listed = archive.entries(opened)
    counts = Counter(entry.folder for entry in listed)
    missing = [name for name in CLASSES if not counts[name]]
    if set(missing) & set(required) or len(missing) == len(CLASSES):
        found = ", ".join(f"{name} ({n})" for name, n in sorted(counts.items()) if name) or "none"
        message = (
            f"source {source} has no image in a folder {missing[0]}: images must be in folders "
            f"{' and '.join(CLASSES)}; folders with files: {found}"
        )
        raise InputError(message)
    return {name: counts[name] for name in CLASSES}


def _download(descriptor: Descriptor, setting: str) -> Path:
    """Return the path of a descriptor's file in the cache; download it if it is not there.

    The cache lies outside the stage's outputs, which DVC removes before a rerun; a rerun costs a
    hash and a copy. pooch downloads to a temporary file and moves it only if its hash is right. It
    also checks the hash of a cached file, and downloads it again if it is wrong. A killed download
    leaves its temporary file (``tmp*``), which is never used.
    """
    advice = (
        f"download {descriptor.filename} yourself ({descriptor.bytes:,} bytes, sha256 "
        f"{descriptor.sha256[:12]}...) and pass "
        f"-S {setting}=/absolute/path/{descriptor.filename}"
    )
    name = f"{descriptor.sha256}.zip"  # two sources may share a file name, but not a hash
    fetcher = pooch.create(
        path=pooch.os_cache("cxr"),
        env=CACHE_VARIABLE,
        base_url="",
        registry={name: f"sha256:{descriptor.sha256}"},
        urls={name: descriptor.url},
        retry_if_failed=RETRIES,
    )
    cached, url = fetcher.abspath / name, urls.public(descriptor.url)
    pooch.get_logger().setLevel(logging.WARNING)  # it logs the URL with its credentials
    log.info("%s (%.1f MB): looking for it in the cache, %s", url,
             descriptor.bytes / 1e6, cached)  # fmt: skip
    try:
        fetcher.fetch(name, downloader=pooch.HTTPDownloader(progressbar=True, timeout=60))
    except requests.exceptions.RequestException as error:
        message = f"cannot download {url} ({type(error).__name__}): {advice}"
        raise InputError(message) from error
    except OSError as error:
        message = (
            f"cannot use the download cache {fetcher.abspath} ({error.strerror or error}): set the "
            f"environment variable {CACHE_VARIABLE} to another folder, or {advice}"
        )
        raise InputError(message) from error
    except ValueError as error:  # pooch's error for another hash
        got = re.search(r"got ([0-9a-f]{64})", str(error))
        message = (
            f"{url} gave a file with sha256 {got.group(1) if got else 'unknown'}, not "
            f"{descriptor.sha256}; it was removed. Try again, or {advice}"
        )
        raise InputError(message) from error
    if cached.stat().st_size != descriptor.bytes:
        message = (
            f"{url} gave {cached.stat().st_size:,} bytes with the right sha256, but the "
            f"descriptor has {descriptor.bytes:,}: correct its field bytes"
        )
        raise InputError(message)
    return cached


def _zip_folder(folder: Path, target: Path) -> None:
    """Store the files in class folders in a zip whose bytes depend on those files alone."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as written:
        for path in sorted(_images(folder), key=lambda p: p.relative_to(folder).as_posix()):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), date_time=EPOCH)
            info.external_attr = 0o644 << 16
            written.writestr(info, path.read_bytes())


def _images(folder: Path) -> list[Path]:
    """Return the files in class folders, and warn of other files.

    Raises:
        InputError: a file cannot be used, or a folder is a link, behind which images would be lost.
    """

    def stop(error: OSError) -> None:
        raise error

    images, others = [], []
    for top, folders, names in os.walk(folder, onerror=stop):
        links = [name for name in folders if (Path(top) / name).is_symlink()]
        if links:
            message = (
                f"source {folder}: {str(Path(top) / links[0])!r} is a link to a folder: {_COPY}"
            )
            raise InputError(message)
        paths = [Path(top) / name for name in names]
        if archive.class_of(Path(top).name) is None:
            others += [path for path in paths if not path.name.startswith(".")]
            continue
        for path in paths:
            problem = _problem(path, folder)
            if problem is not None:
                message = f"source {folder}: {str(path)!r} {problem}"
                raise InputError(message)
        images += paths
    if others:
        log.warning(
            "%d files are in no folder %s and are not used, such as %r",
            len(others), " or ".join(CLASSES), str(others[0]),
        )  # fmt: skip
    return images


def _problem(path: Path, folder: Path) -> str | None:
    """Return why a file in a class folder cannot be used, or None."""
    if not path.is_file():
        return "is not a file but a pipe, a device or a broken link: remove it"
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        return f"is a link to something outside of the source: {_COPY}"
    if path.stat().st_size > archive.MAX_BYTES:
        return (
            f"has {path.stat().st_size:,} bytes: an X-ray has at most {archive.MAX_BYTES:,}; "
            "remove it"
        )
    if not files.is_plain(str(path.relative_to(folder))):
        return "has a name that is not UTF-8, or that has a control character: rename it"
    return None
