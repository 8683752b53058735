"""The body of a patient: lengths and absorptions, and the outlines that follow from them.

Body coordinates: x grows to the image's right (the patient's left), y downwards; the rib cage is
about 2 wide, the lungs reach from about -0.8 (apex) to 0.5 (diaphragm).
"""

import math
from dataclasses import dataclass

import numpy as np

from tools.phantom.patient import Patient, around, draws
from tools.phantom.shapes import Floats, Point


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


def of(patient: Patient) -> Anatomy:
    """Draw a patient's body.

    Args:
        patient: Whose body; its kind has no influence, so healthy and sick bodies are alike.

    Returns:
        The same anatomy at each call.
    """
    rng = draws(patient, "anatomy")
    raised = rng.random() < 0.35
    return Anatomy(
        cage=around(rng, 0.92, 0.05),
        apex=around(rng, -0.80, 0.03),
        base=around(rng, 0.46, 0.06),
        base_drop=around(rng, 0.05, 0.02),
        dome=around(rng, 0.16, 0.03),
        wall=around(rng, 0.13, 0.03),
        depth=around(rng, 1.0, 0.05),
        air=around(rng, 0.66, 0.04),
        haze=float(rng.beta(1.2, 5.0)) * 0.35,
        heart=around(rng, 1.0, 0.08),
        heart_turn=around(rng, 0.75, 0.12),
        hilum=around(rng, -0.12, 0.03),
        mediastinum=around(rng, 0.17, 0.025),
        spine=around(rng, 0.105, 0.008),
        bone=around(rng, 1.0, 0.13),
        ribs=around(rng, 0.140, 0.008),
        rib_drop=around(rng, 0.44, 0.05),
        rib_width=around(rng, 0.027, 0.003),
        clavicle=around(rng, -0.70, 0.03),
        clavicle_rise=around(rng, 0.09, 0.035),
        arm_angle=around(rng, 2.5, 0.2) if raised else around(rng, 0.45, 0.15),
        arm=around(rng, 0.25, 0.025),
        vessels=around(rng, 1.0, 0.2),
        bubble=max(0.0, around(rng, 0.10, 0.10)),
        bubble_size=around(rng, 0.19, 0.05),
    )


def cage(y: Floats, body: Anatomy) -> Floats:
    """Inner half-width of the rib cage at a height: a dome that grows steep towards the base."""
    down = np.clip((y - body.apex) / (body.base + 0.25 - body.apex), 0.0, 1.0)
    return np.asarray(body.cage * np.power(1.0 - np.power(1.0 - down, 2.6), 0.52), np.float32)


def arm(body: Anatomy) -> tuple[Point, Point]:
    """Both ends of the left upper arm, the shoulder joint first."""
    shoulder = (body.cage * 0.92, -0.66)
    length = 2.6  # beyond the image: no elbow shows
    return shoulder, (
        shoulder[0] + length * math.sin(body.arm_angle),
        shoulder[1] + length * math.cos(body.arm_angle),
    )
