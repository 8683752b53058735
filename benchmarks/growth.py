"""Time and memory of the stages with 1, 4 and 16 times as many X-rays: straight lines, flat memory?

    python -m benchmarks.growth --archive kermany-224.zip

Each stage runs in a process of its own, in a temporary copy of the project. So that 93,696 images
take minutes, they are 64 x 64 in the archive and 48 x 48 in the cache, and the networks are small:
``features`` runs MobileNetV2 and ``train`` one epoch of ``cnn``, both from random weights;
``evaluate`` predicts every image and resamples the patients of the test set. Repeated images get
new names, and with them new ids and patients, and are shifted by some pixels, because equal pixels
would join their patients in one group. Validation and test sets grow with the set.
"""

import io
import itertools
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from benchmarks import measure, project
from cxr.data import archive, image, patient
from cxr.report import style
from tools import phantom

SIDE, SIZE = 64, 48  # pixels in the archive and in the cache
REAL = 5856
TIMES = (1, 4, 16)
STAGES = (
    ("split",), ("preprocess", str(SIZE)), ("features", "mobilenet_v2"), ("train", "cnn"),
    ("shift", "cnn"), ("evaluate", "cnn"),
)  # fmt: skip


def originals(path: Path) -> list[tuple[str, np.ndarray]]:
    """Return the path and the pixels, uint8 [SIDE, SIDE], of every X-ray of an archive."""
    with archive.open_zip(path) as opened:
        return [
            (entry.path, image.squash(image.decode(archive.read(opened, entry.path))[0], SIDE))
            for entry in tqdm(archive.entries(opened), "reading X-rays", disable=None)
        ]


def renamed(path: str, copy: int) -> str:
    """Return the path of an image's copy: the number of its patient gets more digits."""
    if not copy:
        return path
    whole = PurePosixPath(path)
    for pattern in patient.NAMES:
        match = pattern.match(whole.stem)
        if match is not None:
            end = match.end("number")
            return str(whole.with_name(f"{whole.name[:end]}{copy:06d}{whole.name[end:]}"))
    return str(whole.with_stem(f"{whole.stem}-{copy}"))


def write(path: Path, images: list[tuple[str, np.ndarray]], count: int) -> None:
    """Write an archive of ``count`` images: all of ``images``, again and again."""
    with zipfile.ZipFile(path, "w") as opened:
        for place in tqdm(range(count), "writing X-rays", disable=None):
            copy, original = divmod(place, len(images))
            name, pixels = images[original]
            shifted = np.roll(pixels, divmod(copy, SIDE), axis=(0, 1))
            stream = io.BytesIO()
            Image.fromarray(shifted).save(stream, "JPEG", quality=75)
            opened.writestr(renamed(name, copy), stream.getvalue())


def prepare(folder: Path, images: list[tuple[str, np.ndarray]], count: int) -> None:
    """Make a copy of the project with ``count`` images, and write its archive with ``download``."""
    settings = project.copy(folder)
    write(folder / "xrays.zip", images, count)
    settings["source"] = "xrays.zip"
    for split, name in itertools.product(("val", "test"), ("NORMAL", "PNEUMONIA")):
        share = settings["split"][split][name] / REAL
        settings["split"][split][name] = max(2, round(share * count))
    frozen, small = (settings["systems"][name] for name in ("mobilenet_v2", "cnn"))
    # A file of random weights: the features stage leaves out networks that have no file.
    weights = folder.parent / "mobilenet_v2.weights.h5"
    frozen |= {"image_size": SIZE, "augmentation": None, "weights": str(weights)}
    small |= {"image_size": SIZE, "batch_size": min(64, count // 2)}
    small["phases"].pop("perturbed")
    small["phases"]["clean"] |= {"epochs": 1, "steps_per_epoch": None}
    project.save(folder, settings)
    project.stage(folder, "download")


def measured(folder: Path, stage: tuple[str, ...]) -> project.Usage:
    """Run a stage in a copy of the project and return what it used, without what it depends on."""
    match stage:
        case ("features", system):
            project.weights(folder, system, None)
            project.stage(folder, "weights", system)
        case ("train", system):
            project.stage(folder, "weights", system)
            project.stage(folder, "features", system)  # says that a random network has none
    return project.stage(folder, *stage)


def row(stage: str, counts: list[int], used: list[project.Usage]) -> dict[str, Any]:
    """Return a stage's row of the table.

    The line goes through the smallest and the largest set; ``off the line`` is how much longer the
    set between them takes.
    """
    seconds = [one.seconds for one in used]
    slope = (seconds[-1] - seconds[0]) / max(counts[-1] - counts[0], 1)
    middle = len(counts) // 2
    line = seconds[0] + slope * (counts[middle] - counts[0])
    found: dict[str, Any] = {"stage": stage}
    found |= {f"s at {count:,}": value for count, value in zip(counts, seconds, strict=True)}
    found |= {"ms an image": 1000 * slope, "off the line": f"{seconds[middle] / line - 1:+.0%}"}
    return found | {
        f"MB at {count:,}": one.megabytes for count, one in zip(counts, used, strict=True)
    }


def plot(counts: list[int], usages: dict[str, list[project.Usage]]) -> Figure:
    """Draw seconds and memory against images, with a straight line from the first to the last."""
    with style.style():
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        for axes, attribute in zip(figure.subplots(1, 2), ("seconds", "megabytes"), strict=True):
            for name, colour in style.colours(usages).items():
                values = [getattr(one, attribute) for one in usages[name]]
                axes.plot(counts, values, "o", color=colour, label=name)
                ends = [0, -1]
                axes.plot([counts[e] for e in ends], [values[e] for e in ends], color=colour)
            axes.set(xlabel="images", ylabel=attribute, xticks=counts, ylim=(0, None))
            axes.xaxis.set_major_formatter("{x:,.0f}")
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside upper left", ncols=len(usages)
        )
    return figure


def main() -> None:
    """Run every stage with each number of images."""
    arguments = measure.parser(__doc__).parse_args()
    counts = [30] if arguments.toy else [REAL * times for times in TIMES]
    stages = STAGES[:2] if arguments.toy else STAGES
    usages: dict[str, list[project.Usage]] = {" ".join(stage): [] for stage in stages}
    with tempfile.TemporaryDirectory(prefix="growth-") as temporary:
        path = arguments.archive
        if path is None:
            path = Path(temporary) / "phantoms.zip"
            phantom.write_archive(path, 0, 30 if arguments.toy else 300, (SIDE, 2 * SIDE))
        images = originals(path)
        for count in counts:
            folder = Path(temporary) / str(count)
            prepare(folder, images, count)
            for stage in stages:
                usages[" ".join(stage)].append(measured(folder, stage))
    measure.write(
        "growth", "Growth", measure.command(),
        pd.DataFrame([row(name, counts, used) for name, used in usages.items()]),
        [
            f"{len(images):,} {'X-rays' if arguments.archive else 'phantoms'}, repeated.",
            "Seconds include the start of the process, which a no-op would need as well.",
        ],
        plot(counts, usages), arguments.toy,
    )  # fmt: skip


if __name__ == "__main__":
    main()
