"""Callbacks of a phase: history, plateau, early stopping, restoring the best epoch; their list."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from cxr import params
from cxr.errors import InputError
from cxr.training import progress

# Whether lower or higher is better.
MODES = {"val_loss": "min", "val_accuracy": "max", "shifted_loss": "min"}
LOSSES = ("loss", "val_loss", "shifted_loss")  # of a phase; the last only where it is restored by
OnEpoch = Callable[[int, Mapping[str, float]], None]


class MetricsPerEpoch(keras.callbacks.CallbackList):
    """A list of callbacks that reads the metrics when an epoch ends, and not after each step.

    Keras's own list copies all metrics of every step from the device, in another thread, even if no
    callback uses them. On a CPU that costs nothing measurable (``python -m benchmarks.step``); on a
    GPU it was not measured. No callback may need ``on_train_batch_end`` or ``on_test_batch_end``.
    """

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


class Recorder(keras.callbacks.Callback):
    """Collects the history of all phases: one row per epoch, and its seconds.

    Args:
        on_epoch: called after each epoch with its number, from 1, and its metrics.
    """

    def __init__(self, on_epoch: OnEpoch) -> None:
        super().__init__()
        self.on_epoch, self.phase = on_epoch, ""
        self.rows: list[dict[str, Any]] = []
        self.seconds: list[float] = []

    def elapsed(self) -> float:
        """Return the seconds since the epoch began."""
        return time.perf_counter() - self._began

    def add_seconds(self, seconds: float) -> None:
        """Count the seconds that an earlier sitting spent on this epoch."""
        self._began -= seconds

    def begin(self) -> None:
        """Start to measure an epoch's seconds."""
        self._began = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begin()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        rate = float(f"{float(self.model.optimizer.learning_rate):.6g}")  # undo float32's rounding
        self.add(logs or {}, rate)

    def add(self, logs: Mapping[str, float], rate: float) -> None:
        """Add the row of an epoch and report it.

        Args:
            logs: the metrics of the epoch, by name.
            rate: the learning rate; NaN for a phase without one.

        Raises:
            InputError: a loss is not finite.
        """
        metrics = {name: float(value) for name, value in logs.items()}
        number = len(self.rows) + 1
        for name in LOSSES:  # the last step can make val_loss alone infinite
            if not math.isfinite(metrics.get(name, 0.0)):
                message = (
                    f"{name} is {metrics[name]} after epoch {number} (phase {self.phase}): "
                    f"lower systems.<name>.phases.{self.phase}.learning_rate"
                )
                raise InputError(message)
        self.seconds.append(self.elapsed())
        self.rows.append({"epoch": number, "phase": self.phase, "learning_rate": rate} | metrics)
        self.on_epoch(number, metrics)


class Validation(keras.callbacks.Callback):
    """Evaluates each epoch's weights, and adds the metrics as ``val_...`` to those of the epoch.

    It must come before the others that read the metrics that it adds. Keras's own
    validation evaluates the model that is fitted, which may begin with frozen or augmenting layers
    that validation does without.

    Args:
        validator: compiled; shares the weights of the model that is fitted.
        batches: of the validation images, or of their features.
    """

    def __init__(self, validator: keras.Model, batches: keras.utils.PyDataset) -> None:
        super().__init__()
        self.validator, self.batches = validator, batches

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        found = self.validator.evaluate(
            self.batches, verbose=0, return_dict=True,
            callbacks=MetricsPerEpoch(model=self.validator),
        )  # fmt: skip
        if logs is not None:
            logs |= {f"val_{name}": value for name, value in found.items()}


class Averages(keras.callbacks.Callback):
    """Puts the optimizer's moving averages in the place of the trained weights when an epoch ends.

    Callbacks after it see the averages, until :attr:`back`, a callback too, puts the weights back,
    to the bit: Keras's ``SwapEMAWeights`` swaps by sums, which round, so that a resumed training
    would end with other weights. When ``fit`` ends, Keras itself leaves the averages in place. The
    moving statistics of batch norms are not trained and have no averages.
    """

    def __init__(self) -> None:
        super().__init__()
        self.back = keras.callbacks.LambdaCallback(on_epoch_end=self._put_back)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        variables = self.model.trainable_variables
        self._trained = progress.take(variables)
        self.model.optimizer.finalize_variable_values(variables)
        # In JAX both now share their memory, which validation may give away: keep copies instead.
        progress.put(progress.take(variables), variables)

    def _put_back(self, epoch: int, logs: Any = None) -> None:
        progress.put(self._trained, self.model.trainable_variables)


def averages(phase: params.Phase) -> list[keras.callbacks.Callback]:
    """Return the two callbacks between which a phase's weights are averages; none without."""
    if phase.average is None:
        return []
    first = Averages()
    return [first, first.back]


def restoring(phase: params.Phase) -> keras.callbacks.EarlyStopping | None:
    """Return the callback that restores the best epoch's weights and never stops a phase.

    If epochs tie, the first is the best. The callback's ``best_epoch`` is counted from 0. It is
    separate from :func:`stopping`, which may monitor another metric and has a ``min_delta``.
    """
    if phase.restore is None:
        return None
    return keras.callbacks.EarlyStopping(
        monitor=phase.restore,
        mode=MODES[phase.restore],
        patience=phase.epochs,  # never reached: at most epochs - 1 follow the best one
        restore_best_weights=True,
    )


def stopping(phase: params.Phase) -> list[keras.callbacks.Callback]:
    """Return the callbacks for a phase's ``plateau`` and ``early_stopping``, where they are set."""
    chosen: list[keras.callbacks.Callback] = []
    if phase.plateau is not None:
        plateau = keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss", mode="min", factor=phase.plateau.factor,
            patience=phase.plateau.patience, min_lr=phase.plateau.min_learning_rate,
        )  # fmt: skip
        chosen.append(plateau)
    if phase.early_stopping is not None:
        monitor = phase.early_stopping.monitor
        early = keras.callbacks.EarlyStopping(
            monitor=monitor, mode=MODES[monitor], patience=phase.early_stopping.patience,
            min_delta=phase.early_stopping.min_delta,
        )  # fmt: skip
        chosen.append(early)
    return chosen
