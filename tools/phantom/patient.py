"""A patient, and the random draws that belong to one."""

from dataclasses import dataclass
from typing import Literal

from numpy.random import Generator

from cxr.seeding import generator

Kind = Literal["normal", "bacteria", "virus"]


@dataclass(frozen=True)
class Patient:
    """Somebody who is X-rayed: the same patient always gives the same body and the same disease.

    Attributes:
        kind: "normal", or the germ behind the pneumonia: "bacteria" or "virus".
        name: What all file names of the patient begin with: `IM-0115`, `NORMAL2-IM-0383`,
            `person23_bacteria`. With the seed it is the key of all random draws.
        seed: The archive's seed.
    """

    kind: Kind
    name: str
    seed: int = 0


def draws(patient: Patient, purpose: str, image: int | None = None) -> Generator:
    """Generator for one purpose: leaving the disease out, say, changes no other draw."""
    return generator(patient.seed, "phantom", patient.name, purpose, -1 if image is None else image)


def around(rng: Generator, mean: float, spread: float) -> float:
    """Normal draw, cut at two standard deviations: no monsters."""
    return mean + spread * max(-2.0, min(2.0, rng.standard_normal()))
