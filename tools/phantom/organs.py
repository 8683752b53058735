"""Soft tissue and air: how much absorption they add or take away along the ray."""

import numpy as np

from tools.phantom import anatomy, shapes
from tools.phantom.anatomy import Anatomy
from tools.phantom.shapes import Floats


def soft_tissue(x: Floats, y: Floats, body: Anatomy) -> Floats:
    """Path through trunk, neck, head and arms."""
    waist = body.wall * (1.0 + 0.35 * shapes.step(y - 0.1, 0.3))
    half = anatomy.cage(np.maximum(y, -0.40), body) + waist + 0.12 * shapes.bump(y + 0.65, 0.3)
    top = -1.12 + 0.42 * np.square(np.minimum(np.abs(x), 1.2) / body.cage)
    trunk = shapes.ball(x / half) ** 0.75 * shapes.ball(np.clip((top + 0.35 - y) / 0.35, 0.0, 1.0))
    neck = 0.8 * shapes.ball(shapes.segment(x, y, (0.0, -0.6), (0.0, -1.3)) / 0.27)
    head = 1.0 * shapes.ball(shapes.ellipse(x, y, (0.0, -1.42), (0.48, 0.44)))
    start, end = anatomy.arm(body)
    arms = 0.74 * shapes.ball(shapes.segment(np.abs(x), y, start, end) / body.arm)
    return body.depth * shapes.merge([trunk, neck, head, arms], 9.0)


def air(x: Floats, y: Floats, body: Anatomy, turn: float) -> Floats:
    """Aerated lung along the ray: 0 outside the lungs, about 1 in their middle."""
    half = anatomy.cage(y, body)
    lung = shapes.ball(x / np.maximum(half, 1e-3)) ** 0.8
    roof = shapes.step(y - body.apex - 0.02, 0.05)
    gap = _diaphragm(x, body) - y
    floor = 0.88 * shapes.step(gap, 0.014) + 0.12 * shapes.step(
        gap + 0.14, 0.07
    )  # lung behind the dome
    heart = 1.0 - 0.95 * _heart(x - turn, y, body) ** 0.65
    return lung * roof * floor * heart


def windpipe(x: Floats, y: Floats) -> Floats:
    """Air in the trachea and the two main bronchi."""
    trachea = shapes.step(0.050 - np.abs(x + 0.01), 0.018) * shapes.step(-0.30 - y, 0.03)
    bronchi = shapes.bump(shapes.segment(np.abs(x), y, (0.01, -0.30), (0.19, -0.14)), 0.032)
    return np.asarray(np.maximum(trachea, 0.6 * bronchi), np.float32)


def abdomen(x: Floats, y: Floats, body: Anatomy) -> Floats:
    """Gas of the stomach under the left dome."""
    size = body.bubble_size
    centre = (0.42 * body.cage, body.base + body.base_drop + 0.06 + 0.5 * size)
    return shapes.step(1.0 - shapes.ellipse(x, y, centre, (size, 0.5 * size), -0.15), 0.25)


def _diaphragm(x: Floats, body: Anatomy) -> Floats:
    """Height of the diaphragm: a dome under each lung, lower on the left, deep at the side."""
    left = shapes.step(x, 0.12)
    across = (np.abs(x) / body.cage - 0.42) / 0.58
    dome = body.dome * np.square(across) * (1.0 + 0.9 * np.clip(across, 0.0, 1.0))
    return np.asarray(body.base + left * body.base_drop + dome, np.float32)


def _heart(x: Floats, y: Floats, body: Anatomy) -> Floats:
    """Path through heart, great vessels and mediastinum, 0 to 1."""
    size, base = body.heart, body.base
    ventricle = shapes.ellipse(
        x, y, (0.15, base - 0.15), (0.45 * size, 0.34 * size), body.heart_turn
    )
    atrium = shapes.ellipse(x, y, (-0.06, base - 0.14), (0.21 * size, 0.36 * size))
    aorta = shapes.ellipse(x, y, (0.08, -0.40), (0.13, 0.15))
    trunk = shapes.ellipse(x, y, (0.09, -0.16), (0.17, 0.24))
    vein = shapes.ellipse(x, y, (-0.05, -0.45), (body.mediastinum + 0.01, 0.55))
    column = np.abs(x) / body.mediastinum
    parts = (ventricle, atrium, aorta, trunk, vein, column)
    depths = [np.maximum(1.5 - part, 0.0) for part in parts]
    return shapes.ball(np.maximum(1.53 - shapes.merge(depths, 12.0), 0.0))
