"""The images that a stage used or made: one data set per split, as MLflow lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from cxr.labels import CLASSES


@dataclass(frozen=True)
class Dataset:
    """A split of the X-rays at one size.

    Attributes:
        path: the table that lists its images, for example ``tensors/224/index.csv``.
        md5: of that table, as DVC records it.
        split: train, val or test.
        counts: number of images by class.
    """

    path: str
    md5: str
    split: str
    counts: Mapping[str, int]

    @property
    def size(self) -> int | None:
        """Side of the images in pixels; None for the archive's own sizes."""
        folder = PurePosixPath(self.path).parent.name
        return int(folder) if folder.isdigit() else None

    @property
    def name(self) -> str:
        """Its name in the UI; MLflow identifies a data set by name and hash."""
        side = f" {self.size} x {self.size}" if self.size else ""
        return f"X-rays{side}, {self.split}"

    @property
    def profile(self) -> dict[str, int]:
        """Its counts; MLflow's UI shows ``num_rows``."""
        return {"num_rows": sum(self.counts.values()), **self.counts}


def listed(
    table: str, hashes: Mapping[str, str], counts: Mapping[str, Mapping[str, int]]
) -> list[Dataset]:
    """Return the data set of each split.

    Args:
        table: name of the file that lists the images, for example ``index.csv``.
        hashes: MD5 by path, from provenance.json; without that file there are no data sets.
        counts: for each split, the number of images by class.
    """
    found = [(path, md5) for path, md5 in hashes.items() if PurePosixPath(path).name == table]
    return [
        Dataset(path, md5, split, dict(numbers)) for path, md5 in found
        for split, numbers in counts.items()
    ]  # fmt: skip


def of_rates(figures: Mapping[str, int]) -> dict[str, int]:
    """Return the number of images by class from true and false positives and negatives."""
    normal, pneumonia = figures["tn"] + figures["fp"], figures["tp"] + figures["fn"]
    return dict(zip(CLASSES, (normal, pneumonia), strict=True))
