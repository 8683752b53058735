"""Seconds that a checkpoint takes, as a share of an epoch of one minute.

    python -m benchmarks.checkpoint

Each system of params.yaml is taken at its image size, in the phase that trains most. The variables
of the network and of the optimizer, and the weights of a best epoch, are copied and saved to a new
file that is flushed to the disk. Median of the saves.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras

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


def main() -> None:
    """Measure every system and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--saves", type=int, default=7, help="of each system (7)")
    arguments = parser.parse_args()
    hardware = device.find()
    device.keep_memory(hardware)
    settings = params.load()
    print(f"{hardware.name}, Keras {keras.version()} on {keras.backend.backend()}\n")
    print(f"{'system':<24}{'MB':>8}{'seconds':>10}{'of a minute':>14}")
    for name in settings.systems:
        take, seconds = largest(settings, name), []
        with (
            tempfile.TemporaryDirectory(dir=".", prefix=".checkpoint-") as folder,
            checkpoint.opened(name, {}, settings.training.checkpoint, Path(folder)) as kept,
        ):
            for _ in range(arguments.saves):
                began = time.perf_counter()
                kept.save(take())
                seconds.append(time.perf_counter() - began)
            size = (kept.folder / checkpoint.PROGRESS).stat().st_size
        median = statistics.median(seconds)
        print(f"{name:<24}{size / 1e6:>8,.0f}{median:>10.2f}{median / MINUTE:>14.1%}", flush=True)
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
