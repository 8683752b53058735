"""Synthetic chest X-rays ("phantoms"): a sample data set that can be shipped with the code.

Every picture is drawn from a seed as a film is made: each organ adds to (or, for air, takes away
from) the absorption along the ray through a pixel, and a tone curve turns the sum into grey values.
Ribs therefore shine through the heart, and an opacity hides the vessels that it surrounds.

The archive has the layout, the names and the traps of Kermany's chest X-rays (several images of a
patient, one person number for two patients, pixel-equal files, RGB files, odd sizes), and none of
their acquisition shortcuts: size, mode, JPEG quality and exposure follow the same distribution in
both classes.

    python -m cxr.phantom --out data/phantoms.zip --seed 0      # 300 images, about 15 s on one core
"""

from __future__ import annotations

import argparse
import io
import logging
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from tqdm import tqdm

from cxr.errors import InputError
from cxr.files import file_sha256, replacing
from cxr.seeding import generator

logger = logging.getLogger(__name__)

Kind = Literal["normal", "bacteria", "virus"]
Official = Literal["train", "test"]
Floats = NDArray[np.floating[Any]]
Grey = NDArray[np.uint8]

IMAGES = 300
MIN_IMAGES = 24  # with fewer, a subtype would be missing from the official test part
SIZE_RANGE = (180, 340)  # shortest and longest side in pixels
MIN_SIDE = 32
JPEG_QUALITY = 75  # the same for every file: in Kermany's set the quality names the class
NORMAL_SHARE = 0.27  # 1,583 of Kermany's 5,856 images
BACTERIA_SHARE = 0.65  # 2,780 of Kermany's 4,273 images with pneumonia
TEST_SHARE = 0.15
RGB_SHARE = 0.02
MAX_IMAGES_A_PATIENT = 6

# Body coordinates: x grows to the image's right (the patient's left), y downwards; the rib cage is
# about 2 wide, the lungs reach from about -0.8 (apex) to 0.5 (diaphragm). Textures are drawn once a
# patient on a square atlas of this half-width, so that they move with the body between images.
ATLAS = 1.5
ATLAS_PIXELS = 420
ATLAS_SCALE = ATLAS_PIXELS / (2 * ATLAS)

Point = tuple[float, float]


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


@dataclass(frozen=True)
class Film:
    """One file of the archive.

    Attributes:
        path: Path in the archive, in Kaggle's layout.
        patient: Whose body is drawn. The copy in the duplicate pair carries another patient's
            name in `path`, but the same body here.
        image: Number of the image among the patient's.
        mode: "L" or "RGB" (three equal channels).
        official: "train" or "test", as in the path.
    """

    path: str
    patient: Patient
    image: int
    mode: Literal["L", "RGB"]
    official: Official


@dataclass(frozen=True)
class Anatomy:
    """Lengths and absorptions of one body, in body coordinates (see ATLAS)."""

    cage: float  # half-width of the rib cage at its base
    apex: float  # y of the lungs' top
    base: float  # y of the right diaphragm's top
    base_drop: float  # how much lower the left diaphragm stands
    dome: float  # height of the diaphragm's domes
    wall: float  # thickness of chest wall and fat at the side
    depth: float  # absorption of soft tissue through the middle of the trunk
    air: float  # share of it that aerated lungs take away
    haze: float  # share of the air that poor inspiration or overlying tissue takes back
    heart: float  # size of the heart
    heart_turn: float  # angle of its long axis, radians
    hilum: float  # y of the lungs' roots
    mediastinum: float  # half-width above the heart, wide with a child's thymus
    spine: float  # half-width of the vertebral bodies
    bone: float  # absorption of bones
    ribs: float  # distance from rib to rib
    rib_drop: float  # how far a rib descends from the spine to its front end
    rib_width: float
    clavicle: float  # y of the clavicles' inner ends
    clavicle_rise: float
    arm_angle: float  # 0 hanging, pi raised, radians
    arm: float  # half-width of the upper arms
    vessels: float  # prominence of the vessels
    bubble: float  # absorption that the stomach's gas takes away
    bubble_size: float


@dataclass(frozen=True)
class View:
    """How one image is taken: geometry, exposure and whatever lies on the film."""

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


# --- random draws -----------------------------------------------------------------------------


def _rng(patient: Patient, purpose: str, image: int | None = None) -> Generator:
    """Generator for one purpose: leaving the disease out, say, changes no other draw."""
    return generator(patient.seed, "phantom", patient.name, purpose, -1 if image is None else image)


def _around(rng: Generator, mean: float, spread: float) -> float:
    """Normal draw, cut at two standard deviations: no monsters."""
    return mean + spread * max(-2.0, min(2.0, rng.standard_normal()))


