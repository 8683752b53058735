"""Train a system: its phases one after another, each a compile and a fit."""

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr import atomic, batches, device, hashing, models, params, seeding
from cxr.errors import InputError
from cxr.models import weights

log = logging.getLogger(__name__)

OnEpoch = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes:
        model: the network with the weights that were kept.
        history: a row an epoch: epoch (from 1), phase, and loss, accuracy, precision, recall, auc
            on training batches (augmented, class-weighted loss) and as ``val_...`` on validation.
        record: what was trained; the same for the same inputs and code.
        timing: seconds, device, precision and versions: what differs between machines.
    """

    model: keras.Model
    history: pd.DataFrame
    record: dict[str, Any]
    timing: dict[str, Any]


def train(
    system: params.System,
    images: np.ndarray,
    index: pd.DataFrame,
    initial: weights.Arrays | None,
    settings: params.Training,
    seed: int,
    on_epoch: OnEpoch,
) -> Trained:
    """Train a system through all of its phases.

    Args:
        system: its ``above_freeze_blocks`` replaced by blocks.
        images: uint8 [n, size, size].
        index: row by row the ``label`` and ``split`` of the images.
        initial: the backbone's weights; None for random ones.
        settings: precision and whether a GPU is a must.
        seed: ``seed`` of params.yaml.
        on_epoch: called after each epoch with its number, from 1, and its metrics.

    Raises:
        InputError: images of another size, too few for a batch, no GPU where one is a must, or a
            loss that is no longer a number.
    """
    if images.shape[1:] != (system.image_size, system.image_size):
        message = (
            f"image_size is {system.image_size}, but the cached X-rays are {images.shape[1]} x "
            f"{images.shape[2]}: run the preprocess stage for that size"
        )
        raise InputError(message)
    found = device.find()
    policy = device.policy(settings, found)
    log.info("training on %s (%s), %s", found.name, keras.backend.backend(), policy)

    keras.utils.set_random_seed(seeding.derive(seed, "keras"))
    model = models.build(system, initial, policy)
    trainer = model if system.augmentation is None else models.augmented(model)
    labels = index["label"].to_numpy()
    rows = {s: np.flatnonzero(index["split"] == s) for s in params.SPLITS}
    class_weights = _class_weights(labels[rows["train"]]) if system.class_weights else None
    counts = {s: np.bincount(labels[rows[s]], minlength=2).tolist() for s in ("train", "val")}

    recorder = _Recorder(on_epoch)
    phases = {}
    started = time.perf_counter()
    for name, phase in system.phases.items():
        layers = models.set_trainable(model, system, phase)
        numbers = models.parameter_counts(model)
        log.info(
            "phase %s: %s of %s parameters trained, up to %d epochs",
            name, f"{numbers['trainable']:,}", f"{numbers['total']:,}", phase.epochs,
        )  # fmt: skip
        train_batches = batches.Shuffled(
            images, labels, rows["train"], system.batch_size, system.augmentation, seed, name, 0
        )
        # Validation looks at whole images only: the batch size there is a matter of speed.
        val_batches = batches.Ordered(
            images, labels, rows["val"], 64, system.augmentation is not None
        )
        kept = _fit(trainer, phase, train_batches, val_batches, class_weights, recorder, name)
        phases[name] = {
            "trainable_layers": layers,
            "parameters": numbers,
            "steps_per_epoch": len(train_batches),
            "epochs": len(recorder.of(name)),
            "kept_epoch": kept,
        }
    seconds = time.perf_counter() - started

    record = {
        "system": system.model_dump(mode="json"),
        "seed": seed,
        "images": {s: dict(zip(params.CLASSES, n, strict=True)) for s, n in counts.items()},
        "class_weights": class_weights,
        "phases": phases,
        "parameters": models.parameter_counts(model),
        "epochs": len(recorder.rows),
    }
    timing = {
        "seconds": round(seconds, 1),
        "seconds_per_epoch": [round(s, 2) for s in recorder.seconds],
        "device": found.name,
        "device_kind": found.kind,
        "policy": policy,
        "versions": device.versions(),
    }
    return Trained(model, pd.DataFrame(recorder.rows), record, timing)


def save(trained: Trained, system: params.System, folder: Path, freeze_blocks: int | None) -> None:
    """Write a system's folder: architecture, weights, history.csv, train.json, timing.json.

    ``train.json`` says the SHA-256 of the weights, by which MLflow's run of the model is found.
    """
    models.save(trained.model, system, folder)
    sha256 = hashing.file_sha256(folder / models.WEIGHTS)
    record = trained.record | {"freeze_blocks": freeze_blocks, "weights_sha256": sha256}
    atomic.write_text(folder / "train.json", json.dumps(record, indent=2) + "\n")
    atomic.write_text(folder / "timing.json", json.dumps(trained.timing, indent=2) + "\n")
    with atomic.replacing(folder / "history.csv") as beside:
        trained.history.to_csv(beside, index=False, lineterminator="\n")


def _fit(
    model: keras.Model,
    phase: params.Phase,
    train_batches: batches.Shuffled,
    val_batches: batches.Ordered,
    class_weights: dict[int, float] | None,
    recorder: "_Recorder",
    name: str,
) -> int:
    """Run one phase and return the epoch, from 1 in the whole history, whose weights were kept."""
    model.compile(
        optimizer=keras.optimizers.Adam(phase.learning_rate),
        loss=keras.losses.BinaryCrossentropy(),
        metrics=[
            keras.metrics.BinaryAccuracy(name="accuracy"),
            keras.metrics.Precision(name="precision"),
            keras.metrics.Recall(name="recall"),
            keras.metrics.AUC(name="auc"),
        ],
    )
    recorder.phase = name
    callbacks: list[keras.callbacks.Callback] = [recorder]
    if phase.early_stopping is not None:
        stopping = keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=phase.early_stopping.patience, restore_best_weights=True
        )
        callbacks.append(stopping)
    model.fit(
        train_batches,
        validation_data=val_batches,
        epochs=phase.epochs,
        class_weight=class_weights,
        callbacks=callbacks,
        shuffle=False,  # Shuffled does it, from the seed; Keras would from a hidden state
        verbose=1 if sys.stdout.isatty() else 2,
    )
    epochs = recorder.of(name)
    if phase.early_stopping is None:
        return epochs[-1]["epoch"]
    return min(epochs, key=lambda row: row["val_loss"])["epoch"]


def _class_weights(labels: np.ndarray) -> dict[int, float]:
    """Return total / (2 x class count) for each label: both classes weigh the same in all."""
    counts = np.bincount(labels, minlength=2)
    if not counts.all():
        message = (
            f"there is no {params.CLASSES[counts.argmin()]} image to train on: class_weights needs "
            "both classes; give train some, or set class_weights to null"
        )
        raise InputError(message)
    return {label: len(labels) / (2 * int(count)) for label, count in enumerate(counts)}


class _Recorder(keras.callbacks.Callback):
    """Keeps a row and the seconds of each epoch, over all phases, and hands the row on."""

    def __init__(self, on_epoch: OnEpoch) -> None:
        super().__init__()
        self.on_epoch, self.phase = on_epoch, ""
        self.rows: list[dict[str, Any]] = []
        self.seconds: list[float] = []

    def of(self, phase: str) -> list[dict[str, Any]]:
        """Return the rows of one phase."""
        return [row for row in self.rows if row["phase"] == phase]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        number = len(self.rows) + 1
        for name in ("loss", "val_loss"):  # the last step may spoil val_loss alone
            if not math.isfinite(metrics[name]):
                message = (
                    f"{name} is {metrics[name]} after epoch {number} (phase {self.phase}): "
                    f"lower systems.<name>.phases.{self.phase}.learning_rate"
                )
                raise InputError(message)
        self.seconds.append(time.perf_counter() - self._began)
        self.rows.append({"epoch": number, "phase": self.phase} | metrics)
        self.on_epoch(number, metrics)
