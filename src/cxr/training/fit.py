"""Train a system: its phases one after another, each a compile and a fit."""

import json
import logging
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr import augment, files, params, seeding
from cxr.errors import InputError
from cxr.models import freezing, network, store, weights
from cxr.training import batches, callbacks, device, losses

log = logging.getLogger(__name__)
CACHE = 4 * 2**30  # bytes that the output of a phase's frozen part may take


@dataclass(frozen=True)
class Trained:
    """What training gives.

    Attributes:
        model: the network with the weights that the last phase kept.
        architecture: of the model, as JSON.
        weights: those that each phase kept, as ``get_weights`` gives them.
        history: a row an epoch: epoch (from 1, counted on through the phases), phase,
            learning_rate, and loss, accuracy, precision, recall, auc on training batches
            (augmented, class-weighted loss) and as ``val_...`` on validation.
        record: what was trained; the same for the same inputs and code.
        timing: seconds, device, precision and versions: what differs between machines.
    """

    model: keras.Model
    architecture: str
    weights: dict[str, list[np.ndarray]]
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
    on_epoch: callbacks.OnEpoch,
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
    model = network.build(system, initial, policy)
    architecture = network.architecture(model)
    labels = index["label"].to_numpy()
    rows = {s: np.flatnonzero(index["split"] == s) for s in params.SPLITS}
    class_weights = _class_weights(labels[rows["train"]]) if system.class_weights else None
    counts = {s: np.bincount(labels[rows[s]], minlength=2).tolist() for s in ("train", "val")}
    perturbed = (
        batches.perturbations(perturbation, images, index, seed) if system.perturbs else None
    )

    recorder = callbacks.Recorder(on_epoch)
    phases: dict[str, Any] = {}
    kept_weights = {}
    started = time.perf_counter()
    for name, phase in system.phases.items():
        layers = freezing.set_trainable(model, system, phase)
        numbers = freezing.parameter_counts(model)
        log.info(
            "phase %s: %s of %s parameters trained on %s films, up to %d epochs",
            name, f"{numbers['trainable']:,}", f"{numbers['total']:,}", phase.data, phase.epochs,
        )  # fmt: skip
        task = _Task(images, labels, rows["train"], rows["val"], network.raw_outputs(model))
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
        trainer = (
            augment.with_transforms(task.model) if train_batches.with_transforms else task.model
        )
        kept = _fit(
            trainer, system, phase, train_batches, val_batches, class_weights, recorder, name
        )
        kept_weights[name] = model.get_weights()
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
        "parameters": freezing.parameter_counts(model),
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
    return Trained(model, architecture, kept_weights, pd.DataFrame(recorder.rows), record, timing)


def save(trained: Trained, folder: Path, freeze_blocks: int | None) -> keras.Model:
    """Write a system's folder: architecture, weights, history.csv, train.json, timing.json.

    ``phases/`` gets the weights of the phases before the last, and an index of them. ``train.json``
    says the SHA-256 of the weights, by which MLflow's run of the model is found.

    Returns:
        The model as :func:`cxr.models.load` would give it back.
    """
    saved = store.save(trained.architecture, trained.weights, folder)
    sha256 = files.file_sha256(folder / store.WEIGHTS)
    record = trained.record | {"freeze_blocks": freeze_blocks, "weights_sha256": sha256}
    files.write_text(folder / "train.json", json.dumps(record, indent=2) + "\n")
    files.write_text(folder / "timing.json", json.dumps(trained.timing, indent=2) + "\n")
    with files.replacing(folder / "history.csv") as beside:
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
    task: _Task, damage: batches.Perturbations | None
) -> tuple[_Task, batches.Perturbations | None]:
    """Put the frozen part's output in the place of the films, where nothing is drawn before it.

    Without augmentation a film gives the same there in each epoch, damaged or not: it is computed
    once. Where that would take more than :data:`CACHE` of memory all stays as it is.
    """
    parts = freezing.cut(task.model)
    used = np.concatenate([task.train, task.val])
    if parts is None or 4 * math.prod(parts[0].output_shape[1:]) * len(used) > CACHE:
        return task, damage
    frozen, rest = parts
    log.info("computing what stays the same once: %s, %d films", frozen.output_shape[1:], len(used))
    outputs = batches.predict(
        augment.with_transforms(frozen) if damage is not None else frozen, task.inputs, used,
        batches.BATCH, damage,
    )  # fmt: skip
    train, val = np.split(np.arange(len(used)), [len(task.train)])
    return _Task(outputs, task.labels[used], train, val, rest), None


def _fit(
    model: keras.Model,
    system: params.System,
    phase: params.Phase,
    train_batches: batches.Shuffled,
    val_batches: batches.Ordered,
    class_weights: dict[int, float] | None,
    recorder: callbacks.Recorder,
    name: str,
) -> int:
    """Run one phase and return the epoch, from 1 in the whole history, whose weights were kept."""
    output = system.head.output
    model.compile(
        optimizer=keras.optimizers.Adam(phase.learning_rate),
        loss=losses.loss(output),
        metrics=[
            losses.OfProbability(keras.metrics.BinaryAccuracy(name="accuracy"), output),
            losses.OfProbability(keras.metrics.Precision(name="precision"), output),
            losses.OfProbability(keras.metrics.Recall(name="recall"), output),
            losses.OfProbability(keras.metrics.AUC(name="auc"), output),
        ],
    )
    # Ahead of fit: TensorFlow would trace a step that makes variables twice.
    model.optimizer.build(model.trainable_variables)
    recorder.phase = name
    keeper = callbacks.Keeper(phase.keep)
    called: list[keras.callbacks.Callback] = [recorder, keeper]
    if phase.plateau is not None:
        plateau = keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss", mode="min", factor=phase.plateau.factor,
            patience=phase.plateau.patience, min_lr=phase.plateau.min_learning_rate,
        )  # fmt: skip
        called.append(plateau)
    if phase.early_stopping is not None:
        monitor = phase.early_stopping.monitor
        stopping = keras.callbacks.EarlyStopping(
            monitor=monitor, mode=callbacks.MODES[monitor], patience=phase.early_stopping.patience,
            min_delta=phase.early_stopping.min_delta,
        )  # fmt: skip
        called.append(stopping)
    done = len(recorder.rows)
    model.fit(
        train_batches,
        validation_data=val_batches,
        initial_epoch=done,
        epochs=done + phase.epochs,
        class_weight=class_weights,
        callbacks=called,
        shuffle=False,  # Shuffled does it, from the seed; Keras would from a hidden state
        verbose=1 if sys.stdout.isatty() else 2,
    )
    return keeper.epoch


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
