"""The properties of the shortcut baseline, in groups, and which of them an archive can show."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from cxr.audit import borders, file_properties, geometry


@dataclass(frozen=True)
class Group:
    """Properties that stand for one possible shortcut.

    Attributes:
        columns: of the table of properties.
        reason: why the group tells nothing where none of its columns differs.
    """

    columns: tuple[str, ...]
    reason: str


GROUPS: Mapping[str, Group] = {
    "size": Group(("width", "height", "aspect"), "all training images have one size"),
    "bytes": Group(
        ("bytes_per_pixel",), "all training images have one size, so bytes count their content"
    ),
    "encoding": Group(("mode", "format"), "all training images have one colour mode and format"),
    "jpeg": Group(
        file_properties.JPEG, "all training images have one JPEG quality, or none is a JPEG"
    ),
    "border": Group(borders.BORDER, "all training images have equal borders"),
    "marker": Group(borders.MARKERS, "no training image has a marker"),
    "geometry": Group(geometry.COLUMNS, "no training image could be registered"),
}
FILE, PICTURE = ("size", "bytes", "encoding", "jpeg"), ("border", "marker", "geometry")
SETS: Mapping[str, tuple[str, ...]] = {"file": FILE, "picture": PICTURE, "all": FILE + PICTURE}


def varying(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return the columns of each group from which the baseline could learn: those that differ.

    Bytes per pixel count only beside different sizes: an archive of one size was resized and
    encoded anew, and its bytes then measure how much texture an X-ray has, which is anatomy.

    Args:
        table: one row per training image, with the columns of all :data:`GROUPS`.

    Returns:
        By group; no columns where none differs. A column without any value does not differ.
    """
    differs = (table.nunique(dropna=False) > 1) & table.notna().any()
    found = {
        name: [column for column in group.columns if differs[column]]
        for name, group in GROUPS.items()
    }
    if not found["size"]:
        found["bytes"] = []
    return found
