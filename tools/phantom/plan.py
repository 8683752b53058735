"""Which files the archive holds: their names, their patients, and Kermany's traps."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cxr.errors import InputError
from cxr.seeding import generator
from tools.phantom.patient import Kind, Patient

Official = Literal["train", "test"]

IMAGES = 300
MIN_IMAGES = 24  # with fewer, a subtype would be missing from the official test part
NORMAL_SHARE = 0.27  # 1,583 of Kermany's 5,856 images
BACTERIA_SHARE = 0.65  # 2,780 of Kermany's 4,273 images with pneumonia
TEST_SHARE = 0.15
RGB_SHARE = 0.02
MAX_IMAGES_A_PATIENT = 6


@dataclass(frozen=True)
class ImageFile:
    """One file of the archive.

    Attributes:
        path: Path in the archive, in Kaggle's layout.
        patient: Whose body is drawn. The copy in the duplicate pair carries another patient's
            name in `path`, but the same body here.
        image: Number of the image among the patient's.
        mode: "L" or "RGB" (three equal channels).
        official: "train" or "test", as in the path.
    """

    path: str
    patient: Patient
    image: int
    mode: Literal["L", "RGB"]
    official: Official


def files(seed: int = 0, images: int = IMAGES) -> list[ImageFile]:
    """Return the files that the archive holds; nothing is drawn.

    Args:
        seed: 0 or more; another seed gives other patients and other names.
        images: Number of files, MIN_IMAGES or more.

    Returns:
        The files, sorted by path. Both official parts hold both classes and both subtypes, the
        two classes hold RGB files, and one pair of files shares body and image.

    Raises:
        InputError: Where `images` is too small or `seed` is negative.
    """
    if images < MIN_IMAGES:
        message = f"images must be {MIN_IMAGES} or more, so that every kind is there; got {images}"
        raise InputError(message)
    if seed < 0:
        message = f"seed must be 0 or more, got {seed}"
        raise InputError(message)
    rng = generator(seed, "phantom", "plan")
    files = _normal_files(rng, seed, images) + _pneumonia_files(rng, seed, images)
    return sorted(_with_rgb(rng, files), key=lambda file: file.path)


def _quotas(images: int) -> dict[tuple[Kind, Official], int]:
    """Number of files of each kind in each official part."""
    normal = round(NORMAL_SHARE * images)
    bacteria = round(BACTERIA_SHARE * (images - normal))
    totals: dict[Kind, int] = {
        "normal": normal,
        "bacteria": bacteria,
        "virus": images - normal - bacteria,
    }
    quotas: dict[tuple[Kind, Official], int] = {}
    for kind, total in totals.items():
        test = max(1, round(TEST_SHARE * total))
        quotas[kind, "train"], quotas[kind, "test"] = total - test, test
    return quotas


def _images_a_patient(rng: Generator, quota: int) -> list[int]:
    """Split a quota over patients: most have one image, the first and some others several."""
    most = min(MAX_IMAGES_A_PATIENT, max(2, quota // 3))
    counts: list[int] = []
    while (left := quota - sum(counts)) > 0:
        several = not counts or rng.random() < 0.3
        counts.append(min(left, int(rng.integers(2, most + 1)) if several else 1))
    return counts


def _normal_files(rng: Generator, seed: int, images: int) -> list[ImageFile]:
    """Files of healthy patients, with the pair of pixel-equal files in the train part.

    As in Kermany's set, the numbers after `IM-` and `NORMAL2-IM-` overlap: other patients.
    """
    quotas, files = _quotas(images), []
    numbers = iter(_spread(rng, images, 9).tolist())
    parts: list[tuple[Official, list[int]]] = [
        ("train", _images_a_patient(rng, quotas["normal", "train"] - 2)),
        ("test", _images_a_patient(rng, quotas["normal", "test"])),
    ]
    number = 0
    for official, counts in parts:
        for index, count in enumerate(counts):
            second = index % 2 == 1
            number = number if second and index % 6 == 1 else next(numbers)
            patient = Patient("normal", f"{'NORMAL2-' if second else ''}IM-{number:04d}", seed)
            files += [
                ImageFile(
                    _normal_path(patient.name, official, image, index, count),
                    patient,
                    image,
                    "L",
                    official,
                )
                for image in range(count)
            ]
    number = next(numbers)
    twin = Patient("normal", f"NORMAL2-IM-{number:04d}", seed)
    # `_spread` leaves the next number free. Kermany's pair is NORMAL2-IM-0095 and NORMAL2-IM-0096
    for name in (twin.name, f"NORMAL2-IM-{number + 1:04d}"):
        files.append(ImageFile(_normal_path(name, "train", 0, 0, 1), twin, 0, "L", "train"))
    return files


def _spread(rng: Generator, count: int, step: int) -> NDArray[np.int64]:
    """Rising numbers from 1 with random gaps of 2 to `step`."""
    return np.cumsum(rng.integers(2, step + 1, size=count)) - 1


def _normal_path(name: str, official: Official, image: int, index: int, count: int) -> str:
    """Path of a healthy patient's image; some patients' images carry two trailing numbers."""
    if count == 1:
        tail = "0001"
    elif index % 3 == 0:
        tail = f"0001-{image + 1:04d}"
    else:
        tail = f"{image + 1:04d}"
    return f"chest_xray/{official}/NORMAL/{name}-{tail}.jpeg"


def _pneumonia_files(rng: Generator, seed: int, images: int) -> list[ImageFile]:
    """Files of sick patients; some person numbers name one patient of each germ."""
    quotas, files = _quotas(images), []
    people = rng.permutation(_spread(rng, 2 * images, 6)).tolist()
    bacterial: list[int] = []
    for kind in ("bacteria", "virus"):
        file_number = 0
        for official in ("train", "test"):
            counts = _images_a_patient(rng, quotas[kind, official])
            for index, count in enumerate(counts):
                shared = kind == "virus" and index % 4 == 0
                # From the front: patients of the train part, so a test patient shares a number too
                person = bacterial.pop(0) if shared and bacterial else people.pop()
                if kind == "bacteria":
                    bacterial.append(person)
                patient = Patient(kind, f"person{person}_{kind}", seed)
                for image in range(count):
                    file_number += int(rng.integers(1, 4))
                    path = f"chest_xray/{official}/PNEUMONIA/{patient.name}_{file_number}.jpeg"
                    files.append(ImageFile(path, patient, image, "L", official))
    return files


def _with_rgb(rng: Generator, files: list[ImageFile]) -> list[ImageFile]:
    """Make a few files of both classes RGB, in the classes' own ratio; never the duplicates."""
    total = max(2, round(RGB_SHARE * len(files)))
    shares = {True: max(1, round(NORMAL_SHARE * total))}
    shares[False] = total - shares[True]
    drawn = [(file.patient, file.image) for file in files]
    chosen: set[str] = set()
    for normal, share in shares.items():
        paths = sorted(
            file.path
            for file in files
            if (file.patient.kind == "normal") == normal
            and drawn.count((file.patient, file.image)) == 1
        )
        chosen.update(rng.choice(paths, share, replace=False).tolist())
    return [replace(file, mode="RGB") if file.path in chosen else file for file in files]