def anatomy(patient: Patient) -> Anatomy:
    """Draw a patient's body.

    Args:
        patient: Whose body; its kind has no influence, so healthy and sick bodies are alike.

    Returns:
        The same anatomy at each call.
    """
    rng = _rng(patient, "anatomy")
    raised = rng.random() < 0.35
    return Anatomy(
        cage=_around(rng, 0.92, 0.05),
        apex=_around(rng, -0.80, 0.03),
        base=_around(rng, 0.46, 0.06),
        base_drop=_around(rng, 0.05, 0.02),
        dome=_around(rng, 0.16, 0.03),
        wall=_around(rng, 0.13, 0.03),
        depth=_around(rng, 1.0, 0.05),
        air=_around(rng, 0.66, 0.04),
        haze=float(rng.beta(1.2, 5.0)) * 0.35,
        heart=_around(rng, 1.0, 0.08),
        heart_turn=_around(rng, 0.75, 0.12),
        hilum=_around(rng, -0.12, 0.03),
        mediastinum=_around(rng, 0.17, 0.025),
        spine=_around(rng, 0.105, 0.008),
        bone=_around(rng, 1.0, 0.13),
        ribs=_around(rng, 0.140, 0.008),
        rib_drop=_around(rng, 0.44, 0.05),
        rib_width=_around(rng, 0.027, 0.003),
        clavicle=_around(rng, -0.70, 0.03),
        clavicle_rise=_around(rng, 0.09, 0.035),
        arm_angle=_around(rng, 2.5, 0.2) if raised else _around(rng, 0.45, 0.15),
        arm=_around(rng, 0.25, 0.025),
        vessels=_around(rng, 1.0, 0.2),
        bubble=max(0.0, _around(rng, 0.10, 0.10)),
        bubble_size=_around(rng, 0.19, 0.05),
    )


def view(patient: Patient, image: int, size_range: tuple[int, int] = SIZE_RANGE) -> View:
    """Draw how one image of a patient is taken.

    A patient's images share a habitus (mean zoom, exposure, size) and differ a little around it.

    Args:
        patient: Who is X-rayed; its kind has no influence: no acquisition shortcut.
        image: Number of the image.
        size_range: Shortest and longest side in pixels.

    Returns:
        The same view at each call.
    """
    mean, own = _rng(patient, "view"), _rng(patient, "view", image)

    def vary(centre: float, between: float, within: float) -> float:
        return _around(mean, centre, between) + _around(own, 0.0, within)

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
        breath=_around(own, 0.0, 0.02),
        dark=dark,
        light=dark + vary(1.10, 0.11, 0.03),
        gamma=vary(1.0, 0.13, 0.03),
        noise=vary(0.014, 0.004, 0.001),
        marker=bool(mean.random() < 0.6),
        cable=bool(own.random() < 0.12),
    )


def disease(patient: Patient, image: int) -> Disease:
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
    body, rng = anatomy(patient), _rng(patient, "disease")
    drawn = _lobar(rng, body) if patient.kind == "bacteria" else _patchy(rng, body)
    course = _around(_rng(patient, "disease", image), 1.0, 0.08)
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
    y = body.apex + (body.base - body.apex) * float(level) + _around(rng, 0.0, 0.03)
    inner, outer = 0.24, float(_cage(np.asarray(y, np.float32), body))
    x = side * (inner + (outer - inner) * float(rng.uniform(0.25, 0.7)))
    return Blob(x, y, radii[0], radii[1], strength, softness)


# --- small tools ------------------------------------------------------------------------------


def _step(distance: Floats, softness: float) -> Floats:
    """Smooth step from 0 to 1 where the signed distance crosses zero."""
    return np.asarray(0.5 + 0.5 * np.tanh(distance / softness), np.float32)


def _bump(distance: Floats, width: float) -> Floats:
    """Bell of height 1 about a line or a point."""
    return np.asarray(np.exp(-np.square(distance / width)), np.float32)


def _round(radius: Floats) -> Floats:
    """Path through a ball or cylinder of radius 1 at a distance from its axis, 1 on the axis."""
    return np.asarray(np.sqrt(np.clip(1.0 - np.square(radius), 0.0, 1.0)), np.float32)


def _ellipse(
    x: Floats, y: Floats, centre: Point, radii: tuple[float, float], angle: float = 0.0
) -> Floats:
    """Distance from an ellipse's centre in units of its radii: 1 on the edge."""
    dx, dy = x - centre[0], y - centre[1]
    along = dx * math.cos(angle) + dy * math.sin(angle)
    across = dy * math.cos(angle) - dx * math.sin(angle)
    return np.asarray(np.hypot(along / radii[0], across / radii[1]), np.float32)


