"""Soft shapes on a grid of coordinates, float32 [H, W]: what all organs are drawn with."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Point = tuple[float, float]


def step(distance: Floats, softness: float) -> Floats:
    """Smooth step from 0 to 1 where the signed distance crosses zero."""
    return np.asarray(0.5 + 0.5 * np.tanh(distance / softness), np.float32)


def bump(distance: Floats, width: float) -> Floats:
    """Bell of height 1 about a line or a point."""
    return np.asarray(np.exp(-np.square(distance / width)), np.float32)


def ball(radius: Floats) -> Floats:
    """Path through a ball or cylinder of radius 1 at a distance from its axis, 1 on the axis."""
    return np.asarray(np.sqrt(np.clip(1.0 - np.square(radius), 0.0, 1.0)), np.float32)


def ellipse(
    x: Floats, y: Floats, centre: Point, radii: tuple[float, float], angle: float = 0.0
) -> Floats:
    """Distance from an ellipse's centre in units of its radii: 1 on the edge."""
    dx, dy = x - centre[0], y - centre[1]
    along = dx * math.cos(angle) + dy * math.sin(angle)
    across = dy * math.cos(angle) - dx * math.sin(angle)
    return np.asarray(np.hypot(along / radii[0], across / radii[1]), np.float32)


def segment(x: Floats, y: Floats, start: Point, end: Point) -> Floats:
    """Distance from a straight segment, in body units."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = ((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy)
    along = np.clip(along, 0.0, 1.0)
    return np.asarray(np.hypot(x - start[0] - along * dx, y - start[1] - along * dy), np.float32)


def triangle(x: Floats, y: Floats, *corners: Point) -> Floats:
    """Signed distance from the nearest side of a triangle (clockwise on the screen), inside > 0."""
    sides = []
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        length = math.hypot(bx - ax, by - ay)
        sides.append(((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / length)
    return np.asarray(np.minimum.reduce(sides), np.float32)


def tube(distance: Floats, radius: float) -> Floats:
    """Profile of a long bone: a bright cortex about a spongy middle."""
    outer = step(radius - np.abs(distance), 0.35 * radius)
    inner = step(0.55 * radius - np.abs(distance), 0.35 * radius)
    return outer - 0.35 * inner


def merge(parts: Sequence[Floats], sharpness: float) -> Floats:
    """Maximum of values of 0 or more with rounded corners: shapes flow into each other."""
    powers = np.expm1(sharpness * np.stack(parts))
    return np.asarray(np.log1p(powers.sum(axis=0)) / sharpness)
