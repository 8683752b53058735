"""Train a phase by gradient descent: compile, fit, and validate from frozen features."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from cxr import augment, params
from cxr.training import (
    batches,
    callbacks,
    feature_files,
    features,
    interrupt,
    losses,
    shifted_files,
)
from cxr.training.display import Display
from cxr.training.saver import Saver
from cxr.training.shifted_loss import ShiftedLoss


def run(
    model: keras.Model,
    data: features.Data,
    stored: feature_files.Features | None,
    shifted: shifted_files.Shifted | None,
    system: params.System,
    name: str,
    phase: params.Phase,
    inference_batch_size: int,
    seed: int,
    class_weights: dict[int, float] | None,
    recorder: callbacks.Recorder,
    saver: Saver,
) -> dict[str, Any]:
    """Train a phase of a network.

    Args:
        model: from :func:`cxr.models.network.with_head_output`, with the phase's layers frozen.
        data: images of the phase.
        stored: what the features stage computed for the phase; None if it has nothing.
        shifted: validation images under shifts, for a phase that restores by their loss.
        system: augmentation, batch size and head.
        name: of the phase.
        phase: one of the system's.
        inference_batch_size: images per batch of validation and of frozen features.
        seed: ``seed`` of params.yaml.
        class_weights: by label; None for equal ones.
        recorder: gets the row of each epoch.
        saver: saves the progress, and restores that of a killed training.

    Returns:
        The phase's own part of train.json: frozen_features, steps_per_epoch, epochs, and
        best_epoch, the epoch of its final weights, counted through all phases.
    """
    frozen = features.of_phase(model, data, system.augmentation, stored, inference_batch_size)
    sides = _sides(model, data, frozen, system, phase, name, inference_batch_size, seed)
    validations: list[keras.callbacks.Callback] = [
        callbacks.Validation(sides.validator, sides.val_batches)
    ]
    if phase.restore == shifted_files.LOSS and shifted is not None:
        validations.append(ShiftedLoss(model, shifted, system.head.output, inference_batch_size))
    best = _fit(sides, phase, name, system.head.output, validations, class_weights, recorder, saver)
    return {
        "frozen_features": frozen.record if frozen else None,
        "steps_per_epoch": sides.train_batches.steps,
        "epochs": len(recorder.rows) - saver.before,
        "best_epoch": best,
    }


def compile_model(
    model: keras.Model, learning_rate: Any, output: str, average: float | None = None
) -> None:
    """Compile a model as every phase does.

    ``jit_compile`` and ``steps_per_execution`` stay Keras's defaults, by measurement on two CPU
    cores (``python -m benchmarks.step``). Keras does not use XLA in TensorFlow on a CPU, where it
    takes 15 times as long for MobileNetV2's forward pass; JAX always uses it. Several steps per
    execution gain nothing where a step runs a part of the backbone. They save about a millisecond a
    step where it only trains a head on features, less than a second an epoch, and checkpoints
    between two steps would be further apart. On a GPU neither was measured.

    Args:
        model: from :func:`cxr.models.network.with_head_output`, or the part of it that is trained.
        learning_rate: of Adam: a number, or a schedule from :func:`rate`.
        output: ``head.output``.
        average: the decay of the moving average of the weights; None for none.
    """
    averaging = {} if average is None else {"use_ema": True, "ema_momentum": average}
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate, **averaging),
        loss=losses.loss(output),
        metrics=losses.metrics(output),
    )


def rate(phase: params.Phase, steps: int) -> Any:
    """Return the learning rate of a phase: a number, or Keras's schedule for ``cosine``.

    A schedule depends on the optimizer's count of steps alone, which a checkpoint has.

    Args:
        phase: one of a system's.
        steps: of an epoch.
    """
    if phase.cosine is None:
        return phase.learning_rate
    warm_up = round(phase.cosine.warm_up * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, phase.epochs * steps - warm_up), alpha=phase.cosine.final,
        warmup_target=phase.learning_rate, warmup_steps=warm_up,
    )  # fmt: skip


@dataclass(frozen=True)
class _Sides:
    """The two sides of a phase, which share their weights; each is a model and its batches."""

    trainer: keras.Model
    train_batches: batches.Shuffled
    validator: keras.Model
    val_batches: batches.Ordered


def _sides(
    model: keras.Model,
    data: features.Data,
    frozen: features.Frozen | None,
    system: params.System,
    phase: params.Phase,
    name: str,
    inference_batch_size: int,
    seed: int,
) -> _Sides:
    """Return what a phase trains and validates: from frozen features on, where there are some."""
    validator, validation = (frozen.rest, frozen.data) if frozen else (model, data)
    trainer, training, augmentation = model, data, system.augmentation
    original = 0.0 if augmentation is None else augmentation.original
    if frozen is not None and frozen.data.views:
        trainer, training, augmentation = frozen.rest, frozen.data, None
    train_batches = batches.Shuffled(
        training.inputs, training.labels, training.train, system.batch_size,
        training.perturbations, augmentation, phase.steps_per_epoch, seed, name,
        training.views, training.maps, training.appearances, original,
    )  # fmt: skip
    val_batches = batches.Ordered(
        validation.inputs, validation.labels, validation.val, inference_batch_size,
        validation.perturbations,
    )  # fmt: skip
    if train_batches.with_transforms:
        trainer = augment.with_transforms(trainer, train_batches.appearance)
    if val_batches.with_transforms:
        validator = augment.with_transforms(validator)
    else:  # a model of its own, because the trainer's state must not change between two epochs
        validator = keras.Model(validator.input, validator.output)
    return _Sides(trainer, train_batches, validator, val_batches)


def _fit(
    sides: _Sides,
    phase: params.Phase,
    name: str,
    output: str,
    validations: Sequence[keras.callbacks.Callback],
    class_weights: dict[int, float] | None,
    recorder: callbacks.Recorder,
    saver: Saver,
) -> int:
    """Train one phase and return the epoch, counted through all phases, of its final weights."""
    model, train_batches = sides.trainer, sides.train_batches
    compile_model(model, rate(phase, train_batches.steps), output, phase.average)
    compile_model(sides.validator, phase.learning_rate, output)
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

    averages = callbacks.averages(phase)
    watching = [
        *averages[:1], *validations, shuffle, recorder, *counting, *averages[1:], display, saver
    ]  # fmt: skip

    def run(until: int) -> None:
        model.fit(
            train_batches,
            initial_epoch=len(recorder.rows),
            epochs=until,
            class_weight=class_weights,
            callbacks=callbacks.MetricsPerEpoch(watching, add_history=True, model=model),
            shuffle=False,  # Shuffled shuffles from the seed; Keras would use hidden state
            verbose=0,
        )

    with interrupt.deferred() as saver.interrupt, contextlib.closing(display):
        if skipped:  # the rest of an epoch, which has fewer steps than those that follow
            model.test_on_batch(*train_batches[0])  # creates the metrics' variables
            train_batches.skipped = skipped
            run(len(recorder.rows) + 1)
            train_batches.skipped = 0
        # Without an epoch left, Keras still restores the best epoch's weights.
        run(len(recorder.rows) if saver.has_ended else saver.last)
    return len(recorder.rows) if restoring is None else restoring.best_epoch + 1
