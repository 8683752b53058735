"""What the edge of a picture shows beside the patient: its border, black bars and markers."""

import numpy as np
import pandas as pd
from scipy import ndimage

from cxr.data import threads

RIM = 0.04  # width of the border, as a fraction of the side
BLACK = 8  # mean grey value, of 255, of a row or column that is still a bar; JPEG noise has a few
BRIGHT = 200  # grey value of a marker's pixels: white, blurred by resizing
CONTRAST = 100  # grey values by which a marker is brighter than what surrounds it; bones are not
NEAR = 0.25  # a marker's centre is at most this far from an edge, as a fraction of the side
WIDEST = 0.2  # side of the box around a marker, as a fraction of the side
# A marker's area as a fraction of the picture: from a stroke of a letter to a plate with a name.
SIZES = (1e-4, 1e-2)
# The markers of an image are large from this area on: the bold R of one scanner of Kermany's set.
LARGE = 5e-4

BORDER = ("rim_mean", "rim_spread", "black_left", "black_right", "black_top", "black_bottom")
MARKERS = ("markers", "marker_area", "largest_marker", "marker_x", "marker_y")


def measure(images: np.ndarray) -> pd.DataFrame:
    """Measure the border and the markers of every image.

    Args:
        images: uint8 [n, size, size], the cache.

    Returns:
        One row per image: the columns :data:`BORDER`, then :data:`MARKERS`. Grey values, widths and
        areas are fractions of 255, of the side and of the picture. ``marker_x`` and ``marker_y``,
        the centre of the largest marker, are NaN where there is none.
    """
    found = threads.parallel_map(lambda row: _measured(images[row]), range(len(images)), "borders")
    return pd.DataFrame(found, columns=[*BORDER, *MARKERS])


def large_markers(measured: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """List the images with large markers.

    Args:
        measured: from :func:`measure`.
        manifest: id, split and label of the same images, in the same order.

    Returns:
        id, split, label and marker_area of each.
    """
    areas = measured["marker_area"].to_numpy()
    found = manifest[["id", "split", "label"]].assign(marker_area=areas)
    return found[areas >= LARGE].reset_index(drop=True)


def border(pixels: np.ndarray) -> tuple[float, ...]:
    """Return the mean and standard deviation of the rim, and the widths of the black bars.

    Args:
        pixels: uint8 [size, size].
    """
    side = len(pixels)
    rim = max(1, round(RIM * side))
    inside = np.zeros(pixels.shape, bool)
    inside[rim : side - rim, rim : side - rim] = True
    edge = pixels[~inside] / 255
    columns, rows = pixels.mean(axis=0), pixels.mean(axis=1)
    bars = [_leading(line) / side for line in (columns, columns[::-1], rows, rows[::-1])]
    return float(edge.mean()), float(edge.std()), *bars


def markers(pixels: np.ndarray) -> tuple[float, ...]:
    """Return the number, the area and the largest of the markers near the edges, and where it is.

    A marker, such as the letter R or a plate, is a connected component of white pixels on a dark
    ground.

    Args:
        pixels: uint8 [size, size].
    """
    side = len(pixels)
    components, _ = ndimage.label(pixels >= BRIGHT, structure=np.ones((3, 3)))
    areas = np.bincount(components.ravel())
    boxes = ndimage.find_objects(components)
    sized = (areas >= SIZES[0] * pixels.size) & (areas <= SIZES[1] * pixels.size)
    found = []  # area, x and y of each
    for number in (np.flatnonzero(sized[1:]) + 1).tolist():
        box = boxes[number - 1]
        y, x = ((part.start + part.stop) / 2 / side for part in box)
        small = max(part.stop - part.start for part in box) <= WIDEST * side
        near = min(x, y, 1 - x, 1 - y) <= NEAR
        if small and near and _on_dark_ground(pixels, components, number, box):
            found.append((areas[number] / pixels.size, x, y))
    if not found:
        return 0.0, 0.0, 0.0, np.nan, np.nan
    largest, x, y = max(found)
    return float(len(found)), float(sum(area for area, _, _ in found)), float(largest), x, y


def _on_dark_ground(
    pixels: np.ndarray, components: np.ndarray, number: int, box: tuple[slice, ...]
) -> bool:
    """Return whether a component is far brighter than the rest of its box, made wider by 2."""
    wider = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in box)
    inside, around = components[wider] == number, pixels[wider]
    ground = around[~inside]
    return bool(len(ground)) and bool(around[inside].mean() - ground.mean() >= CONTRAST)


def _measured(pixels: np.ndarray) -> tuple[float, ...]:
    return border(pixels) + markers(pixels)


def _leading(lines: np.ndarray) -> int:
    """Return how many lines from the first on are black; all of them in a black picture."""
    light = np.flatnonzero(lines > BLACK)
    return int(light[0]) if len(light) else len(lines)
