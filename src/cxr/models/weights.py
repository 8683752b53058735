"""Fetch, read and check the initial weights of a backbone, layer by layer."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras

from cxr import files, params
from cxr.errors import InputError
from cxr.models import backbones, origin, store, weights_file

FILE = f"{origin.FOLDER}/backbone.weights.h5"

Arrays = weights_file.Arrays


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
            reason = weights_file.probe(temporary)
            if reason is not None:
                raise _unreadable(system.weights, reason)
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
    """Read a weights file into memory, layer by layer; see :func:`cxr.models.weights_file.read`.

    Args:
        path: HDF5, as Keras 3 (``.weights.h5``) or earlier Keras (``.h5``, weights alone or a whole
            model) writes it, or a whole model (``.keras``), from which only the weights are read.
        name: the file's name in error messages; by default its path.

    Returns:
        The arrays of each layer that has weights, by its name, in Keras's order.

    Raises:
        InputError: the file is not in one of these formats, has no weights, or has arrays that
            Keras would not write.
    """
    name = name or str(path)
    try:
        arrays = weights_file.read(path)
    except Exception as error:  # h5py raises errors of any type on broken files
        raise _unreadable(name, str(error) or type(error).__name__) from error
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


def _unreadable(name: str, reason: str) -> InputError:
    message = f"weights {name}: cannot be read as .weights.h5, .h5 or .keras ({reason})"
    return InputError(f"{message}: fetch the file again, or give another one")


def _few(names: Any) -> str:
    """List up to three names and count the rest."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")
