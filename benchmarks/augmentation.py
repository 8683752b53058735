"""Images per second of the article's augmentation: ImageDataGenerator, Keras's random layers, ours.

    python -m benchmarks.augmentation

All three get the same random images and the ranges of ``systems.vgg16_transfer.augmentation`` in
params.yaml; ours includes drawing and composing the matrices.
"""

import itertools
from collections.abc import Callable

import keras
import numpy as np
import pandas as pd
from keras import layers
from keras.src.legacy.preprocessing.image import ImageDataGenerator

from benchmarks import measure
from cxr import augment, params

SYSTEM = "vgg16_transfer"
OURS = "one composed map (ours)"


def image_data_generator(images: np.ndarray, ranges: params.Augmentation) -> Callable[[], None]:
    """The published systems' augmentation, which uses SciPy image by image."""
    generator = ImageDataGenerator(
        rotation_range=ranges.rotation,
        width_shift_range=ranges.width_shift,
        height_shift_range=ranges.height_shift,
        shear_range=ranges.shear,
        zoom_range=ranges.zoom,
        horizontal_flip=ranges.horizontal_flip,
        fill_mode="nearest",
    ).flow(images, batch_size=len(images))
    return lambda: next(generator)


def random_layers(images: np.ndarray, ranges: params.Augmentation) -> Callable[[], None]:
    """A chain of Keras's layers, each of which draws and interpolates."""
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
    return lambda: np.asarray(chain(images, training=True))


def composed(images: np.ndarray, ranges: params.Augmentation) -> Callable[[], None]:
    """Ours: one matrix and one interpolation per image."""
    layer, shape, steps = augment.AffineAugmentation(), images.shape[1:3], itertools.count()

    def run() -> None:
        draws = augment.draw(ranges, shape, len(images), 0, "benchmark", 0, next(steps))
        maps = augment.transforms(augment.matrices(draws, shape))[:, :8]
        np.asarray(layer([images, maps]))

    return run


def main() -> None:
    """Measure all candidates on grey and on RGB images."""
    parser = measure.parser(__doc__)
    parser.add_argument("--size", type=int, default=224, help="side in pixels (224)")
    parser.add_argument("--rounds", type=int, default=8, help="calls of each, in turn (8)")
    arguments = parser.parse_args()
    batch, size, rounds = (8, 32, 1) if arguments.toy else (62, arguments.size, arguments.rounds)

    ranges = params.load().system(SYSTEM).augmentation
    grey = np.random.default_rng(0).integers(0, 256, (batch, size, size, 1)).astype("float32")
    runs = {
        f"{name}, {channels}": make(images, ranges)
        for name, make in {
            "ImageDataGenerator": image_data_generator,
            "five Keras random layers": random_layers,
            OURS: composed,
        }.items()
        for channels, images in {"grey": grey, "RGB": np.repeat(grey, 3, axis=-1)}.items()
    }
    seconds = measure.paired(runs, rounds)
    speeds = {name: batch / median for name, median in measure.medians(seconds).items()}
    ours = f"{OURS}, grey"
    table = pd.DataFrame(
        {
            "augmentation": list(runs),
            "images/s": list(speeds.values()),
            "times as long as ours, grey": [measure.ratio(seconds, name, ours) for name in runs],
        }
    )
    notes = [f"{size} x {size} random images in batches of {batch}, on {keras.backend.backend()}."]
    measure.write(
        "augmentation", "Augmentation", measure.command(), table, notes,
        measure.bars(speeds, "images per second", ours), arguments.toy,
    )  # fmt: skip


if __name__ == "__main__":
    main()
