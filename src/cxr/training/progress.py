"""How far a training has come: all state that its next step depends on, taken and put back."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

# What Keras's early stopping and plateau count from epoch to epoch. Their on_train_begin resets it.
# The learning rate that a plateau lowered is a variable of the optimizer.
COUNTERS = ("best", "wait", "best_epoch", "cooldown_counter")


@dataclasses.dataclass(frozen=True)
class Phase:
    """The state of the phase under way.

    Attributes:
        name: of the phase.
        step: how many steps of the epoch that follows the last row of the history are done.
        ended: whether the phase needs no further epoch.
        seconds: what those steps took.
        optimizer: its variables.
        metrics: their variables, if ``step`` is not 0; each epoch resets them.
        counters: of each callback, by :data:`COUNTERS`.
        best: of each callback, the weights of the best epoch; empty where it keeps none.
    """

    name: str
    step: int
    ended: bool
    seconds: float
    optimizer: list[np.ndarray]
    metrics: list[np.ndarray]
    counters: list[dict[str, Any]]
    best: list[list[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        rows: of the history, one per epoch.
        durations: seconds of each epoch.
        seconds: of the whole training.
        network: the variables of the network: its weights, and the states of the seed generators of
            dropout, which ``get_weights`` leaves out.
        phase: the phase under way; None between two phases.
        records: of each finished phase, its part of train.json.
        weights: after each finished phase, as ``get_weights`` returns them.
    """

    rows: list[dict[str, Any]]
    durations: list[float]
    seconds: float
    network: list[np.ndarray]
    phase: Phase | None = None
    records: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    weights: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)

    @property
    def epochs_before(self) -> int:
        """The number of epochs of the finished phases."""
        return sum(record["epochs"] for record in self.records.values())

    def split(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what is JSON, and the arrays by a name, from which :meth:`join` restores them."""
        lists = {"network": self.network}
        lists |= {f"weights/{name}": arrays for name, arrays in self.weights.items()}
        if self.phase is not None:
            lists |= {"optimizer": self.phase.optimizer, "metrics": self.phase.metrics}
            lists |= {f"best/{place}": arrays for place, arrays in enumerate(self.phase.best)}
        about = {
            "rows": self.rows,
            "durations": self.durations,
            "seconds": self.seconds,
            "records": self.records,
            "lengths": {name: len(arrays) for name, arrays in lists.items()},
            "phase": self.phase and {
                name: getattr(self.phase, name)
                for name in ("name", "step", "ended", "seconds", "counters")
            },
        }  # fmt: skip
        arrays = {
            f"{name}/{place}": array
            for name, arrays in lists.items()
            for place, array in enumerate(arrays)
        }
        return about, arrays

    @classmethod
    def join(cls, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> "Progress":
        """Return the progress that :meth:`split` took apart.

        Raises:
            KeyError: a part is missing.
        """
        lists = {
            name: [arrays[f"{name}/{place}"] for place in range(length)]
            for name, length in about["lengths"].items()
        }
        phase = about["phase"] and Phase(
            **about["phase"],
            optimizer=lists["optimizer"],
            metrics=lists["metrics"],
            best=[lists[f"best/{place}"] for place in range(len(about["phase"]["counters"]))],
        )
        return cls(
            rows=about["rows"],
            durations=about["durations"],
            seconds=about["seconds"],
            network=lists["network"],
            phase=phase or None,
            records=about["records"],
            weights={name: lists[f"weights/{name}"] for name in about["records"]},
        )


def take(variables: Sequence[Any]) -> list[np.ndarray]:
    """Return the values of Keras variables."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def put(values: Sequence[np.ndarray], variables: Sequence[Any]) -> None:
    """Set Keras variables to the values that :func:`take` returned."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def counters(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Return what a callback counts, as JSON."""
    found = {name: getattr(callback, name) for name in COUNTERS if hasattr(callback, name)}
    return {name: value if value is None else _number(value) for name, value in found.items()}


def set_counters(
    callback: keras.callbacks.Callback, counted: Mapping[str, Any], best: Sequence[np.ndarray]
) -> None:
    """Set what :func:`counters` and :func:`best_weights` returned."""
    for name, value in counted.items():
        setattr(callback, name, value)
    if best:
        callback.best_weights = list(best)


def best_weights(callback: keras.callbacks.Callback) -> list[np.ndarray]:
    """Return the weights of the best epoch that a callback will restore; empty if it has none."""
    return list(getattr(callback, "best_weights", None) or [])


def _number(value: Any) -> int | float:
    return value if isinstance(value, int) else float(value)
