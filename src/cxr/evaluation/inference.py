"""Predict with a trained model: every image, and the test set after each phase."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd

from cxr import augment, params
from cxr.evaluation.predictions import Predictions
from cxr.models import store
from cxr.training import batches


def predict(
    folder: Path,
    images: np.ndarray,
    index: pd.DataFrame,
    perturbation: params.Perturbation,
    batch_size: int,
    seed: int,
) -> Predictions:
    """Restore the weights of each phase in turn and predict the test set, clean and perturbed.

    The train and validation sets are predicted once, with the weights of the last phase.

    Args:
        folder: a trained model's, for example ``models/vgg16_transfer``.
        images: uint8 [n, size, size].
        index: id, label, split and patient of each image.
        perturbation: the ranges of the perturbations.
        batch_size: images per batch.
        seed: ``seed`` of params.yaml, for the perturbations.

    Raises:
        InputError: the folder does not hold a model.
    """
    phases = store.phases(folder)
    model = store.load(folder)
    # The wrapper shares the model's weights. Clean images go through it too, with the identity:
    # TensorFlow then traces one model instead of two.
    transforming = augment.with_transforms(model)
    rows = np.flatnonzero(index["split"] == "test")
    perturbations = batches.perturbations(perturbation, images, index, seed)
    tables = []
    for phase in phases:
        store.restore(model, folder, phase)
        table = index.iloc[rows][["id", "label", "patient"]].assign(
            probability=_probabilities(transforming, images, rows, batch_size),
            perturbed_probability=_probabilities(
                transforming, images, rows, batch_size, perturbations
            ),
        )
        table.insert(0, "phase", phase)
        tables.append(table)
    probability = np.empty(len(images))
    probability[rows] = tables[-1]["probability"]
    rest = np.flatnonzero(index["split"] != "test")
    probability[rest] = _probabilities(transforming, images, rest, batch_size)
    return Predictions(
        images=index[["id", "split", "label", "patient"]].assign(probability=probability),
        phases=pd.concat(tables, ignore_index=True),
    )


def _probabilities(
    model: keras.Model,
    images: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    perturbations: batches.Perturbations | None = None,
) -> np.ndarray:
    """Return float64 [rows], rounded to 7 digits here so that metrics match the written files."""
    outputs = batches.predict(model, images, rows, batch_size, perturbations)
    return outputs[:, 0].astype("float64").round(7)
