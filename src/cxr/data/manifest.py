"""The manifest: one row an X-ray, with its patient, its size and its hashes."""

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from cxr import files
from cxr.data import archive, image, parallel, patient
from cxr.errors import InputError
from cxr.params import CLASSES

COLUMNS = (
    "id", "path", "label", "patient", "subtype", "width", "height", "mode", "bytes", "sha256",
    "pixel_hash", "official_split",
)  # fmt: skip


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
        rows = parallel.in_threads(lambda entry: _row(opened, entry), listed, "reading X-rays")
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
    with files.replacing(path) as beside:
        table.to_csv(beside, index=False, lineterminator="\n")


def _row(opened: zipfile.ZipFile, entry: archive.Entry) -> dict[str, Any]:
    """Describe one file of the archive, or say why it cannot be used."""
    try:
        if entry.folder not in CLASSES:
            message = f"folder {entry.folder!r} is no class: those are {', '.join(CLASSES)}"
            raise InputError(message)
        data = archive.read(opened, entry.path)
        pixels, mode = image.decode(data)
    except InputError as error:
        return {"path": entry.path, "reason": str(error)}
    name = PurePosixPath(entry.path)
    who, subtype = patient.from_path(entry.path)
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
        "sha256": files.bytes_sha256(data),
        "pixel_hash": image.pixel_hash(pixels),
        "official_split": entry.official_split,
    }
