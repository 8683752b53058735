"""Images per second from the disk to the device, augmented; and what feeding costs a training.

    python -m benchmarks.feeding --archive kermany-224.zip

All candidates get the same images, 224 x 224, with the ranges of
``systems.vgg16_transfer.augmentation`` in params.yaml, in batches of 62: ours from the
memory-mapped cache that the preprocess stage writes; the others from JPEGs. ImageDataGenerator, in
RGB, is what the published article used.

Then training: steps on our batches, shuffled and augmented, against the same model fitted to one
constant batch that stays on the device, and against the model without augmentation on such a batch.
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import layers
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from PIL import Image

from benchmarks import measure, step
from cxr import augment, machine, params
from cxr.data import archive, image
from cxr.labels import CLASSES
from cxr.training import batches, device
from tools import phantom

SYSTEM = "vgg16_transfer"
SIZE, BATCH, IMAGES = 224, 62, 496
QUALITY = 90
# Every kind of change, whose cost does not depend on its range.
APPEARANCE = params.Appearance(
    blur=(0.5, 1.2), jpeg=(30, 89), unsharp=params.Unsharp(sigma=1.0, amount=(0.3, 1.0)),
    gamma=0.4, contrast=(0.7, 1.25), brightness=0.08,
)  # fmt: skip
OURS, ARTICLE = "ours: cache, one composed map", "ImageDataGenerator (the article)"
TRAINED = (
    step.Case("mobilenet_v2", "features", 24),
    step.Case("mobilenet_v2", "finetune", 24),
    step.Case("vgg16_transfer", "train", 2),
)
TOY = (step.Case("mobilenet_v2", "finetune", 2),)


def prepare(path: Path, folder: Path, count: int, size: int) -> None:
    """Write images of an archive, half of each class: JPEGs in class folders, and the cache."""
    pixels, labels = [], []
    with archive.open_zip(path) as opened:
        entries = archive.entries(opened)
        for label, name in enumerate(CLASSES):
            (folder / "jpegs" / name).mkdir(parents=True)
            chosen = [entry for entry in entries if entry.folder == name][: count // 2]
            for place, entry in enumerate(chosen):
                grey, _ = image.decode(archive.read(opened, entry.path))
                pixels.append(image.squash(grey, size))
                labels.append(label)
                jpeg = folder / "jpegs" / name / f"{place}.jpeg"
                Image.fromarray(pixels[-1]).save(jpeg, quality=QUALITY)
    np.save(folder / "images.npy", np.stack(pixels))
    np.save(folder / "labels.npy", labels)


def ours(folder: Path, ranges: params.Augmentation, batch: int, size: int) -> Callable[[], None]:
    """Our batches, and the layers that move their pixels as a part of the model."""
    pixels = np.load(folder / "images.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy")
    rows = np.arange(len(pixels))
    shuffled = batches.Shuffled(pixels, labels, rows, batch, None, ranges, None, 0, "benchmark")
    grey = keras.Input((size, size, 1), dtype="uint8")
    (_, transforms), _ = shuffled[0]
    transform = keras.Input(transforms.shape[1:])
    moved = augment.transform_images(grey, transform, ranges.appearance)
    model = keras.Model([grey, transform], moved)
    epochs = iter(range(10**9))

    def run() -> None:
        shuffled.start_epoch(next(epochs))
        for place in range(len(shuffled)):
            model.predict_on_batch(shuffled[place][0])

    return run


def article(folder: Path, ranges: params.Augmentation, batch: int, size: int, mode: str) -> Any:
    """Return the article's batches, from the JPEGs in class folders.

    Args:
        folder: from :func:`prepare`.
        ranges: of the augmentation.
        batch: images per batch.
        size: the side in pixels.
        mode: ``rgb`` or ``grayscale``.
    """
    return ImageDataGenerator(
        rotation_range=ranges.rotation,
        width_shift_range=ranges.width_shift,
        height_shift_range=ranges.height_shift,
        shear_range=ranges.shear,
        zoom_range=ranges.zoom,
        horizontal_flip=ranges.horizontal_flip,
        fill_mode="nearest",
    ).flow_from_directory(
        folder / "jpegs", (size, size), mode, batch_size=batch, class_mode="binary", seed=0
    )


def image_data_generator(
    folder: Path, ranges: params.Augmentation, batch: int, size: int, threads: int = 1
) -> Callable[[], None]:
    """The article's way: decode, then SciPy image by image; Keras's default is one thread."""
    generator = article(folder, ranges, batch, size, "rgb")

    def run() -> None:
        generator.on_epoch_end()
        with ThreadPoolExecutor(threads) as pool:
            for images, _ in pool.map(generator.__getitem__, range(len(generator))):
                keras.ops.convert_to_tensor(images)

    return run


def image_dataset(
    folder: Path, ranges: params.Augmentation, batch: int, size: int
) -> Callable[[], None]:
    """Keras's successor: a tf.data pipeline, and a chain of random layers in it."""
    import tensorflow as tf

    turn, shear = ranges.rotation / 360, ranges.shear / 360
    chain = keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(turn, fill_mode="nearest"),
            layers.RandomTranslation(ranges.height_shift, ranges.width_shift, "nearest"),
            layers.RandomShear(shear, shear, fill_mode="nearest"),
            layers.RandomZoom(ranges.zoom, ranges.zoom, "nearest"),
        ]
    )
    dataset = keras.utils.image_dataset_from_directory(
        folder / "jpegs", label_mode="binary", batch_size=batch, image_size=(size, size), seed=0,
        verbose=False,
    )  # fmt: skip
    dataset = dataset.map(lambda x, y: (chain(x, training=True), y), tf.data.AUTOTUNE)
    return exhausting(dataset.prefetch(tf.data.AUTOTUNE))


