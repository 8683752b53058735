"""Pneumonia: where its opacities lie and how dense they are."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from tools.phantom import anatomy
from tools.phantom.anatomy import Anatomy
from tools.phantom.patient import Patient, around, draws


@dataclass(frozen=True)
class Blob:
    """One opacity: a soft ellipse with a ragged edge, in body coordinates."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    strength: float  # share of the air it replaces, 0 to 1
    softness: float  # width of its edge, in radii


@dataclass(frozen=True)
class Disease:
    """What pneumonia does to the lungs of one patient.

    Attributes:
        blobs: The opacities; none for a normal patient.
        haze: Share of the air lost everywhere, 0 to 1.
        interstitial: Strength of the net-like texture and of thickened vessels, 0 or more.
    """

    blobs: tuple[Blob, ...] = ()
    haze: float = 0.0
    interstitial: float = 0.0


HEALTHY = Disease()


def of(patient: Patient, image: int) -> Disease:
    """Draw what the patient's pneumonia looks like on one image.

    Args:
        patient: A normal patient has no disease; bacteria give one dense lobe (sometimes a second
            focus), viruses patches and nets in both lungs.
        image: Number of the image: the disease is a little stronger or fainter on each.

    Returns:
        The opacities, in body coordinates.
    """
    if patient.kind == "normal":
        return HEALTHY
    body, rng = anatomy.of(patient), draws(patient, "disease")
    drawn = _lobar(rng, body) if patient.kind == "bacteria" else _patchy(rng, body)
    course = around(draws(patient, "disease", image), 1.0, 0.08)
    blobs = tuple(replace(blob, strength=min(1.0, blob.strength * course)) for blob in drawn.blobs)
    return replace(drawn, blobs=blobs, haze=drawn.haze * course)


def _lobar(rng: Generator, body: Anatomy) -> Disease:
    """One zone of one lung, dense or faint; every fourth patient has a second, smaller focus."""
    side = 1.0 if rng.random() < 0.4 else -1.0  # the right lung more often
    level = rng.choice([0.28, 0.58, 0.80], p=[0.25, 0.30, 0.45])
    strength = float(rng.uniform(0.45, 1.0))
    size = float(rng.uniform(0.95, 1.35))
    blobs = [_blob(rng, body, side, level, (0.30 * size, 0.24 * size), strength, 0.5)]
    if rng.random() < 0.25:
        other = float(rng.choice([-1.0, 1.0]))
        radii = (0.14 * size, 0.12 * size)
        blobs.append(_blob(rng, body, other, rng.uniform(0.3, 0.8), radii, 0.6 * strength, 0.8))
    return Disease(tuple(blobs), haze=0.04, interstitial=0.1)


def _patchy(rng: Generator, body: Anatomy) -> Disease:
    """Many small patches about both hila and bases, haze and a net of thickened interstices."""
    strength = float(rng.uniform(0.40, 0.80))
    blobs = []
    for number in range(int(rng.integers(7, 13))):
        side = 1.0 if number % 2 else -1.0
        radius = float(rng.uniform(0.09, 0.18))
        radii = (radius, radius * float(rng.uniform(0.8, 1.2)))
        here = strength * float(rng.uniform(0.6, 1.2))
        blobs.append(_blob(rng, body, side, rng.uniform(0.3, 0.9), radii, here, 1.2))
    return Disease(tuple(blobs), haze=0.25 * strength, interstitial=1.4 * strength + 0.2)


def _blob(
    rng: Generator,
    body: Anatomy,
    side: float,
    level: float,
    radii: tuple[float, float],
    strength: float,
    softness: float,
) -> Blob:
    """An opacity at a height of the lung (0 apex, 1 diaphragm), somewhere across its width."""
    y = body.apex + (body.base - body.apex) * float(level) + around(rng, 0.0, 0.03)
    inner, outer = 0.24, float(anatomy.cage(np.asarray(y, np.float32), body))
    x = side * (inner + (outer - inner) * float(rng.uniform(0.25, 0.7)))
    return Blob(x, y, radii[0], radii[1], strength, softness)
