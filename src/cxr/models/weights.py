"""Fetch, read and check the initial weights of a backbone, layer by layer."""

import io
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from cxr import files, params
from cxr.errors import InputError
from cxr.models import backbones, origin, store

FILE = f"{origin.FOLDER}/backbone.weights.h5"

Arrays = dict[str, list[np.ndarray]]


def resolve(system: params.System, folder: Path) -> dict[str, Any]:
    """Write a system's initial weights to ``folder``, where training reads them.

    Args:
        system: its ``weights`` is ``imagenet`` or a path to a Keras weights file. For random
            weights call :func:`cxr.models.origin.write`, which does not import Keras.
        folder: gets ``initial/weights.json`` and ``initial/backbone.weights.h5``.

    Returns:
        The content of ``weights.json``; see :mod:`cxr.models.origin`.

    Raises:
        InputError: the file is missing or does not fit the backbone, or ImageNet's weights cannot
            be fetched.
    """
    backbone = backbones.get(system)
    if system.weights is None:
        message = f"{system.backbone} starts from random weights: there is nothing to resolve"
        raise ValueError(message)
    name = system.weights
    with files.replacing(folder / FILE) as temporary:
        if system.weights == "imagenet":
            _fetch_imagenet(backbone, system.backbone, temporary)
        else:
            source = Path(system.weights)
            if not source.is_file():
                message = (
                    f"weights {source} is not a file: give `imagenet`, null, or the path of a "
                    f"weights file (.weights.h5, .h5, .keras) for backbone {system.backbone}"
                )
                raise InputError(message)
            shutil.copyfile(source, temporary)
            name = source.name  # an output must not contain a path of this machine
        check(read(temporary, system.weights), _standalone(backbone), system.weights)
    return origin.write(folder, system.backbone, name, files.file_sha256(folder / FILE))


def initial(folder: Path) -> Arrays | None:
    """Read the weights that :func:`resolve` wrote to a folder; None means random weights.

    Raises:
        InputError: the folder has no ``weights.json``, or a file cannot be read.
    """
    return None if origin.read(folder)["sha256"] is None else read(folder / FILE)


def read(path: Path, name: str | None = None) -> Arrays:
    """Read a weights file into memory, layer by layer.

    Args:
        path: HDF5, as Keras 3 (``.weights.h5``) or earlier Keras (``.h5``) writes it, or a whole
            model (``.keras``), from which only the weights are read.
        name: the file's name in error messages; by default its path.

    Returns:
        The arrays of each layer that has weights, by its name, in Keras's order.

    Raises:
        InputError: the file is not in one of these formats, or has no weights.
    """
    name = name or str(path)
    try:
        with h5py.File(_hdf5(path), "r") as file:
            arrays = _read_legacy(file) if "layer_names" in file.attrs else _read_keras3(file)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        message = f"weights {name}: cannot be read as .weights.h5, .h5 or .keras ({error})"
        raise InputError(message) from error
    if not arrays:
        message = f"weights {name}: no layer found: give a file that Keras's save_weights wrote"
        raise InputError(message)
    return arrays


def check(arrays: Arrays, model: keras.Model, name: str) -> None:
    """Check that the weights fit ``model`` exactly.

    Raises:
        InputError: a layer is missing, unknown, or has another shape; the message names it.
    """
    expected = {
        layer.name: [tuple(w.shape) for w in layer.weights]
        for layer in model.layers
        if layer.weights
    }
    given = {layer: [array.shape for array in held] for layer, held in arrays.items()}
    problems = []
    if missing := expected.keys() - given.keys():
        problems.append(f"lacks {_few(missing)}")
    if unknown := given.keys() - expected.keys():
        problems.append(f"also has {_few(unknown)}")
    if differing := [n for n in expected if n in given and expected[n] != given[n]]:
        first = differing[0]
        problems.append(f"has {first} with {given[first]} instead of {expected[first]}")
    if problems:
        message = f"weights {name} do not fit {model.name}: the file {', '.join(problems)}"
        raise InputError(message)


def put(arrays: Arrays, model: keras.Model) -> None:
    """Set the weights of the layers named in ``arrays``; other layers do not change."""
    for layer, held in arrays.items():
        model.get_layer(layer).set_weights(held)


def _standalone(backbone: backbones.Backbone) -> keras.Model:
    """Return the backbone alone, for any image size, to compare layer names and shapes."""
    image = keras.Input((None, None, 3))
    return keras.Model(image, backbone.apply(image), name="the backbone")


def _fetch_imagenet(backbone: backbones.Backbone, name: str, path: Path) -> None:
    if backbone.imagenet is None:
        message = (
            f"there are no ImageNet weights for {name}: give a path, or null for random weights"
        )
        raise InputError(message)
    try:
        model = backbone.imagenet()
    except Exception as error:  # Keras raises a bare Exception for any failed download
        message = (
            f"cannot fetch the ImageNet weights of {name}: {error}. The first download needs a "
            "network. Without one, give a file: -S systems.<system>.weights=/absolute/path.weights"
            ".h5, or train from random weights: -S systems.<system>.weights=null"
        )
        raise InputError(message) from error
    # Keras requires the suffix .weights.h5, which ``path`` need not have.
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        saved = Path(temporary) / Path(FILE).name
        store.write_weights(model, saved)
        saved.replace(path)


def _hdf5(path: Path) -> Path | io.BytesIO:
    """Return the HDF5 file: ``path`` itself, or the weights inside a ``.keras`` archive."""
    if not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read("model.weights.h5"))


def _read_keras3(file: h5py.File) -> Arrays:
    arrays: Arrays = {}

    def visit(_: str, node: h5py.Group | h5py.Dataset) -> None:
        # A layer's variables are in a group `vars`, whose attribute is the layer's name.
        if isinstance(node, h5py.Group) and "name" in node.attrs and len(node):
            arrays[str(node.attrs["name"])] = [node[key][()] for key in sorted(node, key=int)]

    file.visititems(visit)
    return arrays


def _read_legacy(file: h5py.File) -> Arrays:
    names = [n.decode() if isinstance(n, bytes) else n for n in file.attrs["layer_names"]]
    held = {n: [file[n][w][()] for w in file[n].attrs["weight_names"]] for n in names}
    return {name: arrays for name, arrays in held.items() if arrays}


def _few(names: Any) -> str:
    """List up to three names and count the rest."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")
