"""Training VGG16 (``vgg16_transfer``) on a GPU: seconds an epoch, and the share of its matrix rate.

    KERAS_BACKEND=jax python -m benchmarks.gpu --archive kermany-224.zip --weights folder

The same model, 224 x 224, is fed by our batches, shuffled and augmented; by one constant batch,
without augmentation; and by ImageDataGenerator, which decodes JPEGs and augments them as the
published article did. An epoch has 4,756 images; one of that article took 80 s. The matrix rate is
what a product of two matrices reaches on the same device and in the same precision.

Without a GPU it measures nothing, unless ``--steps`` is given; the result is then not recorded.
"""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from benchmarks import feeding, measure, step
from cxr import augment, params
from cxr.training import batches, callbacks, descent, device
from tools import phantom

CASE = step.Case("vgg16_transfer", "train", 1)
EPOCH = 4756  # images
BATCHES = (62, 124, 248)
OURS, CONSTANT, ARTICLE = "our batches", "one constant batch", "ImageDataGenerator"


class Constant(keras.utils.PyDataset):
    """One batch, on the device, again and again."""

    def __init__(self, batch: Any, steps: int) -> None:
        super().__init__()
        self.batch, self.steps = keras.tree.map_structure(keras.ops.convert_to_tensor, batch), steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, place: int) -> Any:
        return self.batch


def fitting(model: keras.Model, system: params.System, data: Any) -> tuple[Any, step.Clock]:
    """Return what fits an epoch on some batches, and the clock that times it."""
    model = keras.Model(model.input, model.output)  # with functions of its own to train
    descent.compile_model(model, system.phases[CASE.phase].learning_rate, system.head.output)
    model.optimizer.build(model.trainable_variables)
    clock = step.Clock()

    def run() -> None:
        used = callbacks.MetricsPerEpoch([clock], add_history=True, model=model)
        model.fit(data, epochs=1, shuffle=False, callbacks=used, verbose=0)

    return run, clock


def feeds(folder: Path, system: params.System, steps: int, article: bool) -> dict[str, Any]:
    """Return the batches of each way of feeding; ImageDataGenerator's where asked for."""
    images, labels = (np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("images", "labels"))
    rows = np.resize(np.arange(len(images)), steps * system.batch_size)
    given = (images, labels, rows, system.batch_size, None)
    found = {OURS: batches.Shuffled(*given, system.augmentation, steps, 0, CASE.phase)}
    plain = batches.Shuffled(*given, None, steps, 0, CASE.phase)
    found[CONSTANT] = Constant(plain[0], steps)
    if article:
        shape = (system.batch_size, images.shape[1])
        # In grey, because the model takes grey images.
        found[ARTICLE] = feeding.article(folder, system.augmentation, *shape, "grayscale")
    return found


def measured(
    policy: str,
    data: dict[str, Any],
    trained: keras.Model,
    system: params.System,
    rate: float,
    rounds: int,
) -> list[dict[str, Any]]:
    """Return the rows of one precision and batch size.

    Args:
        policy: Keras dtype policy of the network.
        data: from :func:`feeds`.
        trained: the network.
        system: with the batch size.
        rate: that of matrices, in operations per second.
        rounds: timed epochs of each.
    """
    whole = augment.with_transforms(trained)
    fits = {n: fitting(whole if n == OURS else trained, system, d) for n, d in data.items()}
    measure.paired({name: run for name, (run, _) in fits.items()}, rounds)
    images = {name: len(each) * system.batch_size for name, each in data.items()}
    per_image = {n: [s / images[n] for s in clock.seconds[1:]] for n, (_, clock) in fits.items()}
    operations = step.flop_of_step(trained)
    return [
        {
            "precision": policy,
            "batch": system.batch_size,
            "fed by": name,
            "images/s": 1 / median,
            "s an epoch": EPOCH * median,
            "of the matrix rate": f"{operations / median / rate:.0%}",
            "of the constant batch": f"{measure.ratio(per_image, CONSTANT, name):.0%}",
        }
        for name, median in measure.medians(per_image).items()
    ]


def main() -> None:
    """Measure each precision and batch size."""
    parser = measure.parser(__doc__)
    parser.add_argument("--steps", type=int, help="of an epoch (76); also measures without a GPU")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=BATCHES, help="sizes (62 124 248)"
    )
    arguments = parser.parse_args()
    toy, hardware = arguments.toy, device.find()
    device.keep_memory(hardware)
    if hardware.kind != "gpu" and not toy and arguments.steps is None:
        print(f"{hardware.name} is no GPU: not measured. --steps 1 shows that it runs")
        return
    size, sizes, side = (48, (2,), 64) if toy else (feeding.SIZE, arguments.batches, step.SIDE)
    steps = 2 if toy else arguments.steps or EPOCH // BATCHES[0]
    settings, rows = params.load(), []
    initial = step.initial_weights(settings, CASE, arguments.weights)
    policies = {"float32": "float32"} if toy else device.POLICIES
    with tempfile.TemporaryDirectory(prefix="gpu-") as temporary:
        folder, count = Path(temporary), min(steps * sizes[0], feeding.IMAGES)
        path = arguments.archive
        if path is None:
            path = folder / "phantoms.zip"
            phantom.write_archive(path, 0, max(24, 2 * count), (size, size + 32))
        feeding.prepare(path, folder, count, size)
        for (kind, policy), batch in itertools.product(policies.items(), sizes):
            multiply = measure.paired({kind: step.peak(kind, side)}, 5)
            rate = 2 * side**3 / measure.medians(multiply)[kind]
            way = step.Way(policy=policy)
            trained, system = step.network_of(settings, CASE, way, initial, toy)
            system = system.model_copy(update={"batch_size": batch})
            data = feeds(folder, system, steps, article=batch == sizes[0])
            rows += measured(policy, data, trained, system, rate, 1 if toy else 3)
            keras.backend.clear_session()
    measure.write(
        "gpu", "Training on a GPU", measure.command(), pd.DataFrame(rows),
        [f"{hardware.name}, Keras on {keras.backend.backend()}; epochs of {steps} steps."],
        None, toy or hardware.kind != "gpu",
    )  # fmt: skip


if __name__ == "__main__":
    main()
