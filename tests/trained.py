"""Trainings of the tiny system, and their results by independent formulas."""

from collections.abc import Mapping

import keras
import numpy as np
import pandas as pd

from cxr import augment, params
from cxr.training import checkpoint, feature_files, fit, shifted_files
from tests.small import PERTURBATION, SIZE, head, system, xrays

IMAGES, INDEX = xrays({"train": (6, 13), "val": (3, 5), "test": (2, 2)})
METRICS = ["loss", "accuracy", "precision", "recall", "auc"]
STILL = 1e-12  # a learning rate that changes nothing


def contradicted() -> np.ndarray:
    """Return IMAGES with the bright spot in validation where the label is 0, not 1.

    What improves training makes validation worse, by far more than a CPU's rounding.
    """
    val = np.flatnonzero(INDEX["split"] == "val")
    sign = np.where(INDEX["label"].iloc[val] == 1, -1, 1)[:, np.newaxis, np.newaxis]
    spot = np.s_[val, SIZE // 4 : SIZE // 2, SIZE // 4 : SIZE // 2]
    images = IMAGES.astype(int)
    images[spot] += 90 * sign
    return images.clip(0, 255).astype("uint8")


def train(
    settings: params.System,
    seed: int = 0,
    on_epoch=lambda *_: None,
    initial=None,
    policy: str = "float32",
    images: np.ndarray = IMAGES,
    kept: checkpoint.Checkpoint | None = None,
    held: Mapping[str, feature_files.Features] | None = None,
    shifted: shifted_files.Shifted | None = None,
) -> fit.Trained:
    return fit.train(
        settings,
        images,
        INDEX,
        initial,
        policy,
        PERTURBATION,
        64,
        seed,
        on_epoch,
        kept,
        held or {},
        shifted,
    )


def plain(output: str, **changes) -> params.System:
    """The tiny system with this output, without augmentation and hidden layers."""
    return system(**{"augmentation": None, "head": head(output=output)} | changes)


def inputs_of(split: str, data: str) -> tuple[np.ndarray, np.ndarray]:
    """A split's images, clean or perturbed, float32, and their labels."""
    chosen = np.flatnonzero(INDEX["split"] == split)
    images = IMAGES[chosen][..., np.newaxis].astype("float32")
    if data == "perturbed":
        ids = INDEX["id"].iloc[chosen]
        drawn = augment.perturbations(PERTURBATION, (SIZE, SIZE), ids, seed=0)
        images = keras.ops.convert_to_numpy(
            augment.transform_images(images, augment.transforms(*drawn))
        )
    return images, INDEX["label"].to_numpy()[chosen]


def evaluated(
    model: keras.Model, split: str, data: str = "clean", output: str = "sigmoid"
) -> pd.DataFrame:
    """Probability and unweighted loss of each image of a split, by the formulas in float64.

    With logaddexp, because exp would overflow: the logits of an untrained network are large.
    """
    images, labels = inputs_of(split, data)
    last = model.get_layer("head_output")
    inner = keras.Model(model.get_layer("as_float").output, last.input)
    kernel, bias = last.get_weights()
    logits = keras.ops.convert_to_numpy(inner(images)).astype("float64") @ kernel + bias
    positive = -np.logaddexp(0, -logits)  # log sigmoid
    negative = -np.logaddexp(0, logits)  # log (1 - sigmoid)
    rows = np.arange(len(labels))
    match output:
        case "sigmoid":
            loss = -np.where(labels == 1, positive[:, 0], negative[:, 0])
            probability = np.exp(positive[:, 0])
        case "sigmoid_pair":  # NORMAL's entropy against 1 - label, PNEUMONIA's against the label
            own = positive[rows, labels]
            loss = -(own + negative[rows, 1 - labels]) / 2
            probability = np.exp(positive[:, 1]) / np.exp(positive).sum(axis=1)
        case "log_softmax":
            logs = logits - np.logaddexp(logits[:, :1], logits[:, 1:])
            loss = -logs[rows, labels]
            probability = np.exp(logs[:, 1])
    return pd.DataFrame({"label": labels, "probability": probability, "loss": loss})


def val_loss(model: keras.Model) -> float:
    return evaluated(model, "val")["loss"].mean()
