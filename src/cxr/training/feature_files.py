"""The files of frozen features that the features stage writes and training reads, without Keras.

``features/<system>/frozen/`` holds one array for each place where the network was cut, and
``features.json``. Its ``phases`` name the array of each phase that begins with frozen layers at
their initial weights; its ``files`` describe the arrays.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxr import files
from cxr.errors import InputError

FOLDER = "frozen"  # in features/<system>; training depends on it as a whole
NAME = "features.json"
OTHER_VERSION = (KeyError, TypeError, AttributeError)  # what reading its features.json may raise
CHUNK = 2**26  # bytes that are copied at once


@dataclass(frozen=True)
class Features:
    """The frozen features of a phase.

    Attributes:
        layer: whose output they are.
        views: of each training image; 0 if the training images have no features.
        policy: Keras dtype policy in which they were computed.
        array: float16 or float32 [views * train + val, ...]: view after view of the training
            images, then the validation images, both in the order of the index.
    """

    layer: str
    views: int
    policy: str
    array: np.ndarray


class Writer:
    """Writes features to a file in place: float16, or float32 where float16 cannot hold a value.

    Args:
        path: the file, for example from :func:`cxr.files.replacing`.
        shape: of the array.
        layer: named in error messages.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], layer: str) -> None:
        self._path, self._layer = path, layer
        self._array = _mapped(path, "float16", shape)

    def __setitem__(self, places: slice, values: np.ndarray) -> None:
        """Write a batch; the places before it have been written.

        Raises:
            InputError: a value is infinite or not a number.
        """
        values = values.astype("float32", copy=False)
        if not np.isfinite(values).all():
            message = (
                f"the features of layer {self._layer} are not all finite: the initial weights are "
                "damaged or do not fit the backbone; give others"
            )
            raise InputError(message)
        if self._array.dtype == np.float16 and np.abs(values).max() > np.finfo("float16").max:
            self._widen(places.start)
        self._array[places] = values

    def finish(self) -> dict[str, Any]:
        """Flush the file and return its shape, dtype and SHA-256."""
        self._array.flush()
        return {
            "shape": list(self._array.shape),
            "dtype": self._array.dtype.name,
            "sha256": files.file_sha256(self._path),
        }

    def _widen(self, written: int) -> None:
        """Replace the file by one in float32 that has the same first values."""
        with files.replacing(self._path) as wider:
            array = _mapped(wider, "float32", self._array.shape)
            rows = max(1, CHUNK // (array.nbytes // len(array)))
            for start in range(0, written, rows):
                part = slice(start, min(start + rows, written))
                array[part] = self._array[part]
        self._array = array


def write_record(
    folder: Path, phases: Mapping[str, str], described: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write ``features.json`` into a folder, and remove files that it does not name.

    Args:
        folder: ``features/<system>/frozen``.
        phases: the file of each phase that has one.
        described: of each file, its layer, data, views, shape, dtype, policy, sha256 and
            fingerprint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.npy"):
        if path.name not in described:
            path.unlink()
    files.write_json(folder / NAME, {"phases": dict(phases), "files": dict(described)})


def opened(folder: Path) -> dict[str, Features]:
    """Open the features of a system's phases, memory-mapped.

    Args:
        folder: ``features/<system>/frozen``.

    Raises:
        InputError: a file is missing, is not what ``features.json`` describes, or was written by
            another version of this project.
    """
    if not (folder / NAME).is_file():
        message = f"{folder / NAME} is missing: run `dvc repro features@{folder.parent.name}`"
        raise InputError(message)
    record = files.read_json(folder / NAME)
    try:
        arrays = {name: _open(folder / name, about) for name, about in record["files"].items()}
        return {
            phase: Features(
                record["files"][name]["layer"], record["files"][name]["views"],
                record["files"][name]["policy"], arrays[name],
            )
            for phase, name in record["phases"].items()
        }  # fmt: skip
    except OTHER_VERSION as error:
        message = (
            f"{folder / NAME} was written by another version of this project: run "
            f"`dvc repro -s -f features@{folder.parent.name}`"
        )
        raise InputError(message) from error


def copy_equal(
    target: Path, fingerprints: Iterable[str], roots: Iterable[Path]
) -> dict[str, Any] | None:
    """Copy a file with one of these fingerprints from another system, if there is one.

    Args:
        target: the file to write.
        fingerprints: equal for features that are computed in the same way from the same inputs.
        roots: repositories whose ``features/`` are searched.

    Returns:
        The description of the file in the other system's ``features.json``; None if no file fits.

    Raises:
        InputError: the disk is full.
    """
    wanted = set(fingerprints)
    for root in roots:
        for path in sorted(root.glob(f"features/*/{FOLDER}/{NAME}")):
            try:
                held = files.read_json(path)["files"].items()
                equal = [(name, about) for name, about in held if about["fingerprint"] in wanted]
            except (InputError, *OTHER_VERSION):  # InputError: it is being written
                continue
            for name, about in equal:
                if _copy(path.with_name(name), target, about):
                    return dict(about)
    return None


def _copy(source: Path, target: Path, about: Mapping[str, Any]) -> bool:
    """Copy a file if it is the one described, and return whether it is."""
    if not source.is_file() or (target.exists() and source.samefile(target)):
        return False
    try:
        with files.replacing(target) as temporary:
            files.reserve(temporary, source.stat().st_size)
            shutil.copyfile(source, temporary)
            if files.file_sha256(temporary) != about["sha256"]:
                raise _DamagedError
    except (FileNotFoundError, _DamagedError):  # not found: another process is computing it again
        return False
    return True


class _DamagedError(Exception):
    """A copied file is damaged: leave what was there before."""


def _open(path: Path, about: Mapping[str, Any]) -> np.ndarray:
    advice = f"run `dvc repro -s -f features@{path.parents[1].name}`"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        message = f"{path} cannot be read ({error}): {advice}"
        raise InputError(message) from error
    if list(array.shape) != about["shape"] or array.dtype.name != about["dtype"]:
        message = (
            f"{path} holds {array.dtype.name} {list(array.shape)}, but {NAME} says "
            f"{about['dtype']} {about['shape']}: {advice}"
        )
        raise InputError(message)
    return array


def _mapped(path: Path, dtype: str, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    files.reserve(path, path.stat().st_size)
    return array
