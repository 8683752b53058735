"""Saves the progress of a training, and restores it when a killed training resumes."""

import dataclasses
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from cxr import params
from cxr.errors import Stopped
from cxr.training import progress
from cxr.training.callbacks import Recorder
from cxr.training.checkpoint import Checkpoint
from cxr.training.interrupt import RESUME
from cxr.training.progress import Progress

log = logging.getLogger(__name__)


class Saver(keras.callbacks.Callback):
    """Saves the progress after epochs and, in long ones, between steps; stops if it is asked to.

    It must be the last callback of ``fit``: the others have then counted the epoch that it saves,
    and have reset themselves before it restores what they had counted.

    Args:
        checkpoint: where progress comes from and goes; None to save nothing.
        network: the whole network, which all phases share.
        recorder: collects the history; it gets the rows of the epochs that are done.
        phases: of the system, in their order.

    Attributes:
        progress: of the finished phases, and what is restored when ``fit`` starts.
        interrupt: set when the training has been asked to stop.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | None,
        network: keras.Model,
        recorder: Recorder,
        phases: Mapping[str, params.AnyPhase],
    ) -> None:
        super().__init__()
        self.checkpoint, self.network, self.recorder = checkpoint, network, recorder
        self.progress = Progress([], [], 0.0, [])
        self.interrupt = threading.Event()
        if checkpoint is not None and checkpoint.progress is not None:
            self.progress = checkpoint.progress
            progress.put(self.progress.network, network.variables)
            recorder.rows[:], recorder.seconds[:] = self.progress.rows, self.progress.durations
            log.info("resuming %s %s", checkpoint.system, _place(self.progress, phases))
        self._clock = time.perf_counter() - self.progress.seconds
        self._last_save = time.monotonic()

    def start_phase(
        self, name: str, epochs: int, steps: int, counting: Sequence[keras.callbacks.Callback]
    ) -> int:
        """Prepare for a phase and return how many steps of its next epoch are done.

        Args:
            name: of the phase.
            epochs: at most.
            steps: of an epoch.
            counting: the callbacks whose counters belong to the progress.
        """
        self.name, self.steps, self.counting = name, steps, list(counting)
        self.before = self.progress.epochs_before
        self.last = self.before + epochs
        self.skipped = self.progress.phase.step if self.progress.phase is not None else 0
        return self.skipped

    @property
    def has_ended(self) -> bool:
        """Whether the phase needs no further epoch."""
        return self.progress.phase is not None and self.progress.phase.ended

    def finish_phase(self, record: dict[str, Any]) -> None:
        """Save the progress between two phases; ``record`` is the part of train.json."""
        self.progress = dataclasses.replace(
            self._taken(),
            records=self.progress.records | {self.name: record},
            weights=self.progress.weights | {self.name: self.network.get_weights()},
        )
        self._save(self.progress)

    def on_train_begin(self, logs: Any = None) -> None:
        phase = self.progress.phase
        if phase is None:
            return
        progress.put(self.progress.network, self.network.variables)
        progress.put(phase.optimizer, self.model.optimizer.variables)
        for callback, counted, best in zip(self.counting, phase.counters, phase.best, strict=True):
            progress.set_counters(callback, counted, best)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        phase = self.progress.phase
        if phase is not None and self.skipped:
            # The metrics are those of the steps that are done. Keras has just reset them.
            progress.put(phase.metrics, self.model.metrics_variables)
            self.recorder.add_seconds(phase.seconds)

    # Not on_train_batch_end: with it Keras would wait for the metrics of every step.
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.interrupt.is_set() or (batch and self._is_late()):
            self._save(self._taken(self.skipped + batch))
            self._stop_if_asked(f", after {self.skipped + batch} of {self.steps} steps")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        done = len(self.recorder.rows)
        ended = self.model.stop_training or done == self.last
        rest, self.skipped = self.skipped, 0
        every = self.checkpoint.settings.every if self.checkpoint else 0
        if rest:  # Keras fits the rest of the phase in a second call, which starts from here
            self.progress = self._taken(0, ended)
            self._save(self.progress)
        elif self.checkpoint and (
            ended or self.interrupt.is_set() or (done - self.before) % every == 0 or self._is_late()
        ):
            self._save(self._taken(0, ended))
        self._stop_if_asked("")

    def _is_late(self) -> bool:
        if self.checkpoint is None:
            return False
        return time.monotonic() - self._last_save > 60 * self.checkpoint.settings.minutes

    def _taken(self, step: int | None = None, ended: bool = False) -> Progress:
        """Return the progress of this moment; without a step that between two phases."""
        phase = None
        if step is not None:
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()  # during an epoch the variables are elsewhere
            phase = progress.Phase(
                name=self.name, step=step, ended=ended,
                seconds=self.recorder.elapsed() if step else 0.0,
                optimizer=progress.take(self.model.optimizer.variables),
                metrics=progress.take(self.model.metrics_variables) if step else [],
                counters=[progress.counters(callback) for callback in self.counting],
                best=[progress.best_weights(callback) for callback in self.counting],
            )  # fmt: skip
        return dataclasses.replace(
            self.progress,
            rows=list(self.recorder.rows), durations=list(self.recorder.seconds),
            seconds=time.perf_counter() - self._clock,
            network=progress.take(self.network.variables), phase=phase,
        )  # fmt: skip

    def _save(self, taken: Progress) -> None:
        if self.checkpoint is not None:
            self.checkpoint.save(taken)
            self._last_save = time.monotonic()

    def _stop_if_asked(self, inside: str) -> None:
        if self.interrupt.is_set():
            epoch = len(self.recorder.rows) - self.before + bool(inside)
            raise Stopped(f"stopped at phase {self.name}, epoch {epoch}{inside}. {RESUME}")


def _place(done: Progress, phases: Mapping[str, params.AnyPhase]) -> str:
    """Return in words where a training resumes."""
    left = [name for name in phases if name not in done.records]
    if not left:
        return "after its last phase"
    if done.phase is not None and done.phase.ended:
        return f"after the last epoch of phase {left[0]}"
    phase = phases[left[0]]
    if isinstance(phase, params.LogisticRegression):
        return f"at phase {left[0]}"
    epoch = len(done.rows) - done.epochs_before + 1
    place = f"at phase {left[0]}, epoch {epoch} (of at most {phase.epochs})"
    steps = done.phase.step if done.phase is not None else 0
    return f"{place}, step {steps + 1}" if steps else place