def _segment(x: Floats, y: Floats, start: Point, end: Point) -> Floats:
    """Distance from a straight segment, in body units."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = ((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy)
    along = np.clip(along, 0.0, 1.0)
    return np.asarray(np.hypot(x - start[0] - along * dx, y - start[1] - along * dy), np.float32)


def _clouds(rng: Generator, cells: int) -> Floats:
    """Atlas of smooth noise of mean 0 and spread about 1, with `cells` random values a side."""
    grid = Image.fromarray(rng.standard_normal((cells + 2, cells + 2), dtype=np.float32))
    inner = (1.0, 1.0, cells + 1.0, cells + 1.0)
    size = (ATLAS_PIXELS, ATLAS_PIXELS)
    return 1.4 * np.asarray(grid.resize(size, Image.Resampling.BICUBIC, box=inner))


def _merge(parts: Sequence[Floats], sharpness: float) -> Floats:
    """Maximum of values of 0 or more with rounded corners: shapes flow into each other."""
    powers = np.expm1(sharpness * np.stack(parts))
    return np.asarray(np.log1p(powers.sum(axis=0)) / sharpness)


# --- the body in layers -----------------------------------------------------------------------


def _cage(y: Floats, body: Anatomy) -> Floats:
    """Inner half-width of the rib cage at a height: a dome that grows steep towards the base."""
    down = np.clip((y - body.apex) / (body.base + 0.25 - body.apex), 0.0, 1.0)
    return np.asarray(body.cage * np.power(1.0 - np.power(1.0 - down, 2.6), 0.52), np.float32)


def _diaphragm(x: Floats, body: Anatomy) -> Floats:
    """Height of the diaphragm: a dome under each lung, lower on the left, deep at the side."""
    left = _step(x, 0.12)
    across = (np.abs(x) / body.cage - 0.42) / 0.58
    dome = body.dome * np.square(across) * (1.0 + 0.9 * np.clip(across, 0.0, 1.0))
    return np.asarray(body.base + left * body.base_drop + dome, np.float32)


def _heart(x: Floats, y: Floats, body: Anatomy) -> Floats:
    """Path through heart, great vessels and mediastinum, 0 to 1."""
    size, base = body.heart, body.base
    ventricle = _ellipse(x, y, (0.15, base - 0.15), (0.45 * size, 0.34 * size), body.heart_turn)
    atrium = _ellipse(x, y, (-0.06, base - 0.14), (0.21 * size, 0.36 * size))
    aorta = _ellipse(x, y, (0.08, -0.40), (0.13, 0.15))
    trunk = _ellipse(x, y, (0.09, -0.16), (0.17, 0.24))
    vein = _ellipse(x, y, (-0.05, -0.45), (body.mediastinum + 0.01, 0.55))
    column = np.abs(x) / body.mediastinum
    parts = (ventricle, atrium, aorta, trunk, vein, column)
    depths = [np.maximum(1.5 - part, 0.0) for part in parts]
    return _round(np.maximum(1.53 - _merge(depths, 12.0), 0.0))


def _air(x: Floats, y: Floats, body: Anatomy, turn: float) -> Floats:
    """Aerated lung along the ray: 0 outside the lungs, about 1 in their middle."""
    half = _cage(y, body)
    lung = _round(x / np.maximum(half, 1e-3)) ** 0.8
    roof = _step(y - body.apex - 0.02, 0.05)
    gap = _diaphragm(x, body) - y
    floor = 0.88 * _step(gap, 0.014) + 0.12 * _step(gap + 0.14, 0.07)  # lung behind the dome
    heart = 1.0 - 0.95 * _heart(x - turn, y, body) ** 0.65
    return lung * roof * floor * heart


def _soft_tissue(x: Floats, y: Floats, body: Anatomy) -> Floats:
    """Path through trunk, neck, head and arms."""
    waist = body.wall * (1.0 + 0.35 * _step(y - 0.1, 0.3))
    half = _cage(np.maximum(y, -0.40), body) + waist + 0.12 * _bump(y + 0.65, 0.3)
    top = -1.12 + 0.42 * np.square(np.minimum(np.abs(x), 1.2) / body.cage)
    trunk = _round(x / half) ** 0.75 * _round(np.clip((top + 0.35 - y) / 0.35, 0.0, 1.0))
    neck = 0.8 * _round(_segment(x, y, (0.0, -0.6), (0.0, -1.3)) / 0.27)
    head = 1.0 * _round(_ellipse(x, y, (0.0, -1.42), (0.48, 0.44)))
    start, end = _arm(body)
    arms = 0.74 * _round(_segment(np.abs(x), y, start, end) / body.arm)
    return body.depth * _merge([trunk, neck, head, arms], 9.0)


def _arm(body: Anatomy) -> tuple[Point, Point]:
    """Both ends of the left upper arm, the shoulder joint first."""
    shoulder = (body.cage * 0.92, -0.66)
    length = 2.6  # beyond the image: no elbow shows
    return shoulder, (
        shoulder[0] + length * math.sin(body.arm_angle),
        shoulder[1] + length * math.cos(body.arm_angle),
    )


def _tube(distance: Floats, radius: float) -> Floats:
    """Profile of a long bone: a bright cortex about a spongy middle."""
    outer = _step(radius - np.abs(distance), 0.35 * radius)
    inner = _step(0.55 * radius - np.abs(distance), 0.35 * radius)
    return outer - 0.35 * inner


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
        half = float(_cage(np.asarray(middle - 0.03, np.float32), body)) + 0.015
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
    rear = _step(-v, 0.12)
    reach = _step(u - 0.45, 0.10)  # the front's inner end is cartilage, which does not show
    edge = 1.0 / np.sqrt(np.clip(1.0 - np.square(u), 0.0, 1.0) + 0.16)
    shown = (rear + front * reach * (1.0 - rear)) * (0.55 + 0.45 * edge)
    return np.asarray(_tube(distance, width) * shown, np.float32)


def _spine(x: Floats, y: Floats, body: Anatomy) -> Floats:
    """Vertebrae: blocks with bright end plates, darker discs, pedicles and spinous processes."""
    pitch = 0.92 * body.ribs
    phase = (y - body.apex) / pitch
    within = phase - np.floor(phase)
    column = _step(body.spine - np.abs(x), 0.022)
    disc = _bump(within - 0.5, 0.13)
    plates = _bump(within - 0.30, 0.07) + _bump(within - 0.70, 0.07)
    near = within - np.round(within)
    pedicles = _bump(np.hypot((np.abs(x) - 0.62 * body.spine) / 0.035, near / 0.20), 1.0)
    process = _bump(np.hypot(x / 0.022, near / 0.30), 1.0)
    blocks = 0.85 - 0.28 * disc + 0.12 * plates + 0.25 * pedicles + 0.18 * process
    return np.asarray(column * blocks, np.float32)


def _clavicles(x: Floats, y: Floats, body: Anatomy, turn: float) -> Floats:
    """Clavicles: S-shaped from the breastbone to the shoulders."""
    across = np.abs(x - turn)
    reach = (across - 0.10) / (0.80 * body.cage)
    arch = body.clavicle_rise * np.sin(0.55 * np.pi * np.clip(reach, 0.0, 1.2))
    curve = body.clavicle - arch + 0.025 * np.sin(2 * np.pi * reach)
    bone = _tube((y - curve) * 0.95, 0.032)
    return bone * _step(reach, 0.03) * _step(1.0 - reach, 0.03)


def _shoulders(x: Floats, y: Floats, body: Anatomy) -> Floats:
    """Humeri and shoulder blades."""
    across = np.abs(x)
    start, end = _arm(body)
    shaft = _tube(_segment(across, y, start, end), 0.042)
    head = 0.75 * _round(_ellipse(across, y, start, (0.085, 0.095)))
    tip = (0.70 * body.cage, -0.08)
    socket = (start[0] - 0.10, start[1] + 0.02)
    inner = (0.56 * body.cage, body.clavicle + 0.08)
    margin = _bump(_segment(across, y, socket, tip), 0.020)
    blade = 0.35 * _step(_triangle(across, y, socket, tip, inner), 0.03)
    return np.asarray(np.maximum(head, shaft) + blade + 0.45 * margin, np.float32)


def _triangle(x: Floats, y: Floats, *corners: Point) -> Floats:
    """Signed distance from the nearest side of a triangle (clockwise on the screen), inside > 0."""
    sides = []
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        length = math.hypot(bx - ax, by - ay)
        sides.append(((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / length)
    return np.asarray(np.minimum.reduce(sides), np.float32)


def _windpipe(x: Floats, y: Floats) -> Floats:
    """Air in the trachea and the two main bronchi."""
    trachea = _step(0.050 - np.abs(x + 0.01), 0.018) * _step(-0.30 - y, 0.03)
    bronchi = _bump(_segment(np.abs(x), y, (0.01, -0.30), (0.19, -0.14)), 0.032)
    return np.asarray(np.maximum(trachea, 0.6 * bronchi), np.float32)


def _abdomen(x: Floats, y: Floats, body: Anatomy) -> Floats:
    """Gas of the stomach under the left dome."""
    size = body.bubble_size
    centre = (0.42 * body.cage, body.base + body.base_drop + 0.06 + 0.5 * size)
    return _step(1.0 - _ellipse(x, y, centre, (size, 0.5 * size), -0.15), 0.25)


# --- textures on the atlas --------------------------------------------------------------------


def _branches(
    rng: Generator, start: Point, angle: float, length: float, width: float
) -> Iterator[tuple[list[Point], float]]:
    """A tree of vessels, branch by branch: points along it, and its width, thinner at each fork."""
    if width < 1.0 / ATLAS_SCALE:
        return  # thinner than a pixel
    bend = _around(rng, 0.0, 0.12)
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


def _vessels(rng: Generator, body: Anatomy) -> Floats:
    """Atlas of the vessels that fan out from both hila, 0 to 1."""
    canvas = Image.new("L", (ATLAS_PIXELS, ATLAS_PIXELS))
    pen = ImageDraw.Draw(canvas)
    for side in (-1.0, 1.0):
        for heading in (-1.3, -0.8, -0.35, 0.2, 0.6, 0.95, 1.25):
            root = (side * _around(rng, 0.22, 0.03), body.hilum + 0.09 * heading)
            angle = _around(rng, heading, 0.12)
            angle = angle if side > 0 else math.pi - angle
            for branch, width in _branches(rng, root, angle, 0.12, rng.uniform(0.018, 0.03)):
                points = [((x + ATLAS) * ATLAS_SCALE, (y + ATLAS) * ATLAS_SCALE) for x, y in branch]
                pen.line(points, fill=int(40 + 6500 * width), width=round(width * ATLAS_SCALE))
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(1.2)), np.float32) / 255.0


def _net(rng: Generator) -> Floats:
    """Atlas of a fine net, the lungs' interstices: ridges of noise at two scales, about 0 to 1."""
    return 0.6 * _bump(_clouds(rng, 75), 0.35) + 0.6 * _bump(_clouds(rng, 40), 0.25)


