"""What a training shows: a progress bar in a terminal, and a line for each epoch in the log."""

import logging
from typing import Any

import keras
from tqdm import tqdm

from cxr.training.batches import Shuffled
from cxr.training.callbacks import Recorder

log = logging.getLogger(__name__)
SHOWN = ("loss", "val_loss", "val_auc", "shifted_loss")  # the last only where a phase has it


class Display(keras.callbacks.Callback):
    """Shows the epochs of one phase.

    The bar counts the steps that have begun and shows no metric, which would have to be copied from
    the device after every step. Close it when ``fit`` ends, however it ends.

    Args:
        phase: name of the phase.
        epochs: of the phase, at most.
        before: the number of epochs of earlier phases.
        batches: that the phase trains on.
        recorder: comes before this callback in the list, so that it has the epoch that ends.
    """

    def __init__(
        self, phase: str, epochs: int, before: int, batches: Shuffled, recorder: Recorder
    ) -> None:
        super().__init__()
        self.phase, self.epochs, self.before = phase, epochs, before
        self.batches, self.recorder = batches, recorder
        self._bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._title = f"phase {self.phase}, epoch {epoch + 1 - self.before}"
        self._bar = tqdm(
            total=self.batches.steps, initial=self.batches.skipped, desc=self._title, unit="step",
            leave=False, disable=None,
        )  # fmt: skip

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._bar.update(self.batches.skipped + batch - self._bar.n)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.close()
        row, seconds = self.recorder.rows[-1], self.recorder.seconds[-1]
        metrics = ", ".join(f"{name} {row[name]:.4f}" for name in SHOWN if name in row)
        log.info("%s (of at most %d): %.1f s, %s", self._title, self.epochs, seconds, metrics)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()
