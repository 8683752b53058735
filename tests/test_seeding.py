"""Draws depend on the seed and their purpose, and on nothing else."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from cxr import seeding

PURPOSES = [
    (),
    ("augment",),
    ("augment", 0),
    ("augment", 0, 0),
    ("augment", 0, 1),
    ("augment", 1, 0),
    ("augment", "0"),
    ("augment0",),
    ("split", "val", 0),
    ("split", "test", 0),
    (0,),
    ("",),
    (-1,),
    (2**40,),
]


def draws(*arguments: str | int) -> tuple[int, ...]:
    return tuple(seeding.generator(*arguments).integers(2**62, size=4))


def test_the_same_purpose_gives_the_same_draws():
    assert draws(0, "augment", 3, 7) == draws(0, "augment", 3, 7)


def test_every_other_purpose_and_seed_gives_other_draws():
    found = {draws(seed, *purpose) for purpose in PURPOSES for seed in (0, 1, 2**32, 2**70)}
    assert len(found) == 4 * len(PURPOSES)


def test_draws_do_not_follow_each_other():
    """Neighbouring steps are as unrelated as any two: no correlation beyond chance."""
    steps = np.array([seeding.generator(0, "augment", step).normal(size=500) for step in range(20)])
    related = np.corrcoef(steps) - np.eye(20)
    assert np.abs(related).max() < 5 / np.sqrt(500)
    assert steps.mean() == pytest.approx(0, abs=0.05)


def test_neither_reads_nor_changes_global_state():
    expected = draws(0, "split")
    np.random.seed(123)
    random.seed(123)
    before = np.random.get_state()[1].copy(), random.getstate()
    assert draws(0, "split") == expected
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert random.getstate() == before[1]


def test_does_not_depend_on_the_process():
    """Python salts its own hash of text anew in every process."""
    code = "from cxr import seeding; print(seeding.derive(0, 'split', 'val'))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}
    other = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert int(other) == seeding.derive(0, "split", "val")


def test_a_derived_seed_never_changes():
    """A change here changes every split, weight and augmentation of every user."""
    assert seeding.derive(0, "split", "val", 1) == 2093622321


def test_an_integer_seed_is_in_kerass_range_and_depends_on_the_purpose():
    found = [seeding.derive(0, "weights", number) for number in range(200)]
    assert len(set(found)) == 200
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in found)
    assert max(found) > 2**30