@dataclass(frozen=True)
class Textures:
    """One patient's atlases, float32 [ATLAS_PIXELS, ATLAS_PIXELS] each."""

    vessels: Floats
    net: Floats
    ragged: Floats  # makes the edges of opacities uneven
    fat: Floats  # makes soft tissue uneven


@lru_cache(maxsize=4)  # a patient's images usually follow each other
def _textures(patient: Patient) -> Textures:
    """Draw a patient's atlases: the slowest part of an image."""
    rng = _rng(patient, "texture")
    body = anatomy(patient)
    return Textures(_vessels(rng, body), _net(rng), _clouds(rng, 16), _clouds(rng, 9))


def _onto(atlas: Floats, x: Floats, y: Floats) -> Floats:
    """Resample an atlas at an image's body coordinates, which are an affine map of its pixels."""
    right = np.array([x[0, 1] - x[0, 0], y[0, 1] - y[0, 0]]) * ATLAS_SCALE
    down = np.array([x[1, 0] - x[0, 0], y[1, 0] - y[0, 0]]) * ATLAS_SCALE
    corner = (np.array([x[0, 0], y[0, 0]]) + ATLAS) * ATLAS_SCALE
    corner -= 0.5 * (right + down)  # the grid names pixel centres, Pillow's map their corners
    matrix = np.stack([right, down, corner], axis=1).ravel().tolist()
    size, affine = (x.shape[1], x.shape[0]), Image.Transform.AFFINE
    moved = Image.fromarray(atlas).transform(size, affine, matrix, Image.Resampling.BILINEAR)
    return np.asarray(moved)


