"""A training step of each system: images per second, and the share of the machine's peak.

    python -m benchmarks.step

The steps are those of Keras's ``fit``, with our batches of random images. ``as trained`` is what
the pipeline does. Each row below it changes one thing: Keras's own list of callbacks with its
progress bar, which reads every metric after every step; several steps per execution; bfloat16; one
constant batch on the device, without augmentation; the same with XLA, which cannot compile
TensorFlow's affine map.

The forward pass alone is compared with OpenVINO, and with JAX in a process of its own, where they
are installed. The peak is what a product of two 4,096 x 4,096 matrices reaches.
"""

import dataclasses
import importlib.util
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from benchmarks import measure
from cxr import augment, params
from cxr.models import freezing, network, weights
from cxr.training import batches, callbacks, descent, device


@dataclasses.dataclass(frozen=True)
class Case:
    """A phase of a system, and how many steps one call fits."""

    system: str
    phase: str
    steps: int


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to train a phase."""

    name: str = "as trained"
    policy: str = "float32"
    jit_compile: bool | str = "auto"
    steps_per_execution: int = 1
    keras_callbacks: bool = False
    constant: bool = False
    augmented: bool = True


AS_TRAINED = Way()
RESIDENT = Way("one constant batch", constant=True)
CONSTANT = Way("one constant batch, not augmented", constant=True, augmented=False)
XLA = Way(f"{CONSTANT.name}, XLA", constant=True, augmented=False, jit_compile=True)
BFLOAT16 = Way("mixed_bfloat16", policy="mixed_bfloat16")
READ = Way("Keras's callbacks and progress bar", keras_callbacks=True)
SEVERAL = Way("4 steps per execution", steps_per_execution=4)
CASES = {
    Case("mobilenet_v2", "finetune", 4): (AS_TRAINED, READ, SEVERAL, BFLOAT16, CONSTANT, XLA),
    Case("vgg16_transfer", "train", 2): (AS_TRAINED, BFLOAT16, CONSTANT, XLA),
    Case("vgg16_gap", "features", 100): (AS_TRAINED, READ, SEVERAL, CONSTANT, XLA),
    Case("vgg16_gap", "finetune", 8): (AS_TRAINED, READ, SEVERAL, CONSTANT, XLA),
    Case("cnn", "clean", 8): (AS_TRAINED, READ, SEVERAL, CONSTANT, XLA),
}
TOY = {Case("cnn", "clean", 2): (AS_TRAINED, READ, SEVERAL, CONSTANT)}
COLUMNS = ("what", "how", "batch", "ms", "images/s", "times as long", "GFLOP/s", "of the peak")
FORWARD = {"mobilenet_v2": "mobilenet_v2", "vgg16": "vgg16_gap"}  # a system of each backbone
BATCH = 32  # images of a forward pass
SIDE = 4096  # of the matrices that measure the peak


class Clock(keras.callbacks.Callback):
    """The seconds of each epoch, without what ``fit`` does before and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self.began)


def toy_sized(system: params.System) -> params.System:
    """Return a system with small images and batches."""
    return system.model_copy(update={"image_size": 48, "batch_size": 2})


def initial_weights(
    settings: params.Params, case: Case, folder: Path | None
) -> weights.Arrays | None:
    """Return a backbone's weights from the folder of ``--weights``; None for random ones."""
    path = measure.weights(folder, settings.system(case.system).backbone)
    return None if path is None else weights.read(path)


def network_of(
    settings: params.Params, case: Case, way: Way, initial: weights.Arrays | None, toy: bool
) -> tuple[keras.Model, params.System]:
    """Return the part of a system's network that a phase trains, and the system."""
    system = settings.system(case.system)
    above = any(p.trainable == "above_freeze_blocks" for p in system.phases.values())
    system = freezing.resolve(system, settings.freeze_blocks if above else None)
    system = toy_sized(system) if toy else system
    model = network.build(system, initial, way.policy)
    freezing.set_trainable(model, system, system.phases[case.phase])
    trained = network.with_head_output(model)
    if system.augmentation is None:
        parts = freezing.feature_extractor(trained)
        trained = trained if parts is None else parts[1]
    return trained, system


