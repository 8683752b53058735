"""Label suspects: images whose label a model that never saw their patient firmly contradicts."""

import logging
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from cxr import seeding
from cxr.evaluation import metrics
from cxr.training import regression
from cxr.training.feature_files import Features

FOLDS = 5
# Of the penalty. The linear probe chose it on the validation set of Kermany's X-rays, among 3 to
# 1000 (docs/RESULTS.md).
STRENGTH = 30.0
CONFIDENT = 0.9  # probability of the other class from which a label is suspect
COLUMNS = ("id", "split", "label", "patient", "probability")

log = logging.getLogger(__name__)


def find(
    stored: Features | None, index: pd.DataFrame, seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Find the suspects among the train and validation images.

    Args:
        stored: the frozen features of a linear probe; None if the system has none.
        index: id, label, split and patient of all images, in the order of the cache.
        seed: ``seed`` of params.yaml.

    Returns:
        ``assessable``; ``reason``, why not, or None; ``images`` that were assessed; ``auc`` of the
        out-of-fold probabilities; ``suspects``, their number; ``confident``, the limit. And the
        table of suspects, the firmest contradiction first: id, split, label, patient, and
        ``probability`` of PNEUMONIA.
    """
    rows = np.concatenate([np.flatnonzero(index["split"] == split) for split in ("train", "val")])
    used = index.iloc[rows].reset_index(drop=True)
    features, reason = _features(stored, int((index["split"] == "train").sum()), len(rows))
    probabilities = None
    if features is not None:
        labels, patients = used["label"].to_numpy(), used["patient"].to_numpy()
        probabilities = out_of_fold(features, labels, patients, seed)
        reason = "there are too few patients of a class for two folds"
    found: dict[str, Any] = {"assessable": False, "reason": reason, "images": 0, "auc": None,
                             "suspects": 0, "confident": CONFIDENT}  # fmt: skip
    if probabilities is None:
        return found, pd.DataFrame(columns=list(COLUMNS))
    table = used.assign(probability=probabilities)
    contradiction = (table["probability"] - table["label"]).abs()
    order = np.argsort(-contradiction.to_numpy(), kind="stable")
    table = table.iloc[order][contradiction.iloc[order] >= CONFIDENT]
    found |= {"assessable": True, "reason": None, "images": len(used), "suspects": len(table)}
    found["auc"] = metrics.auc(used["label"].to_numpy(), probabilities)
    return found, table[list(COLUMNS)].round({"probability": 4}).reset_index(drop=True)


def out_of_fold(
    features: np.ndarray, labels: np.ndarray, patients: np.ndarray, seed: int
) -> np.ndarray | None:
    """Return each image's probability of PNEUMONIA from a model without its patient.

    Logistic regression on standardised features with equal patients, as the linear probe fits it,
    in five folds that divide patients and keep the balance of the classes.

    Args:
        features: [n, m].
        labels: [n], 0 or 1.
        patients: [n].
        seed: ``seed`` of params.yaml.

    Returns:
        float64 [n]; None if the patients of a class are too few for two folds.
    """
    table = pd.DataFrame({"label": labels, "patient": patients})
    fewest = min(table.groupby("label")["patient"].nunique().reindex([0, 1], fill_value=0))
    folds = min(FOLDS, int(fewest))
    if folds < 2:
        return None
    divide = StratifiedGroupKFold(
        folds, shuffle=True, random_state=seeding.derive(seed, "suspects")
    )
    found = np.empty(len(labels))
    splits = divide.split(features, labels, patients)
    for train, rest in tqdm(splits, "suspects", total=folds, unit=" folds", mininterval=0.5):
        if len(np.unique(labels[train])) < 2:
            return None
        inputs = features[train].astype("float64")  # they may be float16
        weights = regression.patient_weights(patients[train], labels[train], balanced=False)
        mean, scale = regression.statistics(inputs, weights)
        model = regression.fit((inputs - mean) / scale, labels[train], weights, STRENGTH)
        given = (features[rest].astype("float64") - mean) / scale
        found[rest] = model.predict_proba(given)[:, 1]
    return found


def _features(
    stored: Features | None, train: int, images: int
) -> tuple[np.ndarray | None, str | None]:
    """Return the features of train, then of val, of the first view; or the reason for none."""
    if stored is None or not stored.views or stored.array.ndim != 2:
        return None, "the system has no frozen features of a linear probe"
    if len(stored.array) != (stored.views - 1) * train + images:
        return None, "the frozen features are not those of these images"
    val = stored.array[stored.views * train :]
    return np.concatenate([stored.array[:train], val]), None