# --- one image --------------------------------------------------------------------------------


def _grid(taken: View) -> tuple[Floats, Floats]:
    """Body coordinates of all pixel centres, float32 [H, W] each."""
    unit = 2 * taken.zoom / taken.height
    columns = (np.arange(taken.width, dtype=np.float32) + 0.5 - taken.width / 2) * unit
    rows = (np.arange(taken.height, dtype=np.float32) + 0.5 - taken.height / 2) * unit
    cos, sin = math.cos(taken.tilt), math.sin(taken.tilt)
    x = cos * columns[None, :] + sin * rows[:, None] + taken.shift_x
    y = -sin * columns[None, :] + cos * rows[:, None] + taken.shift_y
    return x.astype(np.float32), y.astype(np.float32)


def _opacity(found: Disease, x: Floats, y: Floats, ragged: Floats, vessels: Floats) -> Floats:
    """Share of the air that disease replaces, 0 to 1."""
    left = np.full_like(x, 1.0 - found.haze)
    for blob in found.blobs:
        radius = _ellipse(x, y, (blob.x, blob.y), (blob.radius_x, blob.radius_y))
        shape = _step(1.0 - radius + 0.25 * ragged, blob.softness)
        left *= 1.0 - blob.strength * shape * np.clip(0.90 + 0.12 * ragged, 0.0, 1.0)
    bronchograms = 0.5 * vessels  # bronchi run with the vessels and keep their air
    return (1.0 - left) * (1.0 - bronchograms)


