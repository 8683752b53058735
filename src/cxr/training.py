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
from keras import ops

from cxr import atomic, batches, device, hashing, models, params, seeding
from cxr.errors import InputError
from cxr.models import weights

log = logging.getLogger(__name__)

CACHE = 4 * 2**30  # bytes that the output of a phase's frozen part may take
MODES = {"val_loss": "min", "val_accuracy": "max"}  # which way a monitored figure gets better

OnEpoch = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes:
        model: the network with the weights that the last phase kept.
        before: the weights that each phase before the last kept, as ``get_weights`` gives them.
        history: a row an epoch: epoch (from 1, counted on through the phases), phase,
            learning_rate, and loss, accuracy, precision, recall, auc on training batches
            (augmented, class-weighted loss) and as ``val_...`` on validation.
        record: what was trained; the same for the same inputs and code.
        timing: seconds, device, precision and versions: what differs between machines.
    """

    model: keras.Model
    before: dict[str, list[np.ndarray]]
    history: pd.DataFrame
    record: dict[str, Any]
    timing: dict[str, Any]


def train(
    system: params.System,
    images: np.ndarray,
    index: pd.DataFrame,
    initial: weights.Arrays | None,
    settings: params.Training,
    perturbation: params.Perturbation,
    seed: int,
    on_epoch: OnEpoch,
) -> Trained:
    """Train a system through all of its phases.

    Args:
        system: its ``above_freeze_blocks`` replaced by blocks.
        images: uint8 [n, size, size].
        index: row by row the ``id``, ``label`` and ``split`` of the images.
        initial: the backbone's weights; None for random ones.
        settings: precision and whether a GPU is a must.
        perturbation: what phases with perturbed data do to their films.
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
    device.keep_memory(found)

    keras.utils.set_random_seed(seeding.derive(seed, "keras"))
    model = models.build(system, initial, policy)
    labels = index["label"].to_numpy()
    rows = {s: np.flatnonzero(index["split"] == s) for s in params.SPLITS}
    class_weights = _class_weights(labels[rows["train"]]) if system.class_weights else None
    counts = {s: np.bincount(labels[rows[s]], minlength=2).tolist() for s in ("train", "val")}
    perturbed = batches.damage(perturbation, images, index, seed) if system.perturbs else None

    recorder = _Recorder(on_epoch)
    phases: dict[str, Any] = {}
    before = {}
    started = time.perf_counter()
    for name, phase in system.phases.items():
        if phases:
            before[list(phases)[-1]] = model.get_weights()
        layers = models.set_trainable(model, system, phase)
        numbers = models.parameter_counts(model)
        log.info(
            "phase %s: %s of %s parameters trained on %s films, up to %d epochs",
            name, f"{numbers['trainable']:,}", f"{numbers['total']:,}", phase.data, phase.epochs,
        )  # fmt: skip
        task = _Task(images, labels, rows["train"], rows["val"], models.scores(model))
        damage = perturbed if phase.data == "perturbed" else None
        if system.augmentation is None:
            task, damage = _without_what_stays_the_same(task, damage)
        train_batches = batches.Shuffled(
            task.inputs, task.labels, task.train, system.batch_size, damage, system.augmentation,
            phase.steps_per_epoch, seed, name, 0,
        )  # fmt: skip
        # Validation looks at whole images only: the batch size there is a matter of speed.
        val_batches = batches.Ordered(
            task.inputs, task.labels, task.val, batches.BATCH, damage, train_batches.with_transforms
        )
        trainer = models.warped(task.model) if train_batches.with_transforms else task.model
        kept = _fit(
            trainer, system, phase, train_batches, val_batches, class_weights, recorder, name
        )
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
        "perturbation": perturbation.model_dump(mode="json") if system.perturbs else None,
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
    return Trained(model, before, pd.DataFrame(recorder.rows), record, timing)


def save(
    trained: Trained, system: params.System, folder: Path, freeze_blocks: int | None
) -> keras.Model:
    """Write a system's folder: architecture, weights, history.csv, train.json, timing.json.

    ``phases/`` gets the weights of the phases before the last, and an index of them. ``train.json``
    says the SHA-256 of the weights, by which MLflow's run of the model is found.

    Returns:
        The model as :func:`cxr.models.load` would give it back.
    """
    saved = models.save(trained.model, trained.before, system, folder)
    sha256 = hashing.file_sha256(folder / models.WEIGHTS)
    record = trained.record | {"freeze_blocks": freeze_blocks, "weights_sha256": sha256}
    atomic.write_text(folder / "train.json", json.dumps(record, indent=2) + "\n")
    atomic.write_text(folder / "timing.json", json.dumps(trained.timing, indent=2) + "\n")
    with atomic.replacing(folder / "history.csv") as beside:
        trained.history.to_csv(beside, index=False, lineterminator="\n")
    return saved


@dataclass(frozen=True)
class _Task:
    """What a phase is fitted on: inputs and labels [n], which of them are whose, and the model."""

    inputs: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    val: np.ndarray
    model: keras.Model


