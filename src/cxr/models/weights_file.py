"""Read a weights file: HDF5, or a whole Keras model, from which only the weights are read.

As a script it tries to read a file, within limits of memory and time that the system enforces:
libhdf5 has been seen to loop for ever, and to ask for gigabytes, on a damaged file of 12 kB.
:func:`probe` starts it. It imports nothing else of ``cxr``, and so starts in a third of a second.
"""

import io
import math
import os
import resource
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

# Weights hardly shrink, and Keras does not compress them: a file that inflates further is a bomb.
MAX_RATIO = 10
MAX_NAMES = 1_000_000  # bytes of the names in one attribute; the largest nets need 50,000
# What reading may take. VGG16's 59 MB need 0.3 s and, with Python, 174 MB.
SECONDS = 60  # of a processor, whatever else the machine does
MEMORY = 1_000_000_000  # bytes of address space
MEMORY_PER_BYTE = 4  # and this many more per byte of the file: a .keras archive is read twice

Arrays = dict[str, list[np.ndarray]]


def probe(path: Path) -> str | None:
    """Read a file in another process, and return why it cannot be read, or None.

    The other process loads no Keras, and ends if it takes more memory or time than the limits.
    """
    # -I: neither the environment nor the working folder adds code. One thread reserves less memory.
    done = subprocess.run(
        [sys.executable, "-I", __file__, path, f"{SECONDS}"],
        check=False, capture_output=True, text=True, errors="replace",
        env=dict(os.environ) | {"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode == 0:
        return None
    if done.returncode > 0:
        return (done.stderr.strip() or "no reason given").splitlines()[-1]
    if -done.returncode == signal.SIGXCPU:
        return f"reading it takes more than {SECONDS} s"
    return f"the HDF5 library crashed on it: {signal.Signals(-done.returncode).name}"


def read(path: Path) -> Arrays:
    """Read the arrays of each layer that has weights, by its name, in Keras's order.

    No code of the file is run: neither a pickle nor a Lambda layer is ever loaded. No other file is
    opened, whatever the file links to. The arrays take at most the file's own size in memory.

    Raises:
        Exception: of any type, because h5py raises many on broken files; ValueError for something
            that Keras would not write.
    """
    source = _hdf5(path)
    size = source.getbuffer().nbytes if isinstance(source, io.BytesIO) else path.stat().st_size
    with h5py.File(source, "r") as file:
        root = _own(file, "model_weights") if "model_weights" in list(file) else file
        held = _legacy(root) if "layer_names" in root.attrs else _keras3(root)
        _check_datasets([array for layer in held.values() for array in layer], size)
        arrays = {layer: [array[()] for array in given] for layer, given in held.items()}
    for layer, given in arrays.items():
        if not all(np.isfinite(array).all() for array in given):
            message = f"layer {layer} has values that are NaN or infinite"
            raise ValueError(message)
    return arrays


def _hdf5(path: Path) -> Path | io.BytesIO:
    """Return the HDF5 file: ``path`` itself, or the weights inside a ``.keras`` archive."""
    if not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("model.weights.h5")
        # Python inflates other methods than deflate in whole blocks, of any size.
        known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not known or info.file_size > MAX_RATIO * path.stat().st_size:
            message = f"{info.file_size:,} bytes of weights are compressed as Keras does not do it"
            raise ValueError(message)
        with archive.open(info) as stream:
            return io.BytesIO(stream.read(info.file_size + 1))


def _keras3(root: h5py.Group) -> dict[str, list[h5py.Dataset]]:
    """Return each layer's datasets: those in a group `vars` whose attribute is the layer's name."""
    return {
        _names(group, "name")[0]: [_own(group, key) for key in sorted(group, key=int)]
        for group in _groups(root)
        if "name" in group.attrs and len(group)
    }


def _legacy(root: h5py.Group) -> dict[str, list[h5py.Dataset]]:
    held = {
        layer: [_own(_own(root, layer), name) for name in _names(_own(root, layer), "weight_names")]
        for layer in _names(root, "layer_names")
    }
    return {layer: datasets for layer, datasets in held.items() if datasets}


def _groups(root: h5py.Group) -> Iterator[h5py.Group]:
    """Yield all groups in a file, in the order of their paths, each once."""
    waiting, seen = [root], set()
    while waiting:
        group = waiting.pop()
        place = h5py.h5o.get_info(group.id).addr
        if place not in seen:
            seen.add(place)
            yield group
            inner = [_own(group, key) for key in sorted(group, reverse=True)]
            waiting += [node for node in inner if isinstance(node, h5py.Group)]


def _own(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Return what a group holds under a name or a path; links to elsewhere are not followed."""
    for part in name.strip("/").split("/"):
        if group.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            message = f"{name!r} is a link to somewhere else"
            raise ValueError(message)
        group = group[part]
    return group


def _names(node: h5py.Group, attribute: str) -> list[str]:
    """Return the names in an attribute; its size is checked before it is read."""
    described = node.attrs.get_id(attribute)
    size = math.prod(described.shape) * described.dtype.itemsize
    if (size and described.dtype.kind not in "SO") or size > MAX_NAMES:
        message = f"the attribute {attribute} of {node.name} does not hold names"
        raise ValueError(message)
    names = np.atleast_1d(node.attrs[attribute])
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _check_datasets(datasets: list[h5py.Dataset], size: int) -> None:
    """Check that arrays of numbers lie in their own file of ``size`` bytes, before any is read."""
    total = 0
    for dataset in datasets:
        if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
            message = f"{dataset.name} is not an array of numbers"
            raise ValueError(message)
        if dataset.is_virtual or dataset.external:
            message = f"{dataset.name} lies in another file"
            raise ValueError(message)
        total += math.prod(dataset.shape) * dataset.dtype.itemsize
    if total > size:
        message = (
            f"its arrays would take {total:,} bytes, but the file has {size:,}: Keras stores them "
            "whole and without compression"
        )
        raise ValueError(message)


def _limit(kind: int, value: int) -> None:
    """Lower a limit of this process; one that is lower already stays."""
    _, most = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


if __name__ == "__main__":
    file, seconds = Path(sys.argv[1]), int(sys.argv[2])
    if sys.platform == "linux":  # macOS counts what is reserved, which is far more there
        _limit(resource.RLIMIT_AS, MEMORY + MEMORY_PER_BYTE * file.stat().st_size)
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_CORE, 0)
    try:
        read(file)
    except Exception as error:
        sys.exit(" ".join((str(error) or type(error).__name__).split()))