def _lungs(patient: Patient, found: Disease, taken: View, x: Floats, y: Floats) -> Floats:
    """Absorption that the lungs' air takes away, vessels and opacities left out."""
    body, textures = _breathing(patient, taken), _textures(patient)
    vessels, net = _onto(textures.vessels, x, y), _onto(textures.net, x, y)
    opacity = _opacity(found, x, y, _onto(textures.ragged, x, y), vessels)
    marks = 0.37 * body.vessels * (1.0 + 0.5 * found.interstitial) * vessels
    marks = np.minimum(marks + (0.045 + 0.16 * found.interstitial) * net, 1.0)
    air = _air(x, y, body, taken.turn) * (1.0 - body.haze) * (1.0 - opacity)
    return body.depth * body.air * air * (1.0 - marks)


def _bones(x: Floats, y: Floats, body: Anatomy, turn: float) -> Floats:
    """Absorption of all bones, added to that of soft tissue."""
    ribs, spine = 0.165 * _ribs(x, y, body), 0.15 * _spine(x, y, body)
    front = 0.17 * _clavicles(x, y, body, turn) + 0.16 * _shoulders(x, y, body)
    return body.bone * (ribs + spine + front)


def _breathing(patient: Patient, taken: View) -> Anatomy:
    """The patient's body, the diaphragm where this image caught it."""
    body = anatomy(patient)
    return replace(body, base=body.base + taken.breath)


def _absorption(patient: Patient, found: Disease, taken: View) -> Floats:
    """Absorption along the ray through each pixel, about 0 (air) to 1.6 (bone in soft tissue)."""
    body, (x, y) = _breathing(patient, taken), _grid(taken)
    soft = _soft_tissue(x, y, body)
    total = soft * (1.0 + 0.025 * _onto(_textures(patient).fat, x, y))
    total -= _lungs(patient, found, taken, x, y)
    total -= 0.16 * _windpipe(x - 0.5 * taken.turn, y) * soft
    total -= body.bubble * _abdomen(x, y, body)
    inside = np.minimum(1.0, 3.0 * soft)  # no bones outside the skin
    return np.asarray(total + inside * _bones(x, y, body, taken.turn), np.float32)


def _develop(absorption: Floats, taken: View, rng: Generator) -> Floats:
    """Tone curve and noise: absorption to grey, 0 to 1."""
    level = (absorption - taken.dark) / (taken.light - taken.dark)
    grain = rng.standard_normal(level.shape, dtype=np.float32)
    level = level + taken.noise * grain * (0.4 + np.clip(level, 0.0, 1.0))
    level = np.power(np.clip(level, 0.0, None), taken.gamma)
    return np.asarray(np.tanh(1.35 * level) / math.tanh(1.35 * 1.15), np.float32)


