"""Registration: the scale and place of a picture that was made with known ones."""

import numpy as np
import pytest

from cxr.audit import geometry
from tests.audit.made import chest

TEMPLATE = chest().astype("float32")


def framed(**how: float) -> tuple[float, ...]:
    return geometry.parts(geometry.registered(chest(**how).astype("float32"), TEMPLATE))


class TestRegistered:
    @pytest.mark.parametrize(
        ("how", "expected"),
        [
            ({}, (1, 1, 1, 0, 0)),
            ({"width": 1.2}, (1.2, 1, 1.2, 0, 0)),
            ({"height": 0.9}, (1, 0.9, 1 / 0.9, 0, 0)),
            ({"right": 0.06}, (1, 1, 1, 0.06, 0)),
            ({"width": 1.1, "height": 1.1, "right": -0.04}, (1.1, 1.1, 1, -0.04, 0)),
        ],
    )
    def test_finds_the_scales_and_the_shift(self, how, expected):
        assert framed(**how) == pytest.approx(expected, abs=0.02)

    def test_ignores_brightness_and_contrast(self):
        small = chest(width=1.15).astype("float32")
        found = geometry.parts(geometry.registered(small / 2 + 30, TEMPLATE))
        assert found == pytest.approx(framed(width=1.15), abs=0.02)

    def test_of_a_constant_picture_or_template_fails(self):
        constant = np.full((64, 64), 9, "float32")
        assert geometry.registered(constant, TEMPLATE) is None
        assert geometry.registered(TEMPLATE, constant) is None

    def test_of_a_negative_fails(self):
        found = geometry.parts(geometry.registered(255 - TEMPLATE, TEMPLATE))
        assert np.isnan(found).all()


class TestParts:
    def test_rotation_and_shear_leave_the_scales(self):
        angle, shear = 0.3, 0.2
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([1.2, 0.8])
        centre = np.full(2, 31.5)
        affine = np.column_stack([linear, centre - linear @ centre + [6.4, -3.2]])
        assert geometry.parts(affine) == pytest.approx((1.2, 0.8, 1.5, 0.1, -0.05))

    @pytest.mark.parametrize("scale", [0.0, 0.4, 2.5, -1.0])
    def test_of_a_failed_registration_are_nan(self, scale):
        affine = np.column_stack([np.diag([1.0, scale]), np.zeros(2)])
        assert np.isnan(geometry.parts(affine)).all()


class TestMeasure:
    def test_registers_to_the_mean_of_the_training_images(self):
        images = np.stack([chest(224), chest(224), chest(224, width=1.2)])
        found = geometry.measure(images, np.array([0, 1]))
        assert list(found.columns) == list(geometry.COLUMNS)
        assert found["scale_x"].tolist() == pytest.approx([1, 1, 1.2], abs=0.03)

    def test_of_constant_images_or_without_training_images_is_nan(self):
        images = np.zeros((2, 8, 8), "uint8")
        assert geometry.measure(images, np.array([0, 1])).isna().all(axis=None)
        assert geometry.measure(chest()[None], np.array([], int)).isna().all(axis=None)
