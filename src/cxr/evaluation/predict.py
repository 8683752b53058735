"""Evaluate a trained model on train, val and test, on perturbed X-rays, and after each phase."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr import augment, files, params
from cxr.evaluation import intervals, metrics
from cxr.training import batches

SHOWN = 3  # films of each class in the picture of clean and perturbed ones


@dataclass(frozen=True)
class Evaluation:
    """What evaluation gives.

    Attributes:
        predictions: a row an image: id, split, label, probability of PNEUMONIA.
        phases: a row an image of the test set and a phase: phase, id, label, probability, and
            perturbed_probability, of the same film when perturbed.
        metrics: ``threshold``; for each split the published table; ``perturbed``, that of the
            perturbed test set; and ``phases``, for each phase ``test`` and ``perturbed``. Those of
            test and perturbed have the interval of their AUC too, ``auc_low`` and ``auc_high``
            (None where there is none).
    """

    predictions: pd.DataFrame
    phases: pd.DataFrame
    metrics: dict[str, Any]

    def of(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return labels int64 [n] and probabilities float64 [n] of a split."""
        rows = self.predictions[self.predictions["split"] == split]
        return rows["label"].to_numpy(), rows["probability"].to_numpy()


def evaluate(
    model: keras.Model,
    phases: Sequence[str],
    restore: Callable[[str], None],
    images: np.ndarray,
    index: pd.DataFrame,
    perturbation: params.Perturbation,
    threshold: float,
    seed: int,
) -> Evaluation:
    """Predict every cached X-ray once, the test set for each phase, and compute the metrics.

    Args:
        model: takes uint8 [batch, size, size, 1] and gives probabilities [batch, 1]. It comes with
            the weights that the first phase kept, and is left with those of the last.
        phases: the names of the phases, in their order.
        restore: puts the weights that a phase kept into the model.
        images: uint8 [n, size, size].
        index: row by row id, label, split and patient of the images.
        perturbation: what is done to the test set for ``perturbed``.
        threshold: from here on an image counts as PNEUMONIA.
        seed: ``seed`` of params.yaml, for the intervals and the perturbation.
    """
    tested = np.flatnonzero(index["split"] == "test")
    damage = batches.damage(perturbation, images, index, seed)
    # For films as they are too: that moves and changes nothing, and TensorFlow traces one model.
    warped = augment.with_transforms(model)
    test = index.iloc[tested]
    tables, judged = [], {}
    for phase in phases:
        if phase != phases[0]:
            restore(phase)
        if phase == phases[-1]:
            everything = _probabilities(warped, images, np.arange(len(images)))
            clean = everything[tested]
        else:
            clean = _probabilities(warped, images, tested)
        damaged = _probabilities(warped, images, tested, damage)
        judged[phase] = {
            "test": _with_interval(test, clean, threshold, seed),
            "perturbed": _with_interval(test, damaged, threshold, seed),
        }
        table = test[["id", "label"]].assign(probability=clean, perturbed_probability=damaged)
        table.insert(0, "phase", phase)
        tables.append(table)
    predictions = index[["id", "split", "label"]].assign(probability=everything)
    evaluation = Evaluation(
        predictions, pd.concat(tables, ignore_index=True), {"threshold": threshold}
    )
    for split in ("train", "val"):
        evaluation.metrics[split] = metrics.summarise(*evaluation.of(split), threshold)
    evaluation.metrics.update(judged[phases[-1]])
    evaluation.metrics["phases"] = judged
    return evaluation


def samples(
    images: np.ndarray, index: pd.DataFrame, perturbation: params.Perturbation, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first test films of each class as they are and perturbed.

    Returns:
        Two arrays uint8 [up to 6, size, size], NORMAL films first.
    """
    tested, labels = index["split"].to_numpy() == "test", index["label"].to_numpy()
    rows = [n for label in (0, 1) for n in np.flatnonzero(tested & (labels == label))[:SHOWN]]
    maps, tones = batches.damage(perturbation, images, index.iloc[rows], seed)
    clean = images[rows]
    damaged = augment.transform_images(clean[..., np.newaxis], augment.transforms(maps, tones))
    return clean, keras.ops.convert_to_numpy(damaged)[..., 0].round().astype("uint8")


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write metrics.json, predictions.csv, phases.csv, and the points of the test set's curves."""
    labels, probabilities = evaluation.of("test")
    predicted = probabilities >= evaluation.metrics["threshold"]
    names = np.array(params.CLASSES)
    tables = {
        "predictions.csv": evaluation.predictions,
        "phases.csv": evaluation.phases,
        "roc.csv": metrics.roc_points(labels, probabilities),
        "precision_recall.csv": metrics.precision_recall_points(labels, probabilities),
        "confusion.csv": pd.DataFrame(
            {"actual": names[labels], "predicted": names[predicted.astype(int)]}
        ),
    }
    for name, table in tables.items():
        with files.replacing(folder / name) as beside:
            table.to_csv(beside, index=False, lineterminator="\n")
    files.write_text(folder / "metrics.json", json.dumps(evaluation.metrics, indent=2) + "\n")


def _probabilities(
    model: keras.Model, images: np.ndarray, rows: np.ndarray, damage: batches.Damage | None = None
) -> np.ndarray:
    """Return probabilities float64 [n], rounded once, here: metrics are of what is written."""
    return batches.predict(model, images, rows, damage)[:, 0].astype("float64").round(7)


def _with_interval(
    test: pd.DataFrame, probabilities: np.ndarray, threshold: float, seed: int
) -> dict[str, float | int | None]:
    """Summarise the test set and add the interval of its AUC over resampled patients."""
    labels = test["label"].to_numpy()
    interval = intervals.auc_interval(labels, probabilities, test["patient"].to_numpy(), seed)
    low, high = interval or (None, None)
    return metrics.summarise(labels, probabilities, threshold) | {"auc_low": low, "auc_high": high}
