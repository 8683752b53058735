"""X-rays a second from full-resolution JPEGs to 224 x 224 grey: decoders, and ``preprocess``.

    python -m benchmarks.decoding --archive kermany-fullres-120.zip --weights weights

Each decoder reads the same bytes from memory, one process per core, and each is measured twice:
decoding alone, and with Pillow's bilinear resize after it. "Scaled" decodes at 1/2, 1/4 or 1/8 of
the size (scaled DCT) with at least twice 224 pixels left; `preprocess` does not, because a cached
image would then depend on how much larger its file is. It decodes with Pillow, which reads the
other formats too: a faster decoder, for JPEGs alone, would save a tenth of a stage that takes less
than half a minute for 5,856 originals. The last row is all that the stage does:
it reads the zip, checks the SHA-256, decodes, resizes, and writes the cache and contact sheet, in
one thread per core. Differences are those of grey values at 224 from decoding at full size. If the
archive's images are no larger than 224, phantoms are measured.

With ``--weights``, a logistic regression on MobileNetV2's features says whether the difference
matters: fitted without the image's patient, it gets each image decoded both ways. Memory is that of
the stage's process.
"""

import io
import itertools
import multiprocessing
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import util
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.stats import spearmanr

from benchmarks import measure, project
from cxr import machine, params
from cxr.data import archive, image, manifest, tensors
from cxr.files import bytes_sha256
from tools import phantom

PREPROCESS = "preprocess (ours)"
FULL = "Pillow, full size"
MARGIN = 2  # with 1, a grey value of an X-ray changes by up to 82
COPIES = 5  # of the archive in one timed run, so that a run takes a second
MORE = 10  # times as many images for the second look at memory

Decode = Callable[[bytes], Any]


def pillow(scale: int | None) -> Decode:
    """Pillow, which brings libjpeg-turbo."""

    def decode(data: bytes) -> Any:
        opened = Image.open(io.BytesIO(data))
        if scale is not None:
            opened.draft(None, (scale, scale))
        return np.asarray(opened.convert("L"))

    return decode


def simplejpeg(scale: int | None) -> Decode:
    """simplejpeg, which calls libjpeg-turbo's own interface."""
    import simplejpeg as library

    least = scale or 0

    def decode(data: bytes) -> Any:
        return library.decode_jpeg(data, "GRAY", min_height=least, min_width=least)[..., 0]

    return decode


def opencv(scale: int | None) -> Decode:
    """OpenCV; its reduction is part of the call, so the size is looked up in the header."""
    import cv2

    flags = {
        8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 1: cv2.IMREAD_GRAYSCALE,
    }  # fmt: skip

    def decode(data: bytes) -> Any:
        fits = 1
        if scale is not None:
            fits = min(Image.open(io.BytesIO(data)).size) // scale
        flag = next((flags[by] for by in flags if by <= fits), cv2.IMREAD_GRAYSCALE)
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag)

    return decode


LIBRARIES = {
    "Pillow": ("PIL", pillow), "simplejpeg": ("simplejpeg", simplejpeg), "OpenCV": ("cv2", opencv)
}  # fmt: skip


def decoders(size: int) -> dict[str, Decode | None]:
    """Return each candidate's function; None where its library is not installed."""
    found: dict[str, Decode | None] = {}
    for name, (module, make) in LIBRARIES.items():
        for way, scale in {"full size": None, "scaled": MARGIN * size}.items():
            installed = util.find_spec(module) is not None
            found[f"{name}, {way}"] = make(scale) if installed else None
    return found


_work: tuple[Decode, list[bytes]]  # what the processes of in_processes do


def _share(start: int, step: int) -> None:
    decode, files = _work
    for data in itertools.islice(files, start, None, step):
        decode(data)


@contextmanager
def in_processes(decode: Decode, files: list[bytes]) -> Iterator[Callable[[], None]]:
    """Yield a function that decodes all files, on all cores, and drops the pixels."""
    global _work
    _work = decode, files
    cores = machine.cores()
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        yield lambda: pool.starmap(_share, [(core, cores) for core in range(cores)], 1)


def repeated(path: Path, target: Path, times: int) -> None:
    """Write an archive of the same images ``times`` times, under new names."""
    with archive.open_zip(path) as opened, zipfile.ZipFile(target, "w") as written:
        for copy, entry in itertools.product(range(times), archive.entries(opened)):
            name = PurePosixPath(entry.path)
            named = name.with_stem(f"{name.stem}-{copy}") if copy else name
            written.writestr(str(named), archive.read(opened, entry.path))


