"""Hashes of files and of pixels."""

import hashlib
import os
from pathlib import Path

import numpy as np


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bytes_sha256(data: bytes) -> str:
    """Return the SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def pixel_hash(pixels: np.ndarray) -> str:
    """Return a hash that is equal for two images exactly where size and pixels are.

    Args:
        pixels: uint8 array, [height, width], grey.

    Returns:
        The first 32 hexadecimal digits (128 bits) of a SHA-256 over the shape and the pixels.
    """
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()[:32]
