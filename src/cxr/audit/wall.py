"""The wall of suspects: the X-rays whose labels a model contradicts, to be looked at."""

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from cxr.data import image
from cxr.labels import CLASSES

SIDE = 200  # of an X-ray in pixels
GAP = 8  # pixels between X-rays
CAPTION = 28  # pixels above an X-ray, for two lines
COLUMNS = 6
MOST = 48  # X-rays on the wall; the table has all
CUT = 32  # characters of a line


def draw(images: np.ndarray, index: pd.DataFrame, suspects: pd.DataFrame) -> Image.Image:
    """Return the first suspects in rows, with label, probability and id above each.

    Args:
        images: uint8 [n, size, size], the cache.
        index: id of each image, in the same order.
        suspects: id, split, label and probability, from :func:`cxr.audit.suspects.find`.

    Returns:
        A grey image (mode L); without suspects one line of text.
    """
    shown = suspects.head(MOST)
    if shown.empty:
        empty = Image.new("L", (COLUMNS * (SIDE + GAP), CAPTION + GAP), 255)
        ImageDraw.Draw(empty).text((GAP, GAP), "no suspects", fill=0)
        return empty
    rows = -(-len(shown) // COLUMNS)
    size = (COLUMNS * (SIDE + GAP) + GAP, rows * (SIDE + CAPTION + GAP) + GAP)
    wall = Image.new("L", size, 255)
    drawing = ImageDraw.Draw(wall)
    places = {name: place for place, name in enumerate(index["id"])}
    columns = (shown[name] for name in ("id", "label", "probability", "split"))
    for number, (name, label, probability, split) in enumerate(zip(*columns, strict=True)):
        row, column = divmod(number, COLUMNS)
        x, y = GAP + column * (SIDE + GAP), GAP + row * (SIDE + CAPTION + GAP)
        xray = Image.fromarray(images[places[name]]).resize((SIDE, SIDE), image.SMOOTH)
        wall.paste(xray, (x, y + CAPTION))
        drawing.text((x, y), f"{CLASSES[label]}, model {probability:.3f}, {split}", fill=0)
        drawing.text((x, y + CAPTION // 2), name.split("/")[-1][-CUT:], fill=0)
    return wall