def stage(path: Path, size: int, folder: Path) -> Callable[[], None]:
    """Return a function that runs what the stage ``preprocess`` does for an archive."""
    table = manifest.build(path, 0.0)[0].assign(split="train")
    settings = params.Tensors(resize="squash")
    return lambda: tensors.build(path, table, size, settings, folder)


def steps(path: Path, size: int) -> str:
    """Say how long each step of the stage takes, in one thread."""
    seconds = dict.fromkeys(("reading the zip", "SHA-256", "decoding", "resizing"), 0.0)

    def step(name: str, work: Callable[..., Any], *given: Any) -> Any:
        begun = time.perf_counter()
        made = work(*given)
        seconds[name] += time.perf_counter() - begun
        return made

    with archive.open_zip(path) as opened:
        entries = archive.entries(opened)
        for entry in entries:
            data = step("reading the zip", archive.read, opened, entry.path)
            step("SHA-256", bytes_sha256, data)
            grey, _ = step("decoding", image.decode, data)
            step("resizing", image.squash, grey, size)
    parts = ", ".join(
        f"{name} {took / sum(seconds.values()):.0%}" for name, took in seconds.items()
    )
    return f"Of the time of preprocess in one thread: {parts}."


def memory(path: Path, size: int, folder: Path) -> float:
    """Run the stages up to ``preprocess`` in a copy and return the megabytes of the last one."""
    settings = project.copy(folder)
    settings["source"] = str(path)
    settings["split"]["protocol"] = "image"  # the copies of an image are one group otherwise
    for split, name in itertools.product(("val", "test"), ("NORMAL", "PNEUMONIA")):
        settings["split"][split][name] = 2
    project.save(folder, settings)
    project.stage(folder, "download")
    project.stage(folder, "split")
    return project.stage(folder, "preprocess", str(size)).megabytes


