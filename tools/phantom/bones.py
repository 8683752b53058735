"""Bones: the absorption that they add to that of soft tissue."""

import numpy as np

from tools.phantom import anatomy, shapes
from tools.phantom.anatomy import Anatomy
from tools.phantom.shapes import Floats


def bones(x: Floats, y: Floats, body: Anatomy, turn: float) -> Floats:
    """Absorption of all bones, added to that of soft tissue."""
    ribs, spine = 0.165 * _ribs(x, y, body), 0.15 * _spine(x, y, body)
    front = 0.17 * _clavicles(x, y, body, turn) + 0.16 * _shoulders(x, y, body)
    return body.bone * (ribs + spine + front)


def _ribs(x: Floats, y: Floats, body: Anatomy) -> Floats:
    """Ribs: tilted rings, of which the rear half shows as the upper arc, the front as the lower.

    On each side a ring is seen as half an ellipse from the spine over the rib cage's edge to the
    breastbone. The ray runs along the bone at that edge, so the ribs are brightest there.
    """
    across, total = np.abs(x), np.zeros_like(x)
    top, bottom = y.min(axis=1), y.max(axis=1)
    for number in range(11):
        rise = 0.5 * body.rib_drop * (0.55 + 0.075 * number)
        middle = body.apex + 0.03 + number * body.ribs + rise
        # Only the rows that the ring crosses: a third of the time
        rows = slice(
            int(np.searchsorted(bottom, middle - rise - 0.2)),
            int(np.searchsorted(top, middle + rise + 0.2)),
        )
        half = float(anatomy.cage(np.asarray(middle - 0.03, np.float32), body)) + 0.015
        front = 0.55 if number < 7 else 0.0  # the lower ribs end at the side
        total[rows] += _ring(across[rows], y[rows] - middle, (half, rise), body.rib_width, front)
    return total


def _ring(
    across: Floats, below: Floats, radii: tuple[float, float], width: float, front: float
) -> Floats:
    """One pair of ribs, `below` being measured from the ring's middle; `front` dims the front."""
    u = across / radii[0]
    v = (below - 0.10 * (u - 1.0)) / radii[1]
    radius = np.hypot(u, v) + 1e-6
    slope = np.hypot(u / radii[0], v / radii[1]) / radius + 1e-6
    distance = (radius - 1.0) / slope
    rear = shapes.step(-v, 0.12)
    reach = shapes.step(u - 0.45, 0.10)  # the front's inner end is cartilage, which does not show
    edge = 1.0 / np.sqrt(np.clip(1.0 - np.square(u), 0.0, 1.0) + 0.16)
    shown = (rear + front * reach * (1.0 - rear)) * (0.55 + 0.45 * edge)
    return np.asarray(shapes.tube(distance, width) * shown, np.float32)


def _spine(x: Floats, y: Floats, body: Anatomy) -> Floats:
    """Vertebrae: blocks with bright end plates, darker discs, pedicles and spinous processes."""
    pitch = 0.92 * body.ribs
    phase = (y - body.apex) / pitch
    within = phase - np.floor(phase)
    column = shapes.step(body.spine - np.abs(x), 0.022)
    disc = shapes.bump(within - 0.5, 0.13)
    plates = shapes.bump(within - 0.30, 0.07) + shapes.bump(within - 0.70, 0.07)
    near = within - np.round(within)
    pedicles = shapes.bump(np.hypot((np.abs(x) - 0.62 * body.spine) / 0.035, near / 0.20), 1.0)
    process = shapes.bump(np.hypot(x / 0.022, near / 0.30), 1.0)
    blocks = 0.85 - 0.28 * disc + 0.12 * plates + 0.25 * pedicles + 0.18 * process
    return np.asarray(column * blocks, np.float32)


def _clavicles(x: Floats, y: Floats, body: Anatomy, turn: float) -> Floats:
    """Clavicles: S-shaped from the breastbone to the shoulders."""
    across = np.abs(x - turn)
    reach = (across - 0.10) / (0.80 * body.cage)
    arch = body.clavicle_rise * np.sin(0.55 * np.pi * np.clip(reach, 0.0, 1.2))
    curve = body.clavicle - arch + 0.025 * np.sin(2 * np.pi * reach)
    bone = shapes.tube((y - curve) * 0.95, 0.032)
    return bone * shapes.step(reach, 0.03) * shapes.step(1.0 - reach, 0.03)


def _shoulders(x: Floats, y: Floats, body: Anatomy) -> Floats:
    """Humeri and shoulder blades."""
    across = np.abs(x)
    start, end = anatomy.arm(body)
    shaft = shapes.tube(shapes.segment(across, y, start, end), 0.042)
    head = 0.75 * shapes.ball(shapes.ellipse(across, y, start, (0.085, 0.095)))
    tip = (0.70 * body.cage, -0.08)
    socket = (start[0] - 0.10, start[1] + 0.02)
    inner = (0.56 * body.cage, body.clavicle + 0.08)
    margin = shapes.bump(shapes.segment(across, y, socket, tip), 0.020)
    blade = 0.35 * shapes.step(shapes.triangle(across, y, socket, tip, inner), 0.03)
    return np.asarray(np.maximum(head, shaft) + blade + 0.45 * margin, np.float32)
