"""A trained model's folder: the architecture, and the weights after each phase."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from cxr import files
from cxr.errors import InputError

ARCHITECTURE = "architecture.json"
WEIGHTS = "model.weights.h5"
PHASES = "phases"  # folder of the weights that earlier phases kept, and of the index of them all
INDEX = "index.json"


def save(architecture: str, weights: Mapping[str, list[np.ndarray]], folder: Path) -> keras.Model:
    """Write a model and its weights after each phase; the same model gives the same bytes.

    That is ``architecture.json``; ``model.weights.h5``, the weights after the last phase;
    ``phases/<phase>.weights.h5``, those after the phases before it; and ``phases/index.json``,
    which says of each phase in which of these files its weights are.

    Args:
        architecture: from :func:`cxr.models.network.architecture`.
        weights: for each phase, in their order, the weights as ``get_weights`` gives them.
        folder: such as ``models/vgg16_transfer``.

    Returns:
        The model as :func:`load` would give it back.
    """
    model = keras.models.model_from_json(architecture)
    files.write_text(folder / ARCHITECTURE, architecture)
    shutil.rmtree(folder / PHASES, ignore_errors=True)
    (folder / PHASES).mkdir(parents=True)
    names = {phase: f"{PHASES}/{phase}.weights.h5" for phase in weights}
    names[list(weights)[-1]] = WEIGHTS
    for phase, name in names.items():
        model.set_weights(weights[phase])
        with files.replacing(folder / name) as beside:
            model.save_weights(beside)
    files.write_text(folder / PHASES / INDEX, json.dumps(names, indent=2) + "\n")
    return model


def load(folder: str | Path, phase: str | None = None) -> keras.Model:
    """Give back a trained model from its folder, such as ``models/vgg16_transfer``.

    Args:
        folder: what :func:`save` wrote.
        phase: whose weights; the last one's where None.

    Returns:
        A model that takes uint8 [batch, size, size, 1] and gives the probability of PNEUMONIA.

    Raises:
        InputError: where the folder does not hold a model, or not that phase.
    """
    text = _kept(Path(folder), ARCHITECTURE).read_text(encoding="utf-8")
    model = keras.models.model_from_json(text)
    restore(model, folder, phase or phases(folder)[-1])
    return model


def phases(folder: str | Path) -> list[str]:
    """Return the names of a trained model's phases, in their order.

    Raises:
        InputError: where the folder does not hold a model.
    """
    return list(_index(Path(folder)))


def restore(model: keras.Model, folder: str | Path, phase: str) -> None:
    """Put the weights that a phase kept into a model from :func:`load`.

    Raises:
        InputError: where the folder does not hold a model, or not that phase.
    """
    folder = Path(folder)
    names = _index(folder)
    if phase not in names:
        message = f"{folder} has no phase {phase!r}: it has {', '.join(names)}"
        raise InputError(message)
    model.load_weights(_kept(folder, names[phase]))


def _index(folder: Path) -> dict[str, str]:
    return dict(json.loads(_kept(folder, f"{PHASES}/{INDEX}").read_text(encoding="utf-8")))


def _kept(folder: Path, name: str) -> Path:
    """Return the path of a file in a model's folder."""
    if not (folder / name).is_file():
        message = f"{folder} holds no {name}: run `dvc repro`, or `dvc pull`, to get the model"
        raise InputError(message)
    return folder / name