def _cable(taken: View, rng: Generator) -> Floats:
    """Shadow of a monitor's cable, from the lower edge to an electrode on the chest, 0 to 1."""
    finer = 3  # Pillow's lines have hard edges: draw larger, then shrink
    size = np.array([taken.width, taken.height]) * finer
    start, bend, end = rng.uniform(
        ((0.0, 1.0), (0.0, 0.3), (0.2, 0.2)), ((1.0, 1.05), (1.0, 1.0), (0.8, 0.6))
    )
    t = np.linspace(0.0, 1.0, 40)[:, None]
    curve = (np.square(1 - t) * start + 2 * t * (1 - t) * bend + np.square(t) * end) * size
    canvas = Image.new("L", (int(size[0]), int(size[1])))
    pen = ImageDraw.Draw(canvas)
    thick = max(finer, round(0.008 * size[1]))
    pen.line([tuple(point) for point in curve.tolist()], fill=150, width=thick, joint="curve")
    pen.circle(tuple(curve[-1].tolist()), 2.2 * thick, fill=110, outline=170, width=thick // 2)
    small = canvas.resize((taken.width, taken.height), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255.0


def _lay_on(grey: Floats, taken: View, rng: Generator) -> Grey:
    """Lay a cable and the side marker on the film: they say nothing about the class."""
    if taken.cable:
        cable = _cable(taken, rng)
        grey = grey + cable * (1.0 - grey)
    picture = Image.fromarray((np.clip(grey, 0.0, 1.0) * 255).round().astype(np.uint8))
    if taken.marker:
        place = (0.02 * taken.width, rng.uniform(0.05, 0.5) * taken.height)
        font = ImageFont.load_default(size=max(6, round(0.07 * taken.height)))
        ink = int(rng.integers(215, 250))
        ImageDraw.Draw(picture).text(place, "R", fill=ink, font=font)
    return np.asarray(picture)


def draw(
    patient: Patient,
    image: int,
    *,
    size_range: tuple[int, int] = SIZE_RANGE,
    opacities: bool = True,
) -> Grey:
    """Draw one X-ray.

    Args:
        patient: Who is X-rayed.
        image: Number of the image, from 0: another pose, size and exposure of the same body.
        size_range: Shortest and longest side in pixels.
        opacities: False leaves the disease out and everything else, noise included, as it is.

    Returns:
        Grey values, uint8 [H, W], 0 to 255.
    """
    taken = view(patient, image, size_range)
    found = disease(patient, image) if opacities else HEALTHY
    grey = _develop(_absorption(patient, found, taken), taken, _rng(patient, "noise", image))
    return _lay_on(grey, taken, _rng(patient, "film", image))


# --- which files there are --------------------------------------------------------------------


def plan(seed: int = 0, images: int = IMAGES) -> list[Film]:
    """Say which files the archive holds; nothing is drawn.

    Args:
        seed: 0 or more; another seed gives other patients and other names.
        images: Number of files, MIN_IMAGES or more.

    Returns:
        The films, sorted by path. Both official parts hold both classes and both subtypes, the
        two classes hold RGB files, and one pair of films shares body and image.

    Raises:
        InputError: Where `images` is too small or `seed` is negative.
    """
    if images < MIN_IMAGES:
        message = f"images must be {MIN_IMAGES} or more, so that every kind is there; got {images}"
        raise InputError(message)
    if seed < 0:
        message = f"seed must be 0 or more, got {seed}"
        raise InputError(message)
    rng = generator(seed, "phantom", "plan")
    films = _normal_films(rng, seed, images) + _pneumonia_films(rng, seed, images)
    return sorted(_with_rgb(rng, films), key=lambda film: film.path)


def _quotas(images: int) -> dict[tuple[Kind, Official], int]:
    """Number of files of each kind in each official part."""
    normal = round(NORMAL_SHARE * images)
    bacteria = round(BACTERIA_SHARE * (images - normal))
    totals: dict[Kind, int] = {
        "normal": normal,
        "bacteria": bacteria,
        "virus": images - normal - bacteria,
    }
    quotas: dict[tuple[Kind, Official], int] = {}
    for kind, total in totals.items():
        test = max(1, round(TEST_SHARE * total))
        quotas[kind, "train"], quotas[kind, "test"] = total - test, test
    return quotas


def _images_a_patient(rng: Generator, quota: int) -> list[int]:
    """Split a quota over patients: most have one image, the first and some others several."""
    most = min(MAX_IMAGES_A_PATIENT, max(2, quota // 3))
    counts: list[int] = []
    while (left := quota - sum(counts)) > 0:
        several = not counts or rng.random() < 0.3
        counts.append(min(left, int(rng.integers(2, most + 1)) if several else 1))
    return counts


def _normal_films(rng: Generator, seed: int, images: int) -> list[Film]:
    """Films of healthy patients, with the pair of pixel-equal files in the train part.

    As in Kermany's set, the numbers after `IM-` and `NORMAL2-IM-` overlap: other patients.
    """
    quotas, films = _quotas(images), []
    numbers = iter(_spread(rng, images, 9).tolist())
    parts: list[tuple[Official, list[int]]] = [
        ("train", _images_a_patient(rng, quotas["normal", "train"] - 2)),
        ("test", _images_a_patient(rng, quotas["normal", "test"])),
    ]
    number = 0
    for official, counts in parts:
        for index, count in enumerate(counts):
            second = index % 2 == 1
            number = number if second and index % 6 == 1 else next(numbers)
            patient = Patient("normal", f"{'NORMAL2-' if second else ''}IM-{number:04d}", seed)
            films += [
                Film(
                    _normal_path(patient.name, official, image, index, count),
                    patient,
                    image,
                    "L",
                    official,
                )
                for image in range(count)
            ]
    number = next(numbers)
    twin = Patient("normal", f"NORMAL2-IM-{number:04d}", seed)
    # `_spread` leaves the next number free. Kermany's pair is NORMAL2-IM-0095 and NORMAL2-IM-0096
    for name in (twin.name, f"NORMAL2-IM-{number + 1:04d}"):
        films.append(Film(_normal_path(name, "train", 0, 0, 1), twin, 0, "L", "train"))
    return films


def _spread(rng: Generator, count: int, step: int) -> NDArray[np.int64]:
    """Rising numbers from 1 with random gaps of 2 to `step`."""
    return np.cumsum(rng.integers(2, step + 1, size=count)) - 1


def _normal_path(name: str, official: Official, image: int, index: int, count: int) -> str:
    """Path of a healthy patient's image; some patients' images carry two trailing numbers."""
    if count == 1:
        tail = "0001"
    elif index % 3 == 0:
        tail = f"0001-{image + 1:04d}"
    else:
        tail = f"{image + 1:04d}"
    return f"chest_xray/{official}/NORMAL/{name}-{tail}.jpeg"


def _pneumonia_films(rng: Generator, seed: int, images: int) -> list[Film]:
    """Films of sick patients; some person numbers name one patient of each germ."""
    quotas, films = _quotas(images), []
    people = rng.permutation(_spread(rng, 2 * images, 6)).tolist()
    bacterial: list[int] = []
    for kind in ("bacteria", "virus"):
        file_number = 0
        for official in ("train", "test"):
            counts = _images_a_patient(rng, quotas[kind, official])
            for index, count in enumerate(counts):
                shared = kind == "virus" and index % 4 == 0
                # From the front: patients of the train part, so a test patient shares a number too
                person = bacterial.pop(0) if shared and bacterial else people.pop()
                if kind == "bacteria":
                    bacterial.append(person)
                patient = Patient(kind, f"person{person}_{kind}", seed)
                for image in range(count):
                    file_number += int(rng.integers(1, 4))
                    path = f"chest_xray/{official}/PNEUMONIA/{patient.name}_{file_number}.jpeg"
                    films.append(Film(path, patient, image, "L", official))
    return films


def _with_rgb(rng: Generator, films: list[Film]) -> list[Film]:
    """Make a few films of both classes RGB, in the classes' own ratio; never the duplicates."""
    total = max(2, round(RGB_SHARE * len(films)))
    shares = {True: max(1, round(NORMAL_SHARE * total))}
    shares[False] = total - shares[True]
    drawn = [(film.patient, film.image) for film in films]
    chosen: set[str] = set()
    for normal, share in shares.items():
        paths = sorted(
            film.path
            for film in films
            if (film.patient.kind == "normal") == normal
            and drawn.count((film.patient, film.image)) == 1
        )
        chosen.update(rng.choice(paths, share, replace=False).tolist())
    return [replace(film, mode="RGB") if film.path in chosen else film for film in films]


# --- the archive ------------------------------------------------------------------------------


def encode(film: Film, size_range: tuple[int, int] = SIZE_RANGE) -> bytes:
    """Draw a film and compress it.

    Args:
        film: What to draw, and whether as grey or as RGB.
        size_range: Shortest and longest side in pixels.

    Returns:
        The JPEG file's bytes.
    """
    picture = Image.fromarray(draw(film.patient, film.image, size_range=size_range))
    stream = io.BytesIO()
    picture.convert(film.mode).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


def write_archive(
    path: str | Path,
    seed: int = 0,
    images: int = IMAGES,
    size_range: tuple[int, int] = SIZE_RANGE,
) -> list[Film]:
    """Draw all films and write them as one stored zip.

    The same arguments give the same bytes with the same NumPy and Pillow on the same kind of CPU;
    elsewhere a grey value may differ by one where a sum is rounded the other way.

    Args:
        path: Where to write; an archive that stands there is replaced once the new one is whole.
        seed: 0 or more.
        images: Number of files, MIN_IMAGES or more.
        size_range: Shortest and longest side in pixels, MIN_SIDE or more.

    Returns:
        What `plan` gives: the films, in the archive's order.

    Raises:
        InputError: Where an argument is outside its range or the path cannot be written.
    """
    short, long = size_range
    if not MIN_SIDE <= short <= long:
        message = f"size_range must be {MIN_SIDE} <= shortest <= longest, got {short} and {long}"
        raise InputError(message)
    films = plan(seed, images)
    with replacing(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for film in tqdm(films, desc="drawing phantoms", unit="image", disable=None):
            entry = zipfile.ZipInfo(film.path, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, encode(film, size_range))
    return films


def main(argv: Sequence[str] | None = None) -> None:
    """Write the sample archive from the command line.

    Args:
        argv: Arguments; the process's own where None.
    """
    parser = argparse.ArgumentParser(
        prog="python -m cxr.phantom",
        description="Draw synthetic chest X-rays into a zip with the layout of Kermany's data set.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("data/phantoms.zip"), help="zip to write")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other patients")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"files, at least {MIN_IMAGES}")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("SHORTEST", "LONGEST"),
        default=SIZE_RANGE,
        help="limits of an image's sides in pixels",
    )
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        films = write_archive(given.out, given.seed, given.images, tuple(given.size))
    except InputError as error:
        parser.error(str(error))
    normal = sum(film.patient.kind == "normal" for film in films)
    logger.info(
        "%s: %d images (%d NORMAL, %d PNEUMONIA) of %d patients, %d bytes, sha256 %s",
        given.out,
        len(films),
        normal,
        len(films) - normal,
        len({film.patient for film in films}) + 1,  # the duplicate goes by a name of its own
        given.out.stat().st_size,
        file_sha256(given.out),
    )


if __name__ == "__main__":
    main()