def fitting(
    trained: keras.Model, system: params.System, case: Case, way: Way
) -> tuple[Callable[[], None], Clock]:
    """Return what fits an epoch of ``case.steps`` steps, and the clock that times it."""
    shape = trained.input_shape[1:]
    count = case.steps * system.batch_size
    draws = np.random.default_rng(0)
    if len(shape) == 3 and shape[-1] == 1:  # X-rays; otherwise frozen features
        inputs = draws.integers(0, 256, (count, *shape[:2]), "uint8")
    else:
        inputs = draws.random((count, *shape), "float32")
    labels = np.arange(count) % 2
    augmentation = system.augmentation if way.augmented else None
    shuffled = batches.Shuffled(
        inputs, labels, np.arange(count), system.batch_size, None, augmentation, None, 0, case.phase
    )
    data: Any = shuffled
    if way.constant:
        import tensorflow as tf

        constant = tf.nest.map_structure(tf.constant, shuffled[0])
        data = tf.data.Dataset.from_tensors(constant).repeat(case.steps)
    model = keras.Model(trained.input, trained.output)  # with functions of its own to train
    if shuffled.with_transforms:
        model = augment.with_transforms(model, shuffled.appearance)
    descent.compile_model(model, system.phases[case.phase].learning_rate, system.head.output)
    model.jit_compile = model.jit_compile if way.jit_compile == "auto" else way.jit_compile
    model.steps_per_execution = way.steps_per_execution
    model.optimizer.build(model.trainable_variables)
    clock = Clock()
    class_weights = None
    if system.class_weights and not way.constant:
        class_weights = {0: 1.1, 1: 0.9}

    def run() -> None:
        used: Any = [clock]
        if not way.keras_callbacks:
            used = callbacks.MetricsPerEpoch(used, add_history=True, model=model)
        with redirect_stdout(io.StringIO()):
            model.fit(
                data, epochs=1, shuffle=False, callbacks=used, class_weight=class_weights,
                verbose=1 if way.keras_callbacks else 0,
            )  # fmt: skip

    return run, clock


def flop(model: keras.Model) -> int:
    """Return the floating-point operations of a forward pass of one image.

    Each position of a layer's output multiplies and adds each entry of its kernel once: 2 x kernel
    x positions, for convolutions, depthwise ones, and dense layers. Everything else (biases, batch
    norms, activations, pooling) is left out; it is 1 % of VGG16. A multiply-add counts as two.
    """
    return sum(_flop(layer) for layer in model.layers)


def flop_of_step(model: keras.Model) -> int:
    """Return the floating-point operations of a training step, for one image.

    The forward pass; for each trained layer as much again for the gradient of its kernel; and for
    each layer after the first trained one as much again for the gradient of its input.
    """
    total, reached = 0, False
    for layer in model.layers:
        trained = bool(layer.trainable_weights)
        total += (1 + trained + reached) * _flop(layer)
        reached = reached or trained
    return total


def _flop(layer: keras.layers.Layer) -> int:
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
        return 0
    return 2 * math.prod(kernel.shape) * math.prod(layer.output.shape[1:-1])


def peak(dtype: str, side: int) -> Callable[[], object]:
    """Return what multiplies two matrices on the device."""
    draws = np.random.default_rng(0).random((side, side), "float32")
    matrix = keras.ops.cast(keras.ops.convert_to_tensor(draws), dtype)
    return lambda: float(keras.ops.cast(keras.ops.matmul(matrix, matrix)[0, 0], "float32"))


def predicting(system: params.System, policy: str = "float32") -> tuple[Callable[[], object], int]:
    """Return what predicts a batch with Keras's backend, and the operations of one image."""
    model = network.build(system, precision=policy)
    images = np.zeros((BATCH, *model.input_shape[1:]), "uint8")
    return lambda: model.predict_on_batch(images), flop(model)


def openvino_of(system: params.System, precision: str) -> Callable[[], object]:
    """Return what predicts a batch with the model that Keras exports to OpenVINO."""
    import openvino

    model = network.build(system)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.xml"
        model.export(str(path), format="openvino", verbose=False)
        compiled = openvino.Core().compile_model(
            path, "CPU", {"INFERENCE_PRECISION_HINT": precision}
        )
    images = np.zeros((BATCH, *model.input_shape[1:]), "uint8")
    return lambda: compiled([images])


