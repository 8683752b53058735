"""Pneumonia: where its opacities lie and how dense they are."""

from dataclasses import dataclass, replace

from numpy.random import Generator

from tools.phantom import anatomy, blob
from tools.phantom.anatomy import Anatomy
from tools.phantom.blob import Blob
from tools.phantom.patient import Patient, around, draws


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
    blobs = tuple(replace(one, strength=min(1.0, one.strength * course)) for one in drawn.blobs)
    return replace(drawn, blobs=blobs, haze=drawn.haze * course)


def _lobar(rng: Generator, body: Anatomy) -> Disease:
    """One zone of one lung; every fourth patient has a second, smaller focus."""
    side = 1.0 if rng.random() < 0.4 else -1.0  # the right lung more often
    level = float(rng.choice([0.28, 0.58, 0.80], p=[0.25, 0.30, 0.45]))
    strength = float(rng.uniform(0.75, 1.0))
    size = float(rng.uniform(0.95, 1.35))
    blobs = [blob.place(rng, body, side, level, (0.30 * size, 0.24 * size), strength, 0.5)]
    if rng.random() < 0.25:
        other = float(rng.choice([-1.0, 1.0]))
        radii = (0.14 * size, 0.12 * size)
        blobs.append(
            blob.place(rng, body, other, rng.uniform(0.3, 0.8), radii, 0.6 * strength, 0.8)
        )
    return Disease(tuple(blobs), haze=0.04, interstitial=0.1)


def _patchy(rng: Generator, body: Anatomy) -> Disease:
    """Many small patches about both hila and bases, haze and a net of thickened interstices."""
    strength = float(rng.uniform(0.60, 1.0))
    blobs = []
    for number in range(int(rng.integers(7, 13))):
        side = 1.0 if number % 2 else -1.0
        radius = float(rng.uniform(0.09, 0.18))
        radii = (radius, radius * float(rng.uniform(0.8, 1.2)))
        here = strength * float(rng.uniform(0.6, 1.2))
        blobs.append(blob.place(rng, body, side, rng.uniform(0.3, 0.9), radii, here, 1.2))
    return Disease(tuple(blobs), haze=0.1 * strength, interstitial=1.4 * strength + 0.2)
