"""Perceptual hashes: 64 bits that change little when an image is re-encoded, resized or dimmed."""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.fft import dctn

from cxr.data import image

SIDE = 32  # pixels of the thumbnail whose frequencies are compared
LOW = 8  # frequencies in each direction: 64 bits
BLOCK = 2**22  # pairs whose distance is in memory at once


def thumbnails(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Shrink some images to 32 x 32 by area.

    Args:
        images: uint8 [n, size, size], such as the memory-mapped cache; read one at a time.
        rows: [m], places of images.

    Returns:
        uint8 [m, 32, 32].
    """
    found = np.empty((len(rows), SIDE, SIDE), "uint8")
    for place, row in enumerate(rows):
        small = Image.fromarray(images[row]).resize((SIDE, SIDE), image.SMOOTH)
        found[place] = np.asarray(small)
    return found


def hashes(small: np.ndarray) -> np.ndarray:
    """Return the pHash of each thumbnail.

    A bit is set where one of the 8 x 8 lowest frequencies of the discrete cosine transform is above
    their median (Zauner 2010, "Implementation and benchmarking of perceptual image hash
    functions").

    Args:
        small: uint8 [n, 32, 32], from :func:`thumbnails`.

    Returns:
        uint64 [n].
    """
    found = np.empty(len(small), ">u8")
    for start in range(0, len(small), 1000):
        part = small[start : start + 1000].astype("float32")
        low = dctn(part, axes=(1, 2))[:, :LOW, :LOW].reshape(len(part), -1)
        bits = low > np.median(low, axis=1, keepdims=True)
        found[start : start + 1000] = np.packbits(bits, axis=1).view(">u8")[:, 0]
    return found.astype("uint64")


def pairs(found: np.ndarray, most: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the pairs of images whose hashes differ in at most ``most`` bits, block by block.

    Args:
        found: uint64 [n].
        most: 0 to 64.

    Yields:
        The places of the first and of the second image, first < second, and their distance.
    """
    rows = max(1, BLOCK // max(1, len(found)))
    for start in range(0, len(found), rows):
        distance = np.bitwise_count(found[start : start + rows, np.newaxis] ^ found[start:])
        one, other = np.nonzero(distance <= most)
        above = one < other
        yield one[above] + start, other[above] + start, distance[one[above], other[above]]