def probabilities(
    path: Path, whole: np.ndarray, scaled: np.ndarray, weights: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the labels, and the probabilities of the images decoded in full and scaled."""
    import keras
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = manifest.build(path, 0.0)[0]
    labels, patients = table["label"].to_numpy(), table["patient"].to_numpy()
    network = keras.applications.MobileNetV2(include_top=False, weights=None, pooling="avg")
    network.load_weights(weights)
    features = [
        network.predict(np.repeat(each[..., None] / 127.5 - 1, 3, axis=-1), 32, verbose=0)
        for each in (whole, scaled)
    ]
    found = np.zeros((2, len(labels)))
    for train, test in StratifiedGroupKFold(5).split(features[0], labels, patients):
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        fitted.fit(features[0][train], labels[train])
        for row, given in zip(found, features, strict=True):
            row[test] = fitted.predict_proba(given[test])[:, 1]
    return labels, found[0], found[1]


def matters(path: Path, whole: np.ndarray, scaled: np.ndarray, weights: Path) -> str:
    """Say how the probabilities of :func:`probabilities` differ."""
    from sklearn.metrics import roc_auc_score

    labels, before, after = probabilities(path, whole, scaled, weights)
    change = np.abs(after - before)
    return (
        f"Logistic regression on MobileNetV2's features of {len(labels)} X-rays, five folds by "
        f"patient: AUC {roc_auc_score(labels, before):.4f} decoded at full size and "
        f"{roc_auc_score(labels, after):.4f} scaled; a probability changes by at most "
        f"{change.max():.3f} ({change.mean():.4f} on average); rank correlation "
        f"{spearmanr(before, after)[0]:.4f}; {int(((before < 0.5) != (after < 0.5)).sum())} change "
        "sides at 0.5."
    )


def difference(squares: np.ndarray, whole: np.ndarray) -> dict[str, float]:
    """Return the columns of the table that compare pixels."""
    change = np.abs(squares.astype(int) - whole)
    return {
        "mean difference": float(change.mean()),
        "greatest": int(change.max()),
        "pixels over 2, %": float(100 * (change > 2).mean()),
    }


def timed(
    candidates: dict[str, Decode], files: list[bytes], size: int, run: Callable[[], None],
    rounds: int,
) -> dict[str, list[float]]:  # fmt: skip
    """Return the seconds of each candidate, without and with a resize, and of the stage."""
    runs: dict[str, Callable[[], None]] = {PREPROCESS: run}
    pools = []
    for name, decode in candidates.items():
        for label, work in (
            (name, decode),
            (f"{name}, resized", lambda data, decode=decode: image.squash(decode(data), size)),
        ):
            pools.append(in_processes(work, files))
            runs[label] = pools[-1].__enter__()
    try:
        return measure.paired(runs, rounds)
    finally:
        for pool in pools:
            pool.__exit__(None, None, None)


def source(path: Path | None, size: int, toy: bool, folder: Path) -> tuple[Path, str]:
    """Return the archive to measure and what it holds; phantoms if its images are too small."""
    if path is not None:
        with archive.open_zip(path) as opened:
            first = archive.read(opened, archive.entries(opened)[0].path)
        if min(image.decode(first)[0].shape) > size:
            return path, "X-rays"
    phantoms = folder / "phantoms.zip"
    phantom.write_archive(phantoms, 0, 30, (100, 200) if toy else (800, 1800))
    return phantoms, "phantoms"


def notes(
    seconds: dict[str, list[float]], candidates: Sequence[str], count: int, megabytes: list[float]
) -> list[str]:
    """Return what the table means."""
    middle = measure.medians(seconds)
    whole = [name for name in candidates if name.endswith("full size")]
    best = min(candidates, key=middle.__getitem__)
    best_resized = min((f"{name}, resized" for name in whole), key=middle.__getitem__)
    scaled = min((f"{name}, resized" for name in candidates), key=middle.__getitem__)
    shares = {
        f"the best decoder alone ({best})": best,
        f"the best with a resize ({scaled.removesuffix(', resized')})": scaled,
        f"the best at full size with a resize ({best_resized.removesuffix(', resized')})": (
            best_resized
        ),
        "what it calls itself, Pillow at full size and a resize": f"{FULL}, resized",
    }
    share = "; ".join(
        f"{measure.ratio(seconds, key, PREPROCESS):.0%} of {what}" for what, key in shares.items()
    )
    return [
        f"preprocess reaches {share}.",
        f"Memory of the stage: {megabytes[0]:.0f} MB with {count} images, {megabytes[1]:.0f} MB "
        f"with {MORE * count}.",
    ]


def main() -> None:
    """Measure all candidates in turn."""
    arguments = measure.parser(__doc__).parse_args()
    size, rounds, copies = (24, 1, 1) if arguments.toy else (224, 7, COPIES)
    with tempfile.TemporaryDirectory(prefix="decoding-") as temporary:
        folder = Path(temporary)
        path, what = source(arguments.archive, size, arguments.toy, folder)
        with archive.open_zip(path) as opened:
            data = [archive.read(opened, entry.path) for entry in archive.entries(opened)]
        repeated(path, folder / "timed.zip", copies)
        known = decoders(size)
        candidates = {name: decode for name, decode in known.items() if decode is not None}
        files = data * copies
        run = stage(folder / "timed.zip", size, folder / "cache")
        seconds = timed(candidates, files, size, run, rounds)
        squares = {
            name: np.stack([image.squash(decode(each), size) for each in data])
            for name, decode in candidates.items()
        }
        megabytes = []
        for times in (1, MORE):
            repeated(path, folder / f"{times}.zip", times)
            copy = folder / f"project-{times}"
            megabytes.append(memory(folder / f"{times}.zip", size, copy))
        remarks = [
            f"{len(data)} {what}, {np.mean([len(each) for each in data]) / 1000:.0f} kB each."
        ]
        remarks.append(steps(folder / "timed.zip", size))
        remarks += notes(seconds, list(candidates), len(data), megabytes)
        weights = measure.weights(arguments.weights, "mobilenet_v2")
        if weights is not None and what == "X-rays":
            remarks.append(matters(path, squares[FULL], squares["Pillow, scaled"], weights))
        remarks += [f"{name}: not installed." for name, decode in known.items() if decode is None]
    middle = measure.medians(seconds)
    rows = [
        {
            "decoder": name,
            "images/s, decoding alone": len(files) / middle[name],
            "images/s, with a resize": len(files) / middle[f"{name}, resized"],
        }
        | difference(squares[name], squares[FULL])
        for name in candidates
    ]
    rows.append({"decoder": PREPROCESS, "images/s, with a resize": len(files) / middle[PREPROCESS]})
    speeds = {row["decoder"]: row["images/s, with a resize"] for row in rows}
    measure.write(
        "decoding", "From JPEG to the cache", measure.command(), pd.DataFrame(rows), remarks,
        measure.bars(speeds, "images/s, with a resize", PREPROCESS), arguments.toy,
    )  # fmt: skip


if __name__ == "__main__":
    main()
