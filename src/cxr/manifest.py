"""The manifest: one row an X-ray, with its patient, its size and its hashes."""

import io
import re
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from cxr import archive, atomic, hashing
from cxr.errors import InputError
from cxr.params import CLASSES

COLUMNS = (
    "id", "path", "label", "patient", "subtype", "width", "height", "mode", "bytes", "sha256",
    "pixel_hash", "official_split",
)  # fmt: skip
GREY_8_BIT = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits a channel or less

# Kaggle's names, then Mendeley's. A number of a PNEUMONIA patient is one only beside its subtype:
# 979 numbers carry both bacteria and virus files, which are different children.
NAMES = (
    re.compile(r"person(?P<number>\d+)_(?P<subtype>bacteria|virus)_"),
    re.compile(r"(?P<subtype>BACTERIA|VIRUS)-(?P<number>\d+)-\d+$"),
    re.compile(r"(?P<number>(NORMAL2-)?IM-\d+)-\d+"),
    re.compile(r"NORMAL-(?P<number>\d+)-\d+$"),
)

Item = TypeVar("Item")
Result = TypeVar("Result")


def build(path: Path, max_rejected: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Open and decode every image of an archive once.

    Args:
        path: the zip.
        max_rejected: the part of the images, 0 to 1, that may be unusable.

    Returns:
        The manifest, a row a usable image, with the columns :data:`COLUMNS`, ordered by path; and
        the rejected files: path, reason.

    Raises:
        InputError: more images than that cannot be used, or none of a class is left.
    """
    with archive.open_zip(path) as opened:
        listed = archive.entries(opened)
        rows = in_threads(lambda entry: _row(opened, entry), listed, "reading X-rays")
    rejected = pd.DataFrame([r for r in rows if "reason" in r], columns=["path", "reason"])
    first = "; ".join(f"{r.path}: {r.reason}" for r in rejected.head(3).itertuples())
    if len(rejected) > max_rejected * len(rows):
        message = (
            f"{len(rejected)} of {len(rows)} images cannot be used, more than split.max_rejected "
            f"({max_rejected:.2%}) allows: {first}. Mend the source, or raise split.max_rejected"
        )
        raise InputError(message)
    manifest = pd.DataFrame([r for r in rows if "reason" not in r], columns=list(COLUMNS))
    # a.jpeg beside a.png, or two sites with folders of the same names: their whole paths then.
    manifest["id"] = manifest["id"].mask(manifest["id"].duplicated(keep=False), manifest["path"])
    for label, name in enumerate(CLASSES):
        if not (manifest["label"] == label).any():
            message = (
                f"no usable image of class {name} is left. The first rejected: {first or 'none'}"
            )
            raise InputError(message)
    return manifest, rejected


def patient(path: str) -> tuple[str, str]:
    """Return the patient and the subtype (bacteria, virus or empty) that a file's name tells.

    A name of neither style is a patient of its own, whatever folders hold another of that name.

    Example:
        >>> patient("train/PNEUMONIA/person23_bacteria_78.jpeg")
        ('bacteria-23', 'bacteria')
        >>> patient("train/NORMAL/NORMAL2-IM-0383-0001.jpeg")
        ('normal-NORMAL2-IM-0383', '')
    """
    for pattern in NAMES:
        found = pattern.match(PurePosixPath(path).stem)
        if found is not None:
            subtype = found.groupdict().get("subtype", "").lower()
            return f"{subtype or 'normal'}-{found['number']}", subtype
    return f"file-{path}", ""


def decode(data: bytes) -> tuple[np.ndarray, str]:
    """Decode an image to grey.

    Args:
        data: the bytes of a JPEG, PNG, or anything else that Pillow reads.

    Returns:
        uint8 [height, width], RGB by its luma (ITU-R 601), and the mode it was stored in.

    Raises:
        InputError: with the reason, where it cannot be used.
    """
    if not data:
        message = "zero bytes"
        raise InputError(message)
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            if mode not in GREY_8_BIT:
                message = f"mode {mode}: more than 8 bits a pixel, which a cut to 8 would distort"
                raise InputError(message)
            return np.asarray(image.convert("L")), mode
    except InputError:  # a ValueError, as are some of Pillow's below
        raise
    except UnidentifiedImageError as error:
        message = "not an image"
        raise InputError(message) from error
    except (
        OSError, SyntaxError, TypeError, ValueError, NotImplementedError,
        Image.DecompressionBombError,
    ) as error:  # fmt: skip
        message = f"cannot be decoded: {error}"
        raise InputError(message) from error


def read(path: Path) -> pd.DataFrame:
    """Read a manifest back; ids and patients stay text, empty cells stay empty text.

    Raises:
        InputError: where it is not there.
    """
    if not path.is_file():
        message = f"{path} is missing: run `dvc repro split`"
        raise InputError(message)
    text = ["id", "path", "patient", "subtype", "mode", "sha256", "pixel_hash"]
    text += ["official_split", "split"]
    return pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False)


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all; the same table gives the same bytes."""
    with atomic.replacing(path) as beside:
        table.to_csv(beside, index=False, lineterminator="\n")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], what: str) -> list[Result]:
    """Do ``work`` on every item on all cores, with a progress bar; results in the items' order.

    Threads, not processes: Pillow and the hashes let go of Python's lock, and the archive and the
    memory map are shared.
    """
    items = list(items)
    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(tqdm(pool.map(work, items), what, total=len(items), mininterval=0.5))


def _row(opened: zipfile.ZipFile, entry: archive.Entry) -> dict[str, Any]:
    """Describe one file of the archive, or say why it cannot be used."""
    try:
        if entry.folder not in CLASSES:
            message = f"folder {entry.folder!r} is no class: those are {', '.join(CLASSES)}"
            raise InputError(message)
        data = archive.read(opened, entry.path)
        pixels, mode = decode(data)
    except InputError as error:
        return {"path": entry.path, "reason": str(error)}
    name = PurePosixPath(entry.path)
    who, subtype = patient(entry.path)
    return {
        # Names repeat between folders of other archives than Kermany's; paths do not.
        "id": "/".join(name.with_suffix("").parts[-3:]),
        "path": entry.path,
        "label": CLASSES.index(entry.folder),
        "patient": who,
        "subtype": subtype,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "mode": mode,
        "bytes": len(data),
        "sha256": hashing.bytes_sha256(data),
        "pixel_hash": hashing.pixel_hash(pixels),
        "official_split": entry.official_split,
    }
