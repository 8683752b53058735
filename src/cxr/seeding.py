"""Random draws that depend on the seed and their purpose alone.

Global generators have hidden state, so their numbers change after a resumed run, with another order
of threads, or with one more draw elsewhere. Here every draw depends on the seed and its purpose
alone: ``generator(seed, "augment", epoch, step)``.
"""

import hashlib

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the generator for one purpose.

    Args:
        seed: ``seed`` of params.yaml, 0 or more.
        *purpose: names and counters that identify the draws.

    Returns:
        A NumPy generator: equal for equal arguments, independent of all others.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, *map(_entropy, purpose)]))


def derive(seed: int, *purpose: str | int) -> int:
    """Return an integer seed in [0, 2**31) for a library that needs one (Keras)."""
    return int(generator(seed, *purpose).integers(2**31))


def _entropy(part: str | int) -> int:
    """Map a part of a purpose to an integer of 64 bits, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(part).encode()).digest()[:8], "big")
