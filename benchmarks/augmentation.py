"""Images per second of the article's augmentation: ImageDataGenerator, Keras's random layers, ours.

    python -m benchmarks.augmentation

All three get the same random images and the ranges of ``systems.vgg16_transfer.augmentation`` in
params.yaml; ours includes drawing and composing the matrices. They take turns, and the fastest call
of each counts, because other processes slow them unequally. The first call is not timed.
"""

import argparse
import time
from collections.abc import Callable

import keras
import numpy as np
from keras import layers
from keras.src.legacy.preprocessing.image import ImageDataGenerator

from cxr import augment, params
from cxr.training import device

SYSTEM = "vgg16_transfer"
BATCH = 62


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
    layer, shape, steps = augment.AffineAugmentation(), images.shape[1:3], iter(range(10**9))

    def run() -> None:
        draws = augment.draw(ranges, shape, len(images), 0, "benchmark", 0, next(steps))
        maps = augment.transforms(augment.matrices(draws, shape))[:, :8]
        np.asarray(layer([images, maps]))

    return run


def seconds_of(run: Callable[[], None]) -> float:
    """Return the seconds that one call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    """Measure all candidates and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=224, help="side in pixels (224)")
    parser.add_argument("--rounds", type=int, default=8, help="calls of each, in turn (8)")
    arguments = parser.parse_args()

    ranges = params.load().system(SYSTEM).augmentation
    shape = (BATCH, arguments.size, arguments.size, 1)
    grey = np.random.default_rng(0).integers(0, 256, shape).astype("float32")
    rgb = np.repeat(grey, 3, axis=-1)
    runs = {
        f"{name}, {channels}": make(images, ranges)
        for name, make in {
            "ImageDataGenerator": image_data_generator,
            "five Keras random layers": random_layers,
            "one composed map (ours)": composed,
        }.items()
        for channels, images in {"grey": grey, "RGB": rgb}.items()
    }
    for run in runs.values():
        run()
    rounds = [{n: seconds_of(run) for n, run in runs.items()} for _ in range(arguments.rounds)]
    measured = {name: BATCH / min(seconds[name] for seconds in rounds) for name in runs}
    ours = measured["one composed map (ours), grey"]
    print(f"{device.find().name}, Keras {keras.version()} on {keras.backend.backend()}")
    print(f"{arguments.size} x {arguments.size}, batches of {BATCH}, float32\n")
    print(f"{'augmentation':<34}{'images/s':>10}{'ours, grey, is':>24}")
    for name, speed in measured.items():
        print(f"{name:<34}{speed:>10,.0f}{f'{ours / speed:.1f} times as fast':>24}")


if __name__ == "__main__":
    main()
