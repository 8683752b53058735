"""The source of the X-rays: write a download, a zip or a folder to one zip, and check it."""

import logging
import re
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import pooch
import requests
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cxr import files, urls
from cxr.data import archive
from cxr.errors import InputError
from cxr.labels import CLASSES

RETRIES = 3
CACHE_VARIABLE = "CXR_CACHE"  # environment variable: the folder of cached downloads
EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip's earliest date, so that its bytes do not depend on today's
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


def to_zip(source: str, target: Path) -> dict[str, Any]:
    """Write the X-rays of a source to one zip, check it, and return its description.

    Args:
        source: a descriptor (.yaml), a zip, or a folder with one folder per class.
        target: the zip to write.

    Returns:
        origin (a URL without credentials), licence, doi, citation, sha256, bytes, and counts by
        class: equal for equal sources.

    Raises:
        InputError: the source is missing, cannot be downloaded, has another hash, is not a valid
            zip, contains paths that lead outside of it, or lacks a class.
    """
    path = Path(source)
    if not path.exists():
        message = (
            f"source {source} does not exist: give a descriptor (.yaml), a .zip, or a folder with "
            f"the folders {' and '.join(CLASSES)}, with -S source=/absolute/path"
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
            shutil.copyfile(_download(descriptor), temporary)
            about = {"origin": urls.public(descriptor.url)} | descriptor.model_dump(
                include={"licence", "doi", "citation"}
            )
        else:
            shutil.copyfile(path, temporary)
        counts = _check(temporary, source)
        measured = {"sha256": files.file_sha256(temporary), "bytes": temporary.stat().st_size}
    return about | measured | {"counts": counts}


def read_descriptor(path: Path) -> Descriptor:
    """Read a descriptor, for example sources/kermany.yaml.

    Raises:
        InputError: the file is not YAML, or a field is missing, unknown or invalid.
    """
    try:
        fields = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        return Descriptor.model_validate(fields)
    except (YAMLError, UnicodeDecodeError) as error:
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
    """Check that an archive is safe and has both classes; return the images of each class."""
    with archive.open_zip(path, f"source {source}") as opened:
        for name in opened.namelist():
            parts = re.split(r"[/\\]", name)
            if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name):
                message = (
                    f"source {source} contains a path that leads outside of it: {name!r}. Only "
                    "relative paths without '..' are allowed; do not use this archive"
                )
                raise InputError(message)
        listed = archive.entries(opened)
    counts = Counter(entry.folder for entry in listed)
    missing = [name for name in CLASSES if not counts[name]]
    if missing:
        found = ", ".join(f"{name} ({n})" for name, n in sorted(counts.items()) if name) or "none"
        message = (
            f"source {source} has no image in a folder {missing[0]}: images must be in folders "
            f"{' and '.join(CLASSES)}; folders with files: {found}"
        )
        raise InputError(message)
    return {name: counts[name] for name in CLASSES}


def _download(descriptor: Descriptor) -> Path:
    """Return the path of a descriptor's file in the cache; download it if it is not there.

    The cache lies outside the stage's outputs, which DVC removes before a rerun; a rerun costs a
    hash and a copy. pooch downloads to a temporary file and moves it only if its hash is right. It
    also checks the hash of a cached file, and downloads it again if it is wrong. A killed download
    leaves its temporary file (``tmp*``), which is never used.
    """
    advice = (
        f"download {descriptor.filename} yourself ({descriptor.bytes:,} bytes, sha256 "
        f"{descriptor.sha256[:12]}...) and pass "
        f"-S source=/absolute/path/{descriptor.filename}"
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
    images = [p for p in folder.rglob("*") if p.is_file() and p.parent.name in CLASSES]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as written:
        for path in sorted(images, key=lambda p: p.relative_to(folder).as_posix()):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), date_time=EPOCH)
            info.external_attr = 0o644 << 16
            written.writestr(info, path.read_bytes())
