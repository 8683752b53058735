"""Seconds that a checkpoint takes, as a share of an epoch of one minute.

    python -m benchmarks.checkpoint

Each system of params.yaml that trains by gradient descent is taken at its image size, in the phase
that trains most. The variables of the network and of the optimizer, and the weights of a best
epoch, are copied and saved to a new file that is flushed to the disk. Median of the saves.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pandas as pd

from benchmarks import measure
from cxr import params
from cxr.models import freezing, network
from cxr.training import checkpoint, device, progress

MINUTE = 60


def largest(settings: params.Params, name: str) -> Callable[[], progress.Progress]:
    """Return what takes the progress of a system, in the phase that trains most."""
    system = settings.system(name)
    above = any(p.trainable == "above_freeze_blocks" for p in system.phases.values())
    system = freezing.resolve(system, settings.freeze_blocks if above else None)
    model = network.build(system)

    def trained(phase: params.Phase) -> int:
        freezing.set_trainable(model, system, phase)
        return freezing.parameter_counts(model)["trainable"]

    trained(max(system.phases.values(), key=trained))
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    best = model.get_weights()

    def take() -> progress.Progress:
        phase = progress.Phase(
            name="train", step=0, ended=False, seconds=0.0,
            optimizer=progress.take(optimizer.variables), metrics=[], counters=[{}], best=[best],
        )  # fmt: skip
        return progress.Progress([], [], 0.0, progress.take(model.variables), phase)

    return take


def saved(settings: params.Params, name: str, saves: int) -> dict[str, Any]:
    """Save a system's checkpoint some times, and return its row of the table."""
    take, seconds = largest(settings, name), []
    with (
        tempfile.TemporaryDirectory(dir=".", prefix=".checkpoint-") as folder,
        checkpoint.opened(name, {}, settings.training.checkpoint, Path(folder)) as kept,
    ):
        for _ in range(saves):
            began = time.perf_counter()
            kept.save(take())
            seconds.append(time.perf_counter() - began)
        size = (kept.folder / checkpoint.PROGRESS).stat().st_size
    keras.backend.clear_session()
    median = statistics.median(seconds)
    share = f"{median / MINUTE:.1%}"
    return {"system": name, "MB": size / 1e6, "seconds": median, "of a minute": share}


def main() -> None:
    """Measure every system."""
    parser = measure.parser(__doc__)
    parser.add_argument("--saves", type=int, default=7, help="of each system (7)")
    arguments = parser.parse_args()
    device.keep_memory(device.find())
    settings = params.load()
    trained = [
        name
        for name, system in settings.systems.items()
        if any(isinstance(phase, params.Phase) for phase in system.phases.values())
    ]
    names, saves = (["cnn"], 1) if arguments.toy else (trained, arguments.saves)
    table = pd.DataFrame([saved(settings, name, saves) for name in names])
    measure.write(
        "checkpoint", "Cost of checkpoints", measure.command(), table,
        ["On a slow disk, raise `training.checkpoint.every`."],
        measure.bars(dict(table[["system", "seconds"]].to_numpy()), "seconds per checkpoint"),
        arguments.toy,
    )  # fmt: skip


if __name__ == "__main__":
    main()
