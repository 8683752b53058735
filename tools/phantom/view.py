"""How one image of a patient is taken: geometry, exposure, marker and cable."""

import math
from dataclasses import dataclass

import numpy as np

from tools.phantom.patient import Patient, around, draws
from tools.phantom.shapes import Floats

SIZE_RANGE = (180, 340)  # shortest and longest side in pixels


@dataclass(frozen=True)
class View:
    """How one image is taken: geometry, exposure and whatever lies on the image."""

    width: int
    height: int
    zoom: float  # body units in half of the image's height
    shift_x: float
    shift_y: float
    tilt: float  # radians
    turn: float  # rotation about the body's axis: moves what lies in front
    breath: float  # moves the diaphragm
    dark: float  # absorption shown black
    light: float  # absorption shown white
    gamma: float
    noise: float
    marker: bool
    cable: bool


def of(patient: Patient, image: int, size_range: tuple[int, int] = SIZE_RANGE) -> View:
    """Draw how one image of a patient is taken.

    A patient's images share a habitus (mean zoom, exposure, size) and differ a little around it.

    Args:
        patient: Who is X-rayed; its kind has no influence: no acquisition shortcut.
        image: Number of the image.
        size_range: Shortest and longest side in pixels.

    Returns:
        The same view at each call.
    """
    mean, own = draws(patient, "view"), draws(patient, "view", image)

    def vary(centre: float, between: float, within: float) -> float:
        return around(mean, centre, between) + around(own, 0.0, within)

    short, long = size_range
    width = np.clip(vary(0.72, 0.14, 0.04), 0.0, 1.0) * (long - short) + short
    height = np.clip(width / np.clip(vary(1.28, 0.13, 0.04), 0.9, 1.7), short, long)
    dark = vary(0.22, 0.05, 0.015)
    return View(
        width=round(float(width)),
        height=round(float(height)),
        zoom=vary(0.90, 0.07, 0.025),
        shift_x=vary(0.0, 0.04, 0.02),
        shift_y=vary(-0.10, 0.05, 0.02),
        tilt=vary(0.0, 0.04, 0.02),
        turn=vary(0.0, 0.03, 0.012),
        breath=around(own, 0.0, 0.02),
        dark=dark,
        light=dark + vary(1.10, 0.11, 0.03),
        gamma=vary(1.0, 0.13, 0.03),
        noise=vary(0.014, 0.004, 0.001),
        marker=bool(mean.random() < 0.6),
        cable=bool(own.random() < 0.12),
    )


def grid(taken: View) -> tuple[Floats, Floats]:
    """Body coordinates of all pixel centres, float32 [H, W] each."""
    unit = 2 * taken.zoom / taken.height
    columns = (np.arange(taken.width, dtype=np.float32) + 0.5 - taken.width / 2) * unit
    rows = (np.arange(taken.height, dtype=np.float32) + 0.5 - taken.height / 2) * unit
    cos, sin = math.cos(taken.tilt), math.sin(taken.tilt)
    x = cos * columns[None, :] + sin * rows[:, None] + taken.shift_x
    y = -sin * columns[None, :] + cos * rows[:, None] + taken.shift_y
    return x.astype(np.float32), y.astype(np.float32)
