"""The patient behind a file's name."""

import re
from pathlib import PurePosixPath

# Kaggle's names, then Mendeley's. A number of a PNEUMONIA patient is one only beside its subtype:
# 979 numbers carry both bacteria and virus files, which are different children.
NAMES = (
    re.compile(r"person(?P<number>\d+)_(?P<subtype>bacteria|virus)_"),
    re.compile(r"(?P<subtype>BACTERIA|VIRUS)-(?P<number>\d+)-\d+$"),
    re.compile(r"(?P<number>(NORMAL2-)?IM-\d+)-\d+"),
    re.compile(r"NORMAL-(?P<number>\d+)-\d+$"),
)


def from_path(path: str) -> tuple[str, str]:
    """Return the patient and the subtype (bacteria, virus or empty) that a file's name tells.

    A name of neither style is a patient of its own, whatever folders hold another of that name.

    Example:
        >>> from_path("train/PNEUMONIA/person23_bacteria_78.jpeg")
        ('bacteria-23', 'bacteria')
        >>> from_path("train/NORMAL/NORMAL2-IM-0383-0001.jpeg")
        ('normal-NORMAL2-IM-0383', '')
    """
    for pattern in NAMES:
        found = pattern.match(PurePosixPath(path).stem)
        if found is not None:
            subtype = found.groupdict().get("subtype", "").lower()
            return f"{subtype or 'normal'}-{found['number']}", subtype
    return f"file-{path}", ""
