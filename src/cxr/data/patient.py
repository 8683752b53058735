"""The patient that an image belongs to, from the file name or the user's own table."""

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from cxr import files
from cxr.errors import InputError

# Kaggle's names, then Mendeley's. A PNEUMONIA patient is a number together with a subtype: 979
# numbers occur with both bacteria and virus, for different children.
NAMES = (
    re.compile(r"person(?P<number>\d+)_(?P<subtype>bacteria|virus)_"),
    re.compile(r"(?P<subtype>BACTERIA|VIRUS)-(?P<number>\d+)-\d+$"),
    re.compile(r"(?P<number>(NORMAL2-)?IM-\d+)-\d+"),
    re.compile(r"NORMAL-(?P<number>\d+)-\d+$"),
)


def from_path(path: str) -> tuple[str | None, str]:
    """Return the patient and the subtype of the disease from a file name.

    Args:
        path: the file's path in the archive; only its last part is used.

    Returns:
        The patient, or None if the name is in neither Kaggle's nor Mendeley's style; and the
        subtype: bacteria, virus or an empty string.

    Example:
        >>> from_path("train/PNEUMONIA/person23_bacteria_78.jpeg")
        ('bacteria-23', 'bacteria')
        >>> from_path("train/NORMAL/NORMAL2-IM-0383-0001.jpeg")
        ('normal-NORMAL2-IM-0383', '')
        >>> from_path("train/NORMAL/scan.png")
        (None, '')
    """
    for pattern in NAMES:
        match = pattern.match(PurePosixPath(path).stem)
        if match is not None:
            subtype = match.groupdict().get("subtype", "").lower()
            return f"{subtype or 'normal'}-{match['number']}", subtype
    return None, ""


def from_csv(path: Path) -> dict[str, str]:
    """Return the patients by image id from the user's table.

    Args:
        path: ``split.patients``, a CSV in UTF-8 with the columns ``id`` and ``patient``; other
            columns are ignored. A header alone is an empty table.

    Returns:
        Patients by image id, stripped of surrounding spaces.

    Raises:
        InputError: the file is missing, is not a CSV in UTF-8 or lacks a column; an id occurs
            twice, or has no patient.
    """
    if not path.is_file():
        message = f"split.patients: {path} is not a file: give {_TABLE}, or sources/patients.csv"
        raise InputError(message)
    try:
        table = files.read_csv(path)
    except InputError as error:
        reason = " ".join(str(error.__cause__).split())
        message = f"split.patients: {path} is not a CSV in UTF-8 ({reason}): give {_TABLE}"
        raise InputError(message) from error
    missing = [name for name in ("id", "patient") if name not in table.columns]
    if missing:
        message = (
            f"split.patients: {path} has no column {missing[0]}, only {', '.join(table.columns)}: "
            f"give {_TABLE}"
        )
        raise InputError(message)
    ids, patients = (table[name].fillna("").str.strip() for name in ("id", "patient"))
    repeated = ids[ids.duplicated()].unique()
    if len(repeated):
        message = (
            f"split.patients: {path} has {_first(repeated)} more than once: give each id one row"
        )
        raise InputError(message)
    empty = ids[patients == ""]
    if len(empty):
        message = (
            f"split.patients: {path} has no patient for {_first(empty)}: give one, or remove the "
            "row to use the patient in the file's name"
        )
        raise InputError(message)
    return dict(zip(ids, patients, strict=True))


def check_ids(patients: Collection[str], ids: Collection[str]) -> None:
    """Check that every id of a table of patients is in the archive.

    Args:
        patients: the ids of the table.
        ids: the ids of the archive's files, unusable ones included.

    Raises:
        InputError: an id of the table is not in the archive; the message shows one that is.
    """
    unknown = sorted(set(patients) - set(ids))
    if unknown:
        message = (
            f"split.patients: the archive has no image with the id {_first(unknown)}: use the ids "
            f"of splits/manifest.csv, such as {min(ids, default='none')!r}"
        )
        raise InputError(message)


_TABLE = (
    "a CSV in UTF-8 with the columns id and patient; the ids are those of splits/manifest.csv, "
    "such as train/NORMAL/IM-0115-0001"
)


def _first(ids: Collection[str]) -> str:
    """List the first three ids and count the rest."""
    shown = ", ".join(map(repr, list(ids)[:3]))
    return shown if len(ids) <= 3 else f"{shown} and {len(ids) - 3} more"