def _without_what_stays_the_same(
    task: _Task, damage: batches.Damage | None
) -> tuple[_Task, batches.Damage | None]:
    """Put the frozen part's output in the place of the films, where nothing is drawn before it.

    Without augmentation a film gives the same there in each epoch, damaged or not: it is computed
    once. Where that would take more than :data:`CACHE` of memory all stays as it is.
    """
    parts = models.split(task.model)
    used = np.concatenate([task.train, task.val])
    if parts is None or 4 * math.prod(parts[0].output_shape[1:]) * len(used) > CACHE:
        return task, damage
    frozen, rest = parts
    log.info("computing what stays the same once: %s, %d films", frozen.output_shape[1:], len(used))
    outputs = batches.predict(
        models.warped(frozen) if damage is not None else frozen, task.inputs, used, damage
    )
    train, val = np.split(np.arange(len(used)), [len(task.train)])
    return _Task(outputs, task.labels[used], train, val, rest), None


def _fit(
    model: keras.Model,
    system: params.System,
    phase: params.Phase,
    train_batches: batches.Shuffled,
    val_batches: batches.Ordered,
    class_weights: dict[int, float] | None,
    recorder: "_Recorder",
    name: str,
) -> int:
    """Run one phase and return the epoch, from 1 in the whole history, whose weights were kept."""
    output = system.head.output
    model.compile(
        optimizer=keras.optimizers.Adam(phase.learning_rate),
        loss=loss(output),
        metrics=[
            _OfProbability(keras.metrics.BinaryAccuracy(name="accuracy"), output),
            _OfProbability(keras.metrics.Precision(name="precision"), output),
            _OfProbability(keras.metrics.Recall(name="recall"), output),
            _OfProbability(keras.metrics.AUC(name="auc"), output),
        ],
    )
    # Ahead of fit: TensorFlow would trace a step that makes variables twice.
    model.optimizer.build(model.trainable_variables)
    recorder.phase = name
    keeper = _Keeper(phase.keep)
    callbacks: list[keras.callbacks.Callback] = [recorder, keeper]
    if phase.plateau is not None:
        plateau = keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss", mode="min", factor=phase.plateau.factor,
            patience=phase.plateau.patience, min_lr=phase.plateau.min_learning_rate,
        )  # fmt: skip
        callbacks.append(plateau)
    if phase.early_stopping is not None:
        monitor = phase.early_stopping.monitor
        stopping = keras.callbacks.EarlyStopping(
            monitor=monitor, mode=MODES[monitor], patience=phase.early_stopping.patience,
            min_delta=phase.early_stopping.min_delta,
        )  # fmt: skip
        callbacks.append(stopping)
    done = len(recorder.rows)
    model.fit(
        train_batches,
        validation_data=val_batches,
        initial_epoch=done,
        epochs=done + phase.epochs,
        class_weight=class_weights,
        callbacks=callbacks,
        shuffle=False,  # Shuffled does it, from the seed; Keras would from a hidden state
        verbose=1 if sys.stdout.isatty() else 2,
    )
    return keeper.epoch


def loss(output: str) -> Callable[[Any, Any], Any]:
    """Return the loss of a head's scores, a function of labels [batch, 1] and scores.

    Args:
        output: ``head.output``. ``sigmoid``: binary cross-entropy; ``sigmoid_pair``: that of each
            of the two against its own class, averaged; ``log_softmax``: the negative log
            likelihood.
    """
    return {
        "sigmoid": keras.losses.binary_crossentropy,
        "sigmoid_pair": _pair_crossentropy,
        "log_softmax": _negative_log_likelihood,
    }[output]


def _pair_crossentropy(labels: Any, scores: Any) -> Any:
    return keras.losses.binary_crossentropy(_one_hot(labels), scores)


def _negative_log_likelihood(labels: Any, scores: Any) -> Any:
    return -ops.sum(_one_hot(labels) * scores, axis=1)


def _one_hot(labels: Any) -> Any:
    """Turn [batch, 1] into [batch, 2]: NORMAL, PNEUMONIA."""
    return ops.concatenate([1 - labels, labels], axis=1)


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


class _OfProbability(keras.metrics.Metric):
    """A metric of the probability of PNEUMONIA, for a model that gives a head's scores."""

    def __init__(self, metric: keras.metrics.Metric, output: str) -> None:
        super().__init__(name=metric.name)
        self.metric, self.output = metric, output

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.metric.update_state(y_true, models.probability(y_pred, self.output), sample_weight)

    def result(self) -> Any:
        return self.metric.result()

    def reset_state(self) -> None:
        self.metric.reset_state()


class _Keeper(keras.callbacks.Callback):
    """Puts the weights of the best epoch back when a phase ends, however it ends.

    Args:
        keep: val_loss or val_accuracy, of which the first best epoch counts; or last.
    """

    def __init__(self, keep: str) -> None:
        super().__init__()
        self.keep, self.epoch = keep, 0
        self.best: float | None = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        if self.keep == "last":
            self.epoch = epoch + 1
            return
        value = float((logs or {})[self.keep])
        better = min if MODES[self.keep] == "min" else max
        if self.best is None or (value != self.best and better(value, self.best) == value):
            self.best, self.epoch = value, epoch + 1
            self.weights = self.model.get_weights()

    def on_train_end(self, logs: Any = None) -> None:
        if self.best is not None:
            self.model.set_weights(self.weights)


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
        rate = float(f"{float(self.model.optimizer.learning_rate):.6g}")  # a float32, read back
        self.rows.append({"epoch": number, "phase": self.phase, "learning_rate": rate} | metrics)
        self.on_epoch(number, metrics)
