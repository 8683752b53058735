"""Save and load a trained model: its architecture, and its weights after each phase."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from cxr import files
from cxr.errors import InputError

ARCHITECTURE = "architecture.json"
WEIGHTS = "model.weights.h5"
PHASES = "phases"  # folder of the earlier phases' weights and of the index
INDEX = "index.json"


def save(architecture: str, weights: Mapping[str, list[np.ndarray]], folder: Path) -> keras.Model:
    """Write a model and its weights after each phase; equal models give equal bytes.

    The files are ``architecture.json``; ``model.weights.h5``, the weights after the last phase;
    ``phases/<phase>.weights.h5``, those after each earlier phase; and ``phases/index.json``, the
    weights file of each phase.

    Args:
        architecture: from :func:`cxr.models.network.architecture`.
        weights: after each phase, in the order of training, as ``get_weights`` returns them.
        folder: for example ``models/vgg16_transfer``.

    Returns:
        The same model as :func:`load` returns.
    """
    model = keras.models.model_from_json(architecture)
    files.write_text(folder / ARCHITECTURE, architecture)
    shutil.rmtree(folder / PHASES, ignore_errors=True)
    (folder / PHASES).mkdir(parents=True)
    names = {phase: f"{PHASES}/{phase}.weights.h5" for phase in weights}
    names[list(weights)[-1]] = WEIGHTS
    for phase, name in names.items():
        model.set_weights(weights[phase])
        write_weights(model, folder / name)
    files.write_json(folder / PHASES / INDEX, names)
    return model


def write_weights(model: keras.Model, path: Path) -> None:
    """Write a model's weights to ``path``, whole or not at all.

    Raises:
        InputError: the disk is full.
    """
    arrays = model.get_weights()
    with files.replacing(path) as temporary:
        # HDF5 adds about 2,100 bytes per array.
        files.reserve(temporary, 2**16 + sum(array.nbytes + 4096 for array in arrays))
        model.save_weights(temporary)


def load(folder: str | Path, phase: str | None = None) -> keras.Model:
    """Load a trained model from its folder, for example ``models/vgg16_transfer``.

    Args:
        folder: written by :func:`save`.
        phase: load the weights after this phase; by default the last one.

    Returns:
        A model from uint8 [batch, size, size, 1] to the probability of PNEUMONIA [batch, 1].

    Raises:
        InputError: the folder holds no model, or the model has no such phase.
    """
    text = _existing(Path(folder), ARCHITECTURE).read_text(encoding="utf-8")
    model = keras.models.model_from_json(text)
    restore(model, folder, phase or phases(folder)[-1])
    return model


def phases(folder: str | Path) -> list[str]:
    """Return the names of a trained model's phases, in order.

    Raises:
        InputError: the folder holds no model.
    """
    return list(_index(Path(folder)))


def restore(model: keras.Model, folder: str | Path, phase: str) -> None:
    """Set the weights of a model from :func:`load` to those after a phase.

    Raises:
        InputError: the folder holds no model, or the model has no such phase.
    """
    folder = Path(folder)
    names = _index(folder)
    if phase not in names:
        message = f"{folder} has no phase {phase!r}: it has {', '.join(names)}"
        raise InputError(message)
    model.load_weights(_existing(folder, names[phase]))


def _index(folder: Path) -> dict[str, str]:
    return files.read_json(_existing(folder, f"{PHASES}/{INDEX}"))


def _existing(folder: Path, name: str) -> Path:
    """Return the path of a file in a model's folder, and check that the file exists."""
    if not (folder / name).is_file():
        message = f"{folder} holds no {name}: run `dvc repro`, or `dvc pull`, to get the model"
        raise InputError(message)
    return folder / name
