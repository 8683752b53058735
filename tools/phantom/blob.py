"""A soft ellipse over a lung, in body coordinates: an opacity of disease, or a shadow."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from tools.phantom import anatomy
from tools.phantom.anatomy import Anatomy
from tools.phantom.patient import around


@dataclass(frozen=True)
class Blob:
    """One ellipse.

    Attributes:
        x: Of its centre.
        y: Of its centre.
        radius_x: Half of its width.
        radius_y: Half of its height.
        strength: Share of the air that it replaces, 0 to 1.
        softness: Width of its edge, in radii.
    """

    x: float
    y: float
    radius_x: float
    radius_y: float
    strength: float
    softness: float


def place(
    rng: Generator,
    body: Anatomy,
    side: float,
    level: float,
    radii: tuple[float, float],
    strength: float,
    softness: float,
) -> Blob:
    """Place an ellipse at a height of a lung, somewhere across its width.

    Args:
        rng: Draws the place.
        body: Whose lung.
        side: -1 for the image's left, 1 for its right.
        level: 0 at the lung's apex, 1 at the diaphragm.
        radii: Half of the width and of the height.
        strength: See `Blob`.
        softness: See `Blob`.
    """
    y = body.apex + (body.base - body.apex) * level + around(rng, 0.0, 0.03)
    inner, outer = 0.24, float(anatomy.cage(np.asarray(y, np.float32), body))
    x = side * (inner + (outer - inner) * float(rng.uniform(0.25, 0.7)))
    return Blob(x, y, radii[0], radii[1], strength, softness)
