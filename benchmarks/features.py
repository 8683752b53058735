"""Ten epochs of a head on frozen features, through DVC: from a cold start, again, and uncached.

    python -m benchmarks.features --archive kermany-224.zip --weights folder

In a temporary clone, with images and weights in place, ``dvc repro train@<system>`` computes the
frozen features and trains; then ``dvc exp run`` trains with another learning rate. Phases after
``features`` are left out, and no training stops early. ``probe`` is measured once: its only phase
is a logistic regression.

Uncached, the whole network sees every image in each epoch. A system without augmentation gets one
whose ranges are zero for it: new maps in each step, all of them the identity. It trains
``--uncached`` epochs, and their seconds are scaled to ten. Test AUCs are compared with a cached
training of as many epochs.
"""

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import measure, project
from cxr import files, models
from cxr.data import cache
from cxr.evaluation import metrics
from cxr.training import batches
from tools import phantom

SYSTEMS = ("mobilenet_v2", "vgg16_gap", "probe")
PHASE = "features"
NO_MAPS = {
    "rotation": 0, "width_shift": 0, "height_shift": 0, "shear": 0, "zoom": 0,
    "horizontal_flip": False, "views": 0,
}  # fmt: skip


class Clone:
    """A clone of the project in which a benchmark trains one system.

    Args:
        folder: empty.
        system: its name.
        arguments: of the command line.
    """

    def __init__(self, folder: Path, system: str, arguments: argparse.Namespace) -> None:
        self.folder, self.system, self.epochs = folder, system, 1 if arguments.toy else 10
        self.settings = project.copy(folder)
        self.chosen = self.settings["systems"][system]
        self.settings["source"] = str(archive(folder, arguments))
        self.chosen["weights"] = str(
            project.weights(folder, self.chosen["backbone"], arguments.weights)
        )
        for name in list(self.chosen["phases"]):
            if name not in (PHASE, "probe"):
                del self.chosen["phases"][name]
        if arguments.archive is None:
            number = phantoms(arguments)
            counts = {"NORMAL": number * 3 // 40, "PNEUMONIA": number * 6 // 40}
            self.settings["split"] |= {"val": counts, "test": dict(counts)}
        if arguments.toy:
            self.chosen |= {"image_size": 32, "batch_size": 4}
        self.pipeline()
        project.run(folder, "git", "init", "--quiet")
        project.run(folder, "git", "add", ".")
        for key, value in {"name": "benchmark", "email": "benchmark@example.org"}.items():
            project.run(folder, "git", "config", f"user.{key}", value)  # DVC commits, too
        project.run(folder, "git", "commit", "--quiet", "-m", "benchmark")
        self.dvc("repro", f"preprocess@{self.chosen['image_size']}", f"weights@{system}")

    def pipeline(self) -> None:
        """Leave DVC the one system, whose phases have changed."""
        path = self.folder / "dvc.yaml"
        stages = project.read(path)
        size = f"${{systems.{self.system}.image_size}}"
        stages["stages"]["preprocess"]["foreach"] = [size]
        for name in ("features", "train"):
            item = stages["stages"][name]["foreach"][self.system]
            first, *_ = self.chosen["phases"]
            stages["stages"][name]["foreach"] = {
                self.system: item | {"first": first, "last": first}
            }
        del stages["stages"]["audit"]  # of the probe, which is left out
        self.settings["systems"] = {self.system: self.chosen}
        project.write(path, stages)
        project.save(self.folder, self.settings)

    def dvc(self, *command: str) -> float:
        """Run a DVC command and return its seconds."""
        return project.run(self.folder, "dvc", *command).seconds

    def train(self, augmentation: dict[str, Any] | None, epochs: int) -> float:
        """Train for some epochs with ``dvc repro`` and return its seconds."""
        self.chosen["augmentation"] = augmentation
        phase = self.chosen["phases"][PHASE]
        phase |= {"epochs": epochs, "early_stopping": None}
        project.save(self.folder, self.settings)
        return self.dvc("repro", f"train@{self.system}")

    def again(self) -> float:
        """Train with another learning rate with ``dvc exp run`` and return its seconds."""
        key = f"systems.{self.system}.phases.{PHASE}.learning_rate"
        rate = self.chosen["phases"][PHASE]["learning_rate"] / 2
        return self.dvc("exp", "run", "-S", f"{key}={rate}", f"train@{self.system}")

    def auc(self) -> float:
        """Return the AUC of the trained system on the test set."""
        tensors = self.folder / "tensors" / str(self.chosen["image_size"])
        images, index = cache.open_cache(tensors)
        rows = np.flatnonzero(index["split"] == "test")
        model = models.load(self.folder / "models" / self.system)
        found = batches.predict(model, images, rows, 50)[:, 0]
        return metrics.auc(index["label"].to_numpy()[rows], found) or 0.0

    def epoch(self) -> float:
        """Return the median seconds of an epoch of the last training."""
        path = self.folder / "models" / self.system / "provenance.json"
        return float(np.median(files.read_json(path)["training"]["seconds_per_epoch"]))


def phantoms(arguments: argparse.Namespace) -> int:
    """Return how many phantoms there are where no archive is given."""
    return 40 if arguments.toy else 300


def archive(folder: Path, arguments: argparse.Namespace) -> Path:
    """Return the archive of the command line, or one of phantoms."""
    if arguments.archive:
        return arguments.archive.resolve()
    path = folder.parent / "phantoms.zip"
    if not path.is_file():
        sides = {"size_range": (32, 64)} if arguments.toy else {}
        phantom.write_archive(path, 1, phantoms(arguments), **sides)
    return path


def cached(clone: Clone, images: str, augmentation: Any) -> dict[str, Any]:
    """Train a system from a cold start and again; return its row of the table.

    Args:
        clone: of the system.
        images: what the training images are.
        augmentation: one with which the frozen part is computed once; None for none.
    """
    cold = clone.train(augmentation, clone.epochs)
    auc = f"{clone.auc():.4f}"
    found = {"system": clone.system, "training images": images, "AUC": auc, "cold, s": cold}
    return found | {"another learning rate, s": clone.again()}


def uncached(clone: Clone, augmentation: Any, once: Any, epochs: int) -> dict[str, Any]:
    """Train a system with new maps in each step; return the rest of its row of the table.

    Args:
        clone: of the system.
        augmentation: without views.
        once: that of the cached training.
        epochs: how many the system trains.
    """
    clone.train(once, epochs)
    auc = clone.auc()
    seconds = clone.train(augmentation, epochs)
    seconds += (clone.epochs - epochs) * clone.epoch()
    difference = f"AUC after {epochs} epoch(s), uncached - cached"
    return {"uncached, s": seconds, difference: f"{clone.auc() - auc:+.4f}"}


def measured(system: str, folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of a system."""
    clone = Clone(folder, system, arguments)
    if system == "probe":
        cold = clone.dvc("repro", "train@probe")
        auc = f"{clone.auc():.4f}"
        return [{"system": system, "training images": "as they are", "cold, s": cold, "AUC": auc}]
    published = clone.chosen["augmentation"]
    ways = {"as they are": (None, NO_MAPS)}
    if published is not None:
        ways["2 views of each"] = (dict(published) | {"views": 2}, dict(published) | {"views": 0})
    if arguments.toy:
        return [cached(clone, "2 views of each", ways["2 views of each"][0])]
    return [
        cached(clone, images, once) | uncached(clone, always, once, arguments.uncached)
        for images, (once, always) in ways.items()
    ]


def main() -> None:
    """Measure the systems one after another."""
    parser = measure.parser(__doc__)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--uncached", type=int, default=1, help="epochs of the uncached way (1)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="features-") as temporary:
        table = pd.DataFrame(
            itertools.chain.from_iterable(
                measured(system, Path(temporary) / system, arguments)
                for system in (SYSTEMS[:1] if arguments.toy else arguments.systems)
            )
        )
    seconds = [name for name in table if str(name).endswith(", s")]
    bars = {
        f"{line['system']}, {line['training images']}: {name[:-3]}": line[name]
        for line in table.to_dict("records")
        for name in seconds
        if pd.notna(line[name])
    }
    data = "phantoms" if arguments.archive is None else "X-rays"
    initial = "random" if arguments.weights is None else "ImageNet"
    measure.write(
        "features", "Frozen features", measure.command(), table,
        [f"{data.capitalize()}; {initial} weights; AUC on the test set."],
        measure.bars(bars, "seconds"), arguments.toy,
    )  # fmt: skip


if __name__ == "__main__":
    main()
