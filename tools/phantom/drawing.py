"""One X-ray: the body in layers of absorption, then exposure, noise, cable and marker."""

import math
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tools.phantom import anatomy, bones, disease, organs, shadows, shapes, textures, view
from tools.phantom.anatomy import Anatomy
from tools.phantom.disease import HEALTHY, Disease
from tools.phantom.patient import Patient, draws
from tools.phantom.shapes import Floats
from tools.phantom.textures import Textures
from tools.phantom.view import SIZE_RANGE, View

Grey = NDArray[np.uint8]


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
    taken = view.of(patient, image, size_range)
    found = disease.of(patient, image) if opacities else HEALTHY
    grey = _develop(_absorption(patient, found, taken), taken, draws(patient, "noise", image))
    return _with_overlays(grey, taken, draws(patient, "overlays", image))


def _absorption(patient: Patient, found: Disease, taken: View) -> Floats:
    """Absorption along the ray through each pixel, about 0 (air) to 1.6 (bone in soft tissue)."""
    body, (x, y) = _breathing(patient, taken), view.grid(taken)
    soft = organs.soft_tissue(x, y, body)
    total = soft * (1.0 + 0.025 * textures.onto(textures.of(patient).fat, x, y))
    total -= _lungs(patient, found, taken, x, y)
    total -= 0.16 * organs.windpipe(x - 0.5 * taken.turn, y) * soft
    total -= body.bubble * organs.abdomen(x, y, body)
    inside = np.minimum(1.0, 3.0 * soft)  # no bones outside the skin
    return np.asarray(total + inside * bones.bones(x, y, body, taken.turn), np.float32)


def _breathing(patient: Patient, taken: View) -> Anatomy:
    """The patient's body, the diaphragm where this image caught it."""
    body = anatomy.of(patient)
    return replace(body, base=body.base + taken.breath)


def _lungs(patient: Patient, found: Disease, taken: View, x: Floats, y: Floats) -> Floats:
    """Absorption that the lungs' air takes away, where nothing has replaced it."""
    body, atlas = _breathing(patient, taken), textures.of(patient)
    vessels, net = textures.onto(atlas.vessels, x, y), textures.onto(atlas.net, x, y)
    opacity = _opacity(found, atlas, x, y) * (1.0 - 0.5 * vessels)  # bronchi keep their air
    shadow = shadows.share(shadows.of(patient), x, y)
    marks = 0.37 * body.vessels * (1.0 + 0.5 * found.interstitial) * vessels
    marks = np.minimum(marks + (0.045 + 0.16 * found.interstitial) * net, 1.0)
    left = (1.0 - body.haze) * (1.0 - opacity) * (1.0 - shadow) * (1.0 - marks)
    return body.depth * body.air * organs.air(x, y, body, taken.turn) * left


def _opacity(found: Disease, atlas: Textures, x: Floats, y: Floats) -> Floats:
    """Share of the air that disease replaces, 0 to 1: in patches, as airspaces fill one by one."""
    ragged = textures.onto(atlas.ragged, x, y)
    filled = 0.05 + 0.95 * shapes.step(textures.onto(atlas.airspaces, x, y), 0.75)
    left = np.full_like(x, 1.0 - found.haze)
    for one in found.blobs:
        radius = shapes.ellipse(x, y, (one.x, one.y), (one.radius_x, one.radius_y))
        left *= 1.0 - one.strength * filled * shapes.step(
            1.0 - radius + 0.25 * ragged, one.softness
        )
    return 1.0 - left


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


def _with_overlays(grey: Floats, taken: View, rng: Generator) -> Grey:
    """Draw a cable and the side marker over an image: neither depends on the class."""
    if taken.cable:
        cable = _cable(taken, rng)
        grey = grey + cable * (1.0 - grey)
    image = Image.fromarray((np.clip(grey, 0.0, 1.0) * 255).round().astype(np.uint8))
    if taken.marker:
        place = (0.02 * taken.width, rng.uniform(0.05, 0.5) * taken.height)
        font = ImageFont.load_default(size=max(6, round(0.07 * taken.height)))
        ink = int(rng.integers(215, 250))
        ImageDraw.Draw(image).text(place, "R", fill=ink, font=font)
    return np.asarray(image)
