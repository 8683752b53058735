"""The manifest: one row per image, with its patient, size and hashes."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cxr import files
from cxr.data import archive, dicom, image, patient, threads
from cxr.errors import InputError
from cxr.labels import CLASSES

COLUMNS = (
    "id", "path", "label", "patient", "patient_known", "subtype", "width", "height", "mode",
    "bytes", "sha256", "pixel_hash", "official_split",
)  # fmt: skip


def build(
    path: Path,
    max_rejected: float,
    patients: Mapping[str, str] | None = None,
    required: Sequence[str] = CLASSES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decode every image of an archive once and return the manifest and the rejected files.

    Args:
        path: the zip.
        max_rejected: the fraction of the images, 0 to 1, that may be unusable.
        patients: patients by image id; they override the file names.
        required: the classes that must have a usable image.

    Returns:
        The manifest, with the columns :data:`COLUMNS` and one row per usable image, ordered by
        path; and the rejected files: path, reason. ``patient_known`` is False if neither the name
        (of a DICOM file: its PatientID) nor ``patients`` gives the patient; the image then counts
        as its own patient.

    Raises:
        InputError: more images are unusable than allowed, a required class has no usable image, or
            ``patients`` names an id that the archive does not have.
    """
    patients = patients or {}
    with archive.open_zip(path) as opened:
        listed = archive.entries(opened)
        patient.check_ids(patients, [entry.id for entry in listed])
        rows = threads.parallel_map(
            lambda entry: _row(opened, entry, patients), listed, "reading X-rays"
        )
    rejected = pd.DataFrame([r for r in rows if "reason" in r], columns=["path", "reason"])
    first = "; ".join(f"{r.path}: {r.reason}" for r in rejected.head(3).itertuples())
    if len(rejected) > max_rejected * len(rows):
        message = (
            f"{len(rejected)} of {len(rows)} images cannot be used, more than split.max_rejected "
            f"({max_rejected:.2%}) allows: {first}. Repair the source, or raise split.max_rejected"
        )
        raise InputError(message)
    manifest = pd.DataFrame([r for r in rows if "reason" not in r], columns=list(COLUMNS))
    for name in required:
        if not (manifest["label"] == CLASSES.index(name)).any():
            message = f"no image of class {name} can be used. The first rejected: {first or 'none'}"
            raise InputError(message)
    return manifest, rejected


def _row(
    opened: zipfile.ZipFile, entry: archive.Entry, patients: Mapping[str, str]
) -> dict[str, Any]:
    """Return a file's row of the manifest, or its path and the reason for rejecting it."""
    try:
        if entry.folder not in CLASSES:
            message = (
                f"folder {entry.folder!r} is not a class: the classes are {', '.join(CLASSES)}"
            )
            raise InputError(message)
        data = archive.read(opened, entry.path)
        pixels, mode = image.decode(data)
        if dicom.is_dicom(data):  # whose names often look like Kermany's: IM-0001-0001.dcm
            named, subtype = dicom.patient(data), ""
        else:
            named, subtype = patient.from_path(entry.path)
    except InputError as error:
        return {"path": entry.path, "reason": str(error)}
    known = patients.get(entry.id, named)
    return {
        "id": entry.id,
        "path": entry.path,
        "label": CLASSES.index(entry.folder),
        "patient": known or f"file-{entry.path}",
        "patient_known": known is not None,
        "subtype": subtype,
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "mode": mode,
        "bytes": len(data),
        "sha256": files.bytes_sha256(data),
        "pixel_hash": image.pixel_hash(pixels),
        "official_split": entry.official_split,
    }