def tf_data(folder: Path, ranges: params.Augmentation, batch: int, size: int) -> Callable[[], None]:
    """A pipeline written by hand: grey JPEGs in parallel, then our composed map."""
    import tensorflow as tf

    paths = sorted(map(str, (folder / "jpegs").rglob("*.jpeg")))
    draws = augment.draw(ranges, (size, size), len(paths), 0, "benchmark")
    maps = augment.transforms(augment.matrices(draws, (size, size)))
    layer = augment.AffineAugmentation()

    def decode(path: Any, one: Any) -> tuple[Any, Any]:
        return tf.io.decode_jpeg(tf.io.read_file(path), channels=1), one

    dataset = tf.data.Dataset.from_tensor_slices((paths, maps[:, :8]))
    dataset = dataset.shuffle(len(paths)).map(decode, tf.data.AUTOTUNE).batch(batch)
    dataset = dataset.map(lambda x, one: layer([x, one]), tf.data.AUTOTUNE)
    return exhausting(dataset.prefetch(tf.data.AUTOTUNE))


def exhausting(dataset: Any) -> Callable[[], None]:
    """Return what takes all batches of a tf.data pipeline."""

    def run() -> None:
        for _ in dataset:
            pass

    return run


def loading(path: Path | None, rounds: int, toy: bool) -> list[dict[str, Any]]:
    """Measure images per second without a model."""
    count, batch, size = (16, 8, 48) if toy else (IMAGES, BATCH, SIZE)
    ranges = params.load().system(SYSTEM).augmentation
    with tempfile.TemporaryDirectory(prefix="feeding-") as temporary:
        folder = Path(temporary)
        if path is None:
            path = folder / "phantoms.zip"
            phantom.write_archive(path, 0, 2 * count, (size, size + 32))
        prepare(path, folder, count, size)
        given = (folder, ranges, batch, size)
        cores = machine.cores()
        runs = {OURS: ours(*given), ARTICLE: image_data_generator(*given)}
        if cores > 1:
            runs[f"ImageDataGenerator, {cores} threads"] = image_data_generator(*given, cores)
        changing = ranges.model_copy(update={"appearance": APPEARANCE})
        runs["ours, and the appearance changed"] = ours(folder, changing, batch, size)
        runs["image_dataset_from_directory, five random layers"] = image_dataset(*given)
        runs["tf.data, grey, one composed map"] = tf_data(*given)
        seconds = measure.paired(runs, rounds)
    return [
        {
            "what": "disk to device",
            "how": name,
            "images/s": count / median,
            "ours is": f"{measure.ratio(seconds, name, OURS):.1f} times as fast",
        }
        for name, median in measure.medians(seconds).items()
    ]


def training(cases: tuple[step.Case, ...], rounds: int, arguments: Any) -> list[dict[str, Any]]:
    """Measure training on our batches against training on one constant batch."""
    settings, rows = params.load(), []
    for case in cases:
        runs, clocks, images = {}, {}, 0
        initial = step.initial_weights(settings, case, arguments.weights)
        ways = (step.AS_TRAINED, step.RESIDENT, step.CONSTANT)
        for way in ways:
            trained, system = step.network_of(settings, case, way, initial, arguments.toy)
            runs[way.name], clocks[way.name] = step.fitting(trained, system, case, way)
            images = case.steps * system.batch_size
        measure.paired(runs, rounds)
        seconds = {name: clock.seconds[1:] for name, clock in clocks.items()}
        for name, median in measure.medians(seconds).items():
            share = measure.ratio(seconds, name, step.AS_TRAINED.name)
            rows.append(
                {
                    "what": f"training of {case.system}, {case.phase}",
                    "how": name,
                    "images/s": images / median,
                    "ours is": f"{share:.1%} of it",
                }
            )
        keras.backend.clear_session()
    return rows


def main() -> None:
    """Measure feeding alone, then within trainings."""
    parser = measure.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="calls of each, in turn (4)")
    arguments = parser.parse_args()
    toy, rounds = arguments.toy, 1 if arguments.toy else arguments.rounds
    device.keep_memory(device.find())
    rows = loading(arguments.archive, rounds, toy)
    speeds = {row["how"]: row["images/s"] for row in rows}
    rows += training(TOY if toy else TRAINED, rounds, arguments)
    measure.write(
        "feeding", "Feeding", measure.command(), pd.DataFrame(rows),
        [
            f"Images are {'X-rays' if arguments.archive else 'phantoms'}, saved as grey JPEGs of "
            f"quality {QUALITY}.",
            "ImageDataGenerator and image_dataset_from_directory decode to RGB; the others feed "
            "grey, which the network repeats to three channels.",
        ],
        measure.bars(speeds, "images/s, disk to device", OURS), toy,
    )  # fmt: skip


if __name__ == "__main__":
    main()
