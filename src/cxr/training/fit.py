"""Train a system: compile and fit its phases one after another."""

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr import augment, files, params, seeding
from cxr.errors import InputError
from cxr.labels import CLASSES
from cxr.models import freezing, network, store, weights
from cxr.training import batches, callbacks, features, interrupt, losses
from cxr.training.checkpoint import Checkpoint
from cxr.training.display import Display
from cxr.training.saver import Saver

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A trained system.

    Attributes:
        model: the network with the weights after the last phase.
        architecture: of the model, as JSON.
        weights: the weights after each phase, as ``get_weights`` returns them.
        history: one row per epoch: epoch (from 1, counted through all phases), phase,
            learning_rate; loss, accuracy, precision, recall and auc on training batches (augmented,
            class-weighted loss), and as ``val_...`` on validation.
        record: the content of train.json, to which :func:`save` adds freeze_blocks and the hash of
            the weights; equal for equal inputs and code.
        training: policy, seconds, seconds_per_epoch: these differ between runs.
    """

    model: keras.Model
    architecture: str
    weights: dict[str, list[np.ndarray]]
    history: pd.DataFrame
    record: dict[str, Any]
    training: dict[str, Any]


def train(
    system: params.System,
    images: np.ndarray,
    index: pd.DataFrame,
    initial: weights.Arrays | None,
    policy: str,
    perturbation: params.Perturbation,
    inference_batch_size: int,
    seed: int,
    on_epoch: callbacks.OnEpoch,
    checkpoint: Checkpoint | None,
) -> Trained:
    """Train a system through all of its phases.

    Args:
        system: from :func:`cxr.models.freezing.resolve`.
        images: uint8 [n, size, size].
        index: ``id``, ``label`` and ``split`` of each image.
        initial: the backbone's weights; None for random weights.
        policy: Keras dtype policy; see :func:`cxr.training.device.policy`.
        perturbation: ranges for the phases that train on perturbed images.
        inference_batch_size: images per batch of validation and of frozen features.
        seed: ``seed`` of params.yaml.
        on_epoch: called after each epoch with its number, from 1, and its metrics.
        checkpoint: keeps the progress, and has that of a killed training; None to keep none.

    Raises:
        Stopped: by SIGTERM or Ctrl-C, after the progress has been saved.
        InputError: the images have another size, or are too few for a batch; balanced class weights
            lack a class; or the loss is no longer finite.
    """
    _check_size(images, system)
    keras.utils.set_random_seed(seeding.derive(seed, "keras"))
    model = network.build(system, initial, policy)
    architecture = network.architecture(model)
    labels = index["label"].to_numpy()
    rows = {split: np.flatnonzero(index["split"] == split) for split in ("train", "val")}
    class_weights = _class_weights(labels[rows["train"]]) if system.class_weights else None
    perturbed = None
    if perturbs(system):
        perturbed = batches.perturbations(perturbation, images, index, seed)

    recorder = callbacks.Recorder(on_epoch)
    saver = Saver(checkpoint, model, recorder, system.phases)
    for name, phase in system.phases.items():
        if name in saver.progress.records:  # finished before the training was killed
            continue
        layers = freezing.set_trainable(model, system, phase)
        counts = freezing.parameter_counts(model)
        log.info(
            "phase %s: training %s of %s parameters on %s images, up to %d epochs",
            name, f"{counts['trainable']:,}", f"{counts['total']:,}", phase.data, phase.epochs,
        )  # fmt: skip
        data = features.Data(
            images, labels, rows["train"], rows["val"],
            perturbed if phase.data == "perturbed" else None,
        )  # fmt: skip
        trainer, train_batches, val_batches = _prepare(
            model, data, system, name, inference_batch_size, seed
        )
        best = _fit(
            trainer, train_batches, val_batches, system, name, class_weights, recorder, saver
        )
        record = {
            "trainable_layers": layers,
            "parameters": counts,
            "steps_per_epoch": train_batches.steps,
            "epochs": len(recorder.rows) - saver.before,
            "best_epoch": best,
        }
        saver.finish_phase(record)
    progress = saver.progress

    settings = system.model_dump(mode="json")
    if system.weights is not None:
        settings["weights"] = Path(system.weights).name  # no path of this machine in an output
    record = {
        "system": settings,
        "seed": seed,
        "perturbation": perturbation.model_dump(mode="json") if perturbs(system) else None,
        "images": {split: _counts(labels[rows[split]]) for split in rows},
        "class_weights": class_weights,
        "phases": progress.records,
        "parameters": list(progress.records.values())[-1]["parameters"],
        "epochs": len(progress.rows),
    }
    training = {
        "policy": policy,
        "seconds": round(progress.seconds, 1),
        "seconds_per_epoch": [round(s, 2) for s in progress.durations],
    }
    return Trained(
        model, architecture, progress.weights, pd.DataFrame(progress.rows), record, training
    )


def perturbs(system: params.System) -> bool:
    """Return whether a phase of the system trains on perturbed images."""
    return any(phase.data == "perturbed" for phase in system.phases.values())


def save(trained: Trained, folder: Path, freeze_blocks: int | None) -> keras.Model:
    """Write a system's folder: architecture and weights (:mod:`store`), history.csv, train.json.

    ``train.json`` holds the SHA-256 of the weights, which identifies the model's run in MLflow.

    Returns:
        The same model as :func:`cxr.models.load` returns.
    """
    saved = store.save(trained.architecture, trained.weights, folder)
    sha256 = files.file_sha256(folder / store.WEIGHTS)
    record = trained.record | {"freeze_blocks": freeze_blocks, "weights_sha256": sha256}
    files.write_json(folder / "train.json", record)
    files.write_csv(folder / "history.csv", trained.history)
    return saved


def _prepare(
    model: keras.Model,
    data: features.Data,
    system: params.System,
    name: str,
    inference_batch_size: int,
    seed: int,
) -> tuple[keras.Model, batches.Shuffled, batches.Ordered]:
    """Return the model that a phase fits, and its training and validation batches."""
    trainer = network.with_head_output(model)
    if system.augmentation is None:
        computed = features.frozen_features(trainer, data, inference_batch_size)
        trainer, data = computed or (trainer, data)
    train_batches = batches.Shuffled(
        data.inputs, data.labels, data.train, system.batch_size, data.perturbations,
        system.augmentation, system.phases[name].steps_per_epoch, seed, name,
    )  # fmt: skip
    val_batches = batches.Ordered(
        data.inputs, data.labels, data.val, inference_batch_size, data.perturbations,
        train_batches.with_transforms,
    )  # fmt: skip
    if train_batches.with_transforms:
        trainer = augment.with_transforms(trainer)
    return trainer, train_batches, val_batches


def compile_model(model: keras.Model, learning_rate: float, output: str) -> None:
    """Compile a model as every phase does.

    ``jit_compile`` and ``steps_per_execution`` stay Keras's defaults, by measurement on two CPU
    cores (``python -m benchmarks.step``). Keras does not use XLA in TensorFlow on a CPU, where it
    takes 15 times as long for MobileNetV2's forward pass; JAX always uses it. Several steps per
    execution gain nothing where a step runs a part of the backbone. They save about a millisecond a
    step where it only trains a head on features, less than a second an epoch, and checkpoints
    between two steps would be further apart. On a GPU neither was measured.

    Args:
        model: from :func:`cxr.models.network.with_head_output`, or the part of it that is trained.
        learning_rate: of Adam.
        output: ``head.output``.
    """
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=losses.loss(output),
        metrics=[
            losses.OfProbability(keras.metrics.BinaryAccuracy(name="accuracy"), output),
            losses.OfProbability(keras.metrics.Precision(name="precision"), output),
            losses.OfProbability(keras.metrics.Recall(name="recall"), output),
            losses.OfProbability(keras.metrics.AUC(name="auc"), output),
        ],
    )


def _fit(
    model: keras.Model,
    train_batches: batches.Shuffled,
    val_batches: batches.Ordered,
    system: params.System,
    name: str,
    class_weights: dict[int, float] | None,
    recorder: callbacks.Recorder,
    saver: Saver,
) -> int:
    """Train one phase and return the epoch, counted through all phases, of its final weights."""
    phase = system.phases[name]
    compile_model(model, phase.learning_rate, system.head.output)
    # Build before fit, because TensorFlow traces a step twice if it creates variables.
    model.optimizer.build(model.trainable_variables)
    recorder.phase = name
    restoring = callbacks.restoring(phase)
    counting = [*callbacks.stopping(phase), *([restoring] if restoring else [])]
    skipped = saver.start_phase(name, phase.epochs, train_batches.steps, counting)
    display = Display(name, phase.epochs, saver.before, train_batches, recorder)
    shuffle = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: train_batches.start_epoch(epoch - saver.before + 1)
    )

    def run(until: int) -> None:
        model.fit(
            train_batches,
            validation_data=val_batches,
            initial_epoch=len(recorder.rows),
            epochs=until,
            class_weight=class_weights,
            callbacks=callbacks.MetricsPerEpoch(
                [shuffle, recorder, *counting, display, saver], add_history=True, model=model
            ),
            shuffle=False,  # Shuffled shuffles from the seed; Keras would use hidden state
            verbose=0,
        )

    with interrupt.deferred() as saver.interrupt, contextlib.closing(display):
        if skipped:  # the rest of an epoch, which has fewer steps than those that follow
            model.test_on_batch(*val_batches[0])  # creates the metrics' variables
            train_batches.skipped = skipped
            run(len(recorder.rows) + 1)
            train_batches.skipped = 0
        # Without an epoch left, Keras still restores the best epoch's weights.
        run(len(recorder.rows) if saver.has_ended else saver.last)
    return len(recorder.rows) if restoring is None else restoring.best_epoch + 1


def _check_size(images: np.ndarray, system: params.System) -> None:
    if images.shape[1:] != (system.image_size, system.image_size):
        message = (
            f"image_size is {system.image_size}, but the cached X-rays are {images.shape[1]} x "
            f"{images.shape[2]}: run the preprocess stage for that size"
        )
        raise InputError(message)


def _counts(labels: np.ndarray) -> dict[str, int]:
    return dict(zip(CLASSES, np.bincount(labels, minlength=2).tolist(), strict=True))


def _class_weights(labels: np.ndarray) -> dict[int, float]:
    """Return total / (2 x class count) by label, so that both classes have the same weight."""
    counts = np.bincount(labels, minlength=2)
    if not counts.all():
        message = (
            f"there is no {CLASSES[counts.argmin()]} image to train on: class_weights needs "
            "both classes; add some to train, or set class_weights to null"
        )
        raise InputError(message)
    return {label: len(labels) / (2 * int(count)) for label, count in enumerate(counts)}
