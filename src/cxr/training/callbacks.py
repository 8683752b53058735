"""Callbacks: what is recorded of each epoch, and which epoch's weights are restored."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from cxr.errors import InputError

MODES = {"val_loss": "min", "val_accuracy": "max"}  # which way a monitored figure gets better
OnEpoch = Callable[[int, Mapping[str, float]], None]


class Keeper(keras.callbacks.Callback):
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


class Recorder(keras.callbacks.Callback):
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