def with_jax(name: str, rounds: int, toy: bool) -> list[float]:
    """Return the seconds of forward passes with JAX, in a process of its own."""
    code = (
        "import json; from benchmarks import measure, step; from cxr import params; "
        f"system = params.load().system({name!r}); "
        f"run, _ = step.predicting(step.toy_sized(system) if {toy} else system); "
        f"print(json.dumps(measure.paired({{'jax': run}}, {rounds})['jax']))"
    )
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def row(
    what: str, how: str, images: int, seconds: float, flop: int | None = None
) -> dict[str, Any]:
    """Return a row of the table: ``seconds`` of a batch of ``images``, ``flop`` of one image."""
    found = {"what": what, "how": how, "batch": images, "ms": 1000 * seconds}
    found |= {"images/s": images / seconds, "times as long": None}
    return found | {"GFLOP/s": None if flop is None else images * flop / seconds / 1e9}


def steps(
    settings: params.Params, cases: Mapping[Case, tuple[Way, ...]], arguments: Any, rounds: int
) -> list[dict[str, Any]]:
    """Measure the training steps."""
    rows = []
    for case, ways in cases.items():
        runs, clocks, images, operations = {}, {}, 1, 0
        initial = initial_weights(settings, case, arguments.weights)
        for way in ways:
            trained, system = network_of(settings, case, way, initial, arguments.toy)
            runs[way.name], clocks[way.name] = fitting(trained, system, case, way)
            images, operations = system.batch_size, flop_of_step(trained)
        measure.paired(runs, rounds)
        seconds = {name: clock.seconds[1:] for name, clock in clocks.items()}
        for name, median in measure.medians(seconds).items():
            what = f"{case.system}, step of {case.phase}"
            rows.append(row(what, name, images, median / case.steps, operations))
            rows[-1]["times as long"] = measure.ratio(seconds, name, AS_TRAINED.name)
        keras.backend.clear_session()
    return rows


def forward(
    settings: params.Params, systems: Mapping[str, str], rounds: int, toy: bool
) -> list[dict[str, Any]]:
    """Measure the forward passes; a peer that is not installed has no figures."""
    rows = []
    backend = keras.backend.backend()
    for backbone, name in systems.items():
        system = settings.system(name)
        system = toy_sized(system) if toy else system
        runs: dict[str, Callable[[], object]] = {}
        for policy in device.POLICIES.values():
            runs[f"{backend}, {policy}"], operations = predicting(system, policy)
        peers = {f"openvino, {kind}": kind for kind in ("f32", "bf16")}
        if importlib.util.find_spec("openvino"):
            runs |= {label: openvino_of(system, kind) for label, kind in peers.items()}
        seconds = measure.paired(runs, rounds)
        if importlib.util.find_spec("jax"):
            seconds["jax, float32"] = with_jax(name, rounds, toy)
        what = f"{backbone}, forward pass"
        for label, median in measure.medians(seconds).items():
            rows.append(row(what, label, BATCH, median, operations))
            rows[-1]["times as long"] = measure.ratio(seconds, label, next(iter(runs)))
        missing = [label for label in (*peers, "jax, float32") if label not in seconds]
        rows += [{"what": what, "how": f"{label}: not installed"} for label in missing]
    return rows


def main() -> None:
    """Measure the peak, the forward passes and the training steps."""
    parser = measure.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="calls of each, in turn (3)")
    arguments = parser.parse_args()
    toy, rounds = arguments.toy, 1 if arguments.toy else arguments.rounds
    hardware = device.find()
    device.keep_memory(hardware)
    settings, side = params.load(), 64 if toy else SIDE
    peaks = {kind: peak(kind, side) for kind in ("float32", "bfloat16")}
    medians = measure.medians(measure.paired(peaks, 2 * rounds))
    top = {kind: 2 * side**3 / seconds / 1e9 for kind, seconds in medians.items()}
    what = "product of matrices (peak)"
    rows: list[dict[str, Any]] = [
        {"what": what, "how": kind, "ms": 1000 * medians[kind], "GFLOP/s": top[kind]}
        for kind in peaks
    ]
    rows += forward(settings, {"cnn": "cnn"} if toy else FORWARD, rounds, toy)
    rows += steps(settings, TOY if toy else CASES, arguments, rounds)
    for each in rows:
        reached = each.get("GFLOP/s")
        kind = "bfloat16" if "bf" in each["how"] else "float32"
        each["of the peak"] = None if reached is None else f"{reached / top[kind]:.0%}"
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"batch": "Int64"})
    measure.write(
        "step", "Training step", measure.command(), table,
        [
            f"Keras's backend is {keras.backend.backend()} on a {hardware.kind}. `times as long` "
            "compares with the first row of the same phase or network.",
            "OpenVINO's default precision on this kind of processor may be bf16; both are given.",
        ],
        None, toy,
    )  # fmt: skip


if __name__ == "__main__":
    main()
