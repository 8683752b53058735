"""Textures of a patient's tissue, drawn once a patient so that they move with the body.

Each is drawn on a square atlas of body coordinates from -ATLAS to ATLAS.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from tools.phantom import anatomy, shapes
from tools.phantom.anatomy import Anatomy
from tools.phantom.patient import Patient, around, draws
from tools.phantom.shapes import Floats, Point

ATLAS = 1.5
ATLAS_PIXELS = 420
ATLAS_SCALE = ATLAS_PIXELS / (2 * ATLAS)


@dataclass(frozen=True)
class Textures:
    """One patient's atlases, float32 [ATLAS_PIXELS, ATLAS_PIXELS] each."""

    vessels: Floats
    net: Floats
    ragged: Floats  # makes the edges of opacities uneven
    fat: Floats  # makes soft tissue uneven
    airspaces: Floats  # which of them fill with fluid: above 0 mostly filled, below mostly not


@lru_cache(maxsize=4)  # a patient's images usually follow each other
def of(patient: Patient) -> Textures:
    """Draw a patient's atlases: the slowest part of an image."""
    rng = draws(patient, "texture")
    body = anatomy.of(patient)
    return Textures(
        _vessels(rng, body), _net(rng), _clouds(rng, 16), _clouds(rng, 9), _clouds(rng, 40)
    )


def onto(atlas: Floats, x: Floats, y: Floats) -> Floats:
    """Resample an atlas at an image's body coordinates, which are an affine map of its pixels."""
    right = np.array([x[0, 1] - x[0, 0], y[0, 1] - y[0, 0]]) * ATLAS_SCALE
    down = np.array([x[1, 0] - x[0, 0], y[1, 0] - y[0, 0]]) * ATLAS_SCALE
    corner = (np.array([x[0, 0], y[0, 0]]) + ATLAS) * ATLAS_SCALE
    corner -= 0.5 * (right + down)  # the grid names pixel centres, Pillow's map their corners
    matrix = np.stack([right, down, corner], axis=1).ravel().tolist()
    size, affine = (x.shape[1], x.shape[0]), Image.Transform.AFFINE
    moved = Image.fromarray(atlas).transform(size, affine, matrix, Image.Resampling.BILINEAR)
    return np.asarray(moved)


def _vessels(rng: Generator, body: Anatomy) -> Floats:
    """Atlas of the vessels that fan out from both hila, 0 to 1."""
    canvas = Image.new("L", (ATLAS_PIXELS, ATLAS_PIXELS))
    pen = ImageDraw.Draw(canvas)
    for side in (-1.0, 1.0):
        for heading in (-1.3, -0.8, -0.35, 0.2, 0.6, 0.95, 1.25):
            root = (side * around(rng, 0.22, 0.03), body.hilum + 0.09 * heading)
            angle = around(rng, heading, 0.12)
            angle = angle if side > 0 else math.pi - angle
            for branch, width in _branches(rng, root, angle, 0.12, rng.uniform(0.018, 0.03)):
                points = [((x + ATLAS) * ATLAS_SCALE, (y + ATLAS) * ATLAS_SCALE) for x, y in branch]
                pen.line(points, fill=int(40 + 6500 * width), width=round(width * ATLAS_SCALE))
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(1.2)), np.float32) / 255.0


def _branches(
    rng: Generator, start: Point, angle: float, length: float, width: float
) -> Iterator[tuple[list[Point], float]]:
    """A tree of vessels, branch by branch: points along it, and its width, thinner at each fork."""
    if width < 1.0 / ATLAS_SCALE:
        return  # thinner than a pixel
    bend = around(rng, 0.0, 0.12)
    points = [start]
    for _ in range(3):  # a vessel curves between its forks
        x, y = points[-1]
        points.append((x + length / 3 * math.cos(angle), y + length / 3 * math.sin(angle)))
        angle += bend
    yield points, width
    fork, wide, narrow, shorter = rng.random(4).tolist()  # one call: a patient has 300 forks
    spread = math.copysign(0.25 + 0.9 * abs(fork - 0.5), fork - 0.5)
    length *= 0.7 + 0.3 * shorter
    yield from _branches(rng, points[-1], angle + spread, length, width * (0.5 + 0.25 * narrow))
    yield from _branches(rng, points[-1], angle - 0.6 * spread, length, width * (0.7 + 0.2 * wide))


def _net(rng: Generator) -> Floats:
    """Atlas of a fine net, the lungs' interstices: ridges of noise at two scales, about 0 to 1."""
    return 0.6 * shapes.bump(_clouds(rng, 75), 0.35) + 0.6 * shapes.bump(_clouds(rng, 40), 0.25)


def _clouds(rng: Generator, cells: int) -> Floats:
    """Atlas of smooth noise of mean 0 and spread about 1, with `cells` random values a side."""
    grid = Image.fromarray(rng.standard_normal((cells + 2, cells + 2), dtype=np.float32))
    inner = (1.0, 1.0, cells + 1.0, cells + 1.0)
    size = (ATLAS_PIXELS, ATLAS_PIXELS)
    return 1.4 * np.asarray(grid.resize(size, Image.Resampling.BICUBIC, box=inner))
