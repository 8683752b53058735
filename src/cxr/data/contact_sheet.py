"""The contact sheet: a few cached X-rays of each split and class, for a visual check."""

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from cxr.data import image
from cxr.labels import CLASSES, SPLITS

SIDE = 160  # side of an X-ray in pixels
GAP = 8  # pixels between X-rays
CAPTION = 14  # pixels above an X-ray, for its id


def draw(images: np.ndarray, index: pd.DataFrame, columns: int = 4) -> Image.Image:
    """Return a sheet with one row per split and class, and the id above each X-ray.

    Args:
        images: uint8 [n, size, size].
        index: id, label and split, one row per image.
        columns: X-rays per row, spaced evenly over the images of that split and class.

    Returns:
        A grey image (mode L).
    """
    rows = [(split, label) for split in SPLITS for label in range(len(CLASSES))]
    size = (columns * (SIDE + GAP) + GAP, len(rows) * (SIDE + CAPTION + GAP) + GAP)
    sheet = Image.new("L", size, 255)
    drawing = ImageDraw.Draw(sheet)
    for row, (split, label) in enumerate(rows):
        places = np.flatnonzero((index["split"] == split) & (index["label"] == label))
        spread = np.linspace(0, len(places) - 1, min(columns, len(places))).astype(int)
        for column, place in enumerate(places[spread]):
            x, y = GAP + column * (SIDE + GAP), GAP + row * (SIDE + CAPTION + GAP)
            xray = Image.fromarray(images[place]).resize((SIDE, SIDE), image.SMOOTH)
            sheet.paste(xray, (x, y + CAPTION))
            name = index["id"].iloc[place].split("/")[-1]
            drawing.text((x, y), f"{split} {name}"[:27], fill=0)
    return sheet
