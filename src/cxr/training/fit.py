"""Train a system: its phases one after another."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cxr import files, params, seeding
from cxr.errors import InputError
from cxr.labels import CLASSES
from cxr.models import freezing, network, store, weights
from cxr.training import (
    batches,
    callbacks,
    descent,
    feature_files,
    features,
    probe,
    shifted_files,
)
from cxr.training.checkpoint import Checkpoint
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
            class-weighted loss), and as ``val_...`` on validation; shifted_loss, of phases that
            restore by it (:mod:`cxr.training.shifted_loss`). A logistic regression counts as one
            epoch, without a learning rate.
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
    held: Mapping[str, feature_files.Features],
    shifted: shifted_files.Shifted | None = None,
) -> Trained:
    """Train a system through all of its phases.

    Args:
        system: from :func:`cxr.models.freezing.resolve`.
        images: uint8 [n, size, size].
        index: ``id``, ``label``, ``split`` and ``patient`` of each image.
        initial: the backbone's weights; None for random weights.
        policy: Keras dtype policy; see :func:`cxr.training.device.policy`.
        perturbation: ranges for the phases that train on perturbed images.
        inference_batch_size: images per batch of validation and of frozen features.
        seed: ``seed`` of params.yaml.
        on_epoch: called after each epoch with its number, from 1, and its metrics.
        checkpoint: keeps the progress, and has that of a killed training; None to keep none.
        held: the frozen features of some phases, by name, from the features stage.
        shifted: validation images under shifts; required by a phase that restores by their loss.

    Raises:
        Stopped: by SIGTERM or Ctrl-C, after the progress has been saved.
        InputError: the images have another size, or are too few for a batch; shifted images are
            required and missing; balanced class weights lack a class; or the loss is no longer
            finite.
    """
    _check_size(images, system)
    if shifted_files.wanted(system) and shifted is None:
        message = f"restore: {shifted_files.LOSS} needs shifted images: run the shifted stage"
        raise InputError(message)
    keras.utils.set_random_seed(seeding.derive(seed, "keras"))
    model = network.build(system, initial, policy)
    architecture = network.architecture(model)
    held = features.fitting(held, model, system)
    clean = features.of_images(system, images, index, None, seed)
    class_weights = _class_weights(clean.labels[clean.train]) if system.class_weights else None
    perturbed = clean
    if perturbs(system):
        drawn = batches.perturbations(perturbation, images, index, seed)
        perturbed = dataclasses.replace(clean, perturbations=drawn)

    patients = index["patient"].to_numpy()
    recorder = callbacks.Recorder(on_epoch)
    saver = Saver(checkpoint, model, recorder, system.phases)
    for name, phase in system.phases.items():
        if name in saver.progress.records:  # finished before the training was killed
            continue
        layers = freezing.set_trainable(model, system, phase)
        counts = freezing.parameter_counts(model)
        log.info(
            "phase %s: training %s of %s parameters on %s images, %s",
            name, f"{counts['trainable']:,}", f"{counts['total']:,}", phase.data, _amount(phase),
        )  # fmt: skip
        data = clean if phase.data == "clean" else perturbed
        whole, stored = network.with_head_output(model), held.get(name)
        record: dict[str, Any] = {"trainable_layers": layers, "parameters": counts}
        if isinstance(phase, params.LogisticRegression):
            saver.start_phase(name, epochs=1, steps=1, counting=[])
            record |= probe.run(
                whole, data, stored, patients, system, name, phase, inference_batch_size, recorder
            )
        else:
            record |= descent.run(
                whole, data, stored, shifted, system, name, phase, inference_batch_size, seed,
                class_weights, recorder, saver,
            )  # fmt: skip
        saver.finish_phase(record)
    progress = saver.progress

    settings = system.model_dump(mode="json")
    if system.weights is not None:
        settings["weights"] = Path(system.weights).name  # no path of this machine in an output
    about: dict[str, Any] = {
        "system": settings,
        "seed": seed,
        "perturbation": perturbation.model_dump(mode="json") if perturbs(system) else None,
        "images": {
            "train": _counts(clean.labels[clean.train]),
            "val": _counts(clean.labels[clean.val]),
        },
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
        model, architecture, progress.weights, pd.DataFrame(progress.rows), about, training
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


def _check_size(images: np.ndarray, system: params.System) -> None:
    if images.shape[1:] != (system.image_size, system.image_size):
        message = (
            f"image_size is {system.image_size}, but the cached X-rays are {images.shape[1]} x "
            f"{images.shape[2]}: run the preprocess stage for that size"
        )
        raise InputError(message)


def _amount(phase: params.AnyPhase) -> str:
    """Return in words how long a phase trains."""
    if isinstance(phase, params.LogisticRegression):
        return "by logistic regression"
    return f"up to {phase.epochs} epochs"


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
