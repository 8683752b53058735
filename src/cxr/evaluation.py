"""Judge a trained model on train, val and test."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr import atomic, batches, metrics, params

BATCH = 64  # a matter of speed and memory alone: batch norms are in inference mode


@dataclass(frozen=True)
class Evaluation:
    """What evaluation gives.

    Attributes:
        predictions: a row an image: id, split, label, probability of PNEUMONIA.
        metrics: ``threshold``, and for each split the published table; ``test`` has the interval
            of its AUC too, ``auc_low`` and ``auc_high`` (None where there is none).
    """

    predictions: pd.DataFrame
    metrics: dict[str, Any]

    def of(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return labels int64 [n] and probabilities float64 [n] of a split."""
        rows = self.predictions[self.predictions["split"] == split]
        return rows["label"].to_numpy(), rows["probability"].to_numpy()


def evaluate(
    model: keras.Model, images: np.ndarray, index: pd.DataFrame, threshold: float, seed: int
) -> Evaluation:
    """Predict every cached X-ray once and compute the metrics of each split.

    Args:
        model: takes uint8 [batch, size, size, 1], gives probabilities [batch, 1].
        images: uint8 [n, size, size].
        index: row by row id, label, split and patient of the images.
        threshold: from here on an image counts as PNEUMONIA.
        seed: ``seed`` of params.yaml, for the interval.
    """
    everything = batches.Ordered(images, index["label"].to_numpy(), np.arange(len(images)), BATCH)
    probabilities = model.predict(everything, verbose=0)[:, 0]
    # Rounded once, here: what is written is what the metrics are computed from.
    predictions = index[["id", "split", "label"]].assign(
        probability=probabilities.astype("float64").round(7)
    )
    evaluation = Evaluation(predictions, {"threshold": threshold})
    for split in params.SPLITS:
        evaluation.metrics[split] = metrics.summarise(*evaluation.of(split), threshold)
    patients = index.loc[index["split"] == "test", "patient"].to_numpy()
    interval = metrics.auc_interval(*evaluation.of("test"), patients, seed)
    low, high = interval or (None, None)
    evaluation.metrics["test"] |= {"auc_low": low, "auc_high": high}
    return evaluation


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write metrics.json, predictions.csv, and the points of the test set's curves as CSV files."""
    labels, probabilities = evaluation.of("test")
    predicted = probabilities >= evaluation.metrics["threshold"]
    names = np.array(params.CLASSES)
    tables = {
        "predictions.csv": evaluation.predictions,
        "roc.csv": metrics.roc_points(labels, probabilities),
        "precision_recall.csv": metrics.precision_recall_points(labels, probabilities),
        "confusion.csv": pd.DataFrame(
            {"actual": names[labels], "predicted": names[predicted.astype(int)]}
        ),
    }
    for name, table in tables.items():
        with atomic.replacing(folder / name) as beside:
            table.to_csv(beside, index=False, lineterminator="\n")
    atomic.write_text(folder / "metrics.json", json.dumps(evaluation.metrics, indent=2) + "\n")
