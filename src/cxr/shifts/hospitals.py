"""Predictions of the archives of other hospitals, as the stage ``external`` wrote them."""

import zipfile
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from cxr import files, params
from cxr.data import archive, image
from cxr.errors import InputError
from cxr.shifts import sets, shifted


def predict(
    model: keras.Model,
    folder: Path,
    names: list[str],
    settings: params.Tensors,
    batch_size: int,
    seed: int,
) -> list[pd.DataFrame]:
    """Predict all images of each archive, brought to the model's size as its training images were.

    Args:
        model: takes uint8 [batch, size, size, 1] and gives the probability of PNEUMONIA.
        folder: ``externals``, with a folder for each archive.
        names: of the archives.
        settings: how an image is brought to a square.
        batch_size: images per batch.
        seed: ``seed`` of params.yaml.

    Returns:
        For each archive the columns of :func:`cxr.shifts.shifted.predict`. The set is
        ``external``, the kind the archive's name; the split is ``external``, or that of the same
        image or patient in the pipeline's own archive.

    Raises:
        InputError: an archive has not been read, or an image of it cannot be.
    """
    found = []
    for name in names:
        listed = files.read_csv(folder / name / "images.csv")
        tasks = sets.listed("external", (sets.NONE,), listed, np.arange(len(listed)))
        with archive.open_zip(folder / name / "xrays.zip") as opened:
            load = partial(_load, opened, listed["path"], settings, model.input_shape[1], name)
            predicted = shifted.predict(model, load, tasks, batch_size, seed)
        found.append(predicted.assign(kind=name))
    return found


def _load(
    opened: zipfile.ZipFile,
    paths: pd.Series,
    settings: params.Tensors,
    size: int,
    name: str,
    row: int,
) -> np.ndarray:
    """Return the image of a row, uint8 [size, size]."""
    try:
        grey, _ = image.decode(archive.read(opened, paths[row]))
    except InputError as error:
        message = f"{paths[row]} of evaluate.external.{name}: {error}"
        raise InputError(f"{message}; run `dvc repro -s -f external@{name}`") from error
    return image.SQUARES[settings.resize](grey, size)
