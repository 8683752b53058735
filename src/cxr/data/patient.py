"""The patient that an image belongs to, from the file name or the user's own table."""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from cxr import files
from cxr.errors import InputError

MAX_TABLE = 100_000_000  # bytes: 377,110 rows, the images of MIMIC-CXR-JPG, need about 30 million
FORMULA = ("=", "+", "-", "@")  # a spreadsheet takes a cell that begins so for a formula

# Kaggle's names, then Mendeley's. A PNEUMONIA patient is a number together with a subtype: 979
# numbers occur with both bacteria and virus, for different children.
NAMES = (
    re.compile(r"person(?P<number>\d+)_(?P<subtype>bacteria|virus)_"),
    re.compile(r"(?P<subtype>BACTERIA|VIRUS)-(?P<number>\d+)-\d+$"),
    re.compile(r"(?P<number>(NORMAL2-)?IM-\d+)-\d+"),
    re.compile(r"NORMAL-(?P<number>\d+)-\d+$"),
)
_TABLE = (
    "a CSV in UTF-8 with the columns id and patient; the ids are those of splits/manifest.csv, "
    "such as train/NORMAL/IM-0115-0001"
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
        InputError: the file is missing, is not a CSV in UTF-8, is too large, or lacks a column or
            has it twice; an id occurs twice; a patient is missing, or is a spreadsheet's formula.
    """
    if not path.is_file():
        message = f"split.patients: {path} is not a file: give {_TABLE}, or sources/patients.csv"
        raise InputError(message)
    header, *rows = _rows(path)
    for name in ("id", "patient"):
        if header.count(name) != 1:
            amount = "two columns" if name in header else "no column"
            message = (
                f"split.patients: {path} has {amount} {name}, only {', '.join(header)}: "
                f"give {_TABLE}"
            )
            raise InputError(message)
    table = [
        (row[header.index("id")].strip(), row[header.index("patient")].strip()) for row in rows
    ]
    problems = {
        "has {} more than once: give each id one row": [
            i for i, number in Counter(i for i, _ in table).items() if number > 1
        ],
        "has no patient for {}: give one, or remove the row to use the patient in the file's "
        "name": [i for i, patient in table if not patient],
        "has a formula as the patient of {}: give the value that a spreadsheet would show": [
            i for i, patient in table if patient.startswith(FORMULA)
        ],
    }
    for problem, ids in problems.items():
        if ids:
            message = f"split.patients: {path} {problem.format(_first(ids))}"
            raise InputError(message)
    return dict(table)


def _rows(path: Path) -> list[list[str]]:
    """Return the cells of a CSV in UTF-8: the header, and the rows that are not empty.

    Short rows are filled with empty cells, because spreadsheets write them so.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_TABLE + 1)
        if len(data) > MAX_TABLE:
            message = f"more than {MAX_TABLE:,} bytes"
            raise ValueError(message)
        text = data.decode("utf-8-sig")
        if not files.is_plain(text, but="\t\r\n"):
            message = "it has control characters"
            raise ValueError(message)
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
        if not rows:
            message = "it is empty"
            raise ValueError(message)
        if len(max(rows, key=len)) > len(rows[0]):
            message = "a row has more cells than the header"
            raise ValueError(message)
    except (ValueError, csv.Error) as error:
        message = f"split.patients: {path} is not a CSV in UTF-8 ({error}): give {_TABLE}"
        raise InputError(message) from error
    return [row + [""] * (len(rows[0]) - len(row)) for row in rows]


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


def _first(ids: Collection[str]) -> str:
    """List the first three ids and count the rest."""
    shown = ", ".join(map(repr, list(ids)[:3]))
    return shown if len(ids) <= 3 else f"{shown} and {len(ids) - 3} more"
