"""Smooth shadows over the lungs, which healthy and sick patients have alike.

Breasts, muscles and skin folds darken the air behind them as an opacity does. Without them the
brightness of a lung alone would tell the classes apart, and a network would need to know nothing
about texture.
"""

import numpy as np

from tools.phantom import anatomy, blob, shapes
from tools.phantom.blob import Blob
from tools.phantom.patient import Patient, draws
from tools.phantom.shapes import Floats


def of(patient: Patient) -> tuple[Blob, ...]:
    """Draw a patient's shadows.

    Args:
        patient: Whose lungs; the kind has no influence.

    Returns:
        Two to four ellipses, the same at each call.
    """
    rng, body = draws(patient, "shadows"), anatomy.of(patient)
    found = []
    for _ in range(int(rng.integers(2, 5))):
        side = float(rng.choice([-1.0, 1.0]))
        radius, strength, level, ratio, softness = rng.uniform(
            (0.12, 0.15, 0.2, 0.7, 0.35), (0.42, 0.60, 0.95, 1.3, 0.90)
        ).tolist()
        radii = (radius, radius * ratio)
        found.append(blob.place(rng, body, side, level, radii, strength, softness))
    return tuple(found)


def share(found: tuple[Blob, ...], x: Floats, y: Floats) -> Floats:
    """Return the share of the air that shadows take back, 0 to 1, float32 [H, W]."""
    left = np.ones_like(x)
    for one in found:
        radius = shapes.ellipse(x, y, (one.x, one.y), (one.radius_x, one.radius_y))
        left *= 1.0 - one.strength * shapes.step(1.0 - radius, one.softness)
    return 1.0 - left
