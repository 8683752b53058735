"""The gallery: a network's most confident decisions, right and wrong, with their Grad-CAM maps."""

import functools
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cxr.labels import CLASSES

PER_CELL = 3
# (cell, label, whether the prediction is PNEUMONIA, heading), top to bottom.
CELLS = (
    ("TP", 1, True, "True positives"),
    ("TN", 0, False, "True negatives"),
    ("FP", 0, True, "False positives"),
    ("FN", 1, False, "False negatives"),
)
COLUMNS = (
    "cell", "id", "label", "probability", "confidence", "highest", "left", "top", "width", "height",
)  # fmt: skip

SIDE = 224  # side of an X-ray in pixels
GAP, MARGIN = 20, 24  # pixels between tiles, and around all
HEADING, CAPTION, LEGEND = 34, 44, 118  # heights in pixels
TILE = 2 * SIDE + 4  # width of an X-ray and its overlay
# Dark, as X-rays are read: a bright page dazzles, and faint shadows are missed.
PAPER, INK, MUTED, OUTLINE = (14, 17, 22), (231, 234, 238), (163, 173, 184), (255, 255, 255)
# Viridis is read alike with every kind of colour blindness: it also becomes steadily brighter.
COLOURS = "viridis"
OPACITY = 0.6  # of the highest value; 0 is transparent
EXPLANATION = (
    "Left the X-ray as the network sees it, right the same under its Grad-CAM map: where the "
    "network sees evidence of PNEUMONIA.",
    "Each map has its own colours, from 0 (none) to its highest value, which is given in log-odds; "
    "the white line is half of it.",
    "Colours of two images compare only through these values. Predicted PNEUMONIA: a probability "
    "of at least {threshold:.4g}.",
)


def draw(
    images: np.ndarray, maps: np.ndarray, test: pd.DataFrame, threshold: float
) -> tuple[Image.Image, pd.DataFrame]:
    """Draw the most confident images of each cell of the confusion matrix.

    Args:
        images: uint8 [n, size, size], the test set.
        maps: float [n, h, w], 0 or more: evidence for PNEUMONIA.
        test: id, label and probability of each image.
        threshold: an image at or above it counts as PNEUMONIA.

    Returns:
        A picture (mode RGB), with the X-ray, the X-ray under its map, id and probability of each
        image; and a table with a row for each: ``cell`` (TP, TN, FP or FN), ``id``, ``label``,
        ``probability``, ``confidence`` (``high``: those farthest from the threshold), ``highest``
        (the map's highest value), and the tile in the picture: ``left``, ``top``, ``width`` and
        ``height`` in pixels.
    """
    row_height = HEADING + SIDE + CAPTION
    width = 2 * MARGIN + PER_CELL * TILE + (PER_CELL - 1) * GAP
    picture = Image.new("RGB", (width, MARGIN + len(CELLS) * (row_height + GAP) + LEGEND), PAPER)
    drawing, rows = ImageDraw.Draw(picture), []
    for number, (cell, label, positive, heading) in enumerate(CELLS):
        y = MARGIN + number * (row_height + GAP)
        chosen, count = most_confident(test, label, positive, threshold)
        total = int((test["label"] == label).sum())
        predicted = CLASSES[int(positive)]
        text = f"{heading} ({cell}): {CLASSES[label]}, predicted {predicted}"
        _write(drawing, (MARGIN, y), text, INK, 18)
        _write(drawing, (width - MARGIN, y + 4), f"{count} of {total} images", MUTED, 15, "ra")
        if not len(chosen):
            _write(drawing, (MARGIN, y + HEADING), "No image", MUTED, 15)
        for column, place in enumerate(chosen):
            x, top = MARGIN + column * (TILE + GAP), y + HEADING
            of_image = test.iloc[place]
            _tile(picture, (x, top), images[place], maps[place])
            name, probability = of_image["id"], float(of_image["probability"])
            highest = round(float(maps[place].max()), 7)
            _caption(drawing, (x, top + SIDE + 4), name, probability, highest)
            box = (x, top, TILE, SIDE + CAPTION)
            rows.append((cell, name, label, probability, "high", highest, *box))
    _legend(picture, (MARGIN, picture.height - LEGEND), threshold)
    return picture, pd.DataFrame(rows, columns=list(COLUMNS))


def most_confident(
    test: pd.DataFrame, label: int, positive: bool, threshold: float
) -> tuple[np.ndarray, int]:
    """Return the places of the most confident images of a cell, and how many the cell has.

    Args:
        test: id, label and probability of each image.
        label: 0 or 1.
        positive: whether the images are predicted to be PNEUMONIA.
        threshold: an image at or above it is.

    Returns:
        At most :data:`PER_CELL` places, the most confident first; of equal ones the lower id first.
    """
    probabilities = test["probability"].to_numpy()
    inside = np.flatnonzero((test["label"] == label) & ((probabilities >= threshold) == positive))
    confidence = probabilities[inside] * (1 if positive else -1)
    confidence = np.nan_to_num(confidence, nan=-np.inf)  # NaN is below every threshold
    ids = test["id"].to_numpy()[inside]
    order = sorted(range(len(inside)), key=lambda place: (-confidence[place], ids[place]))
    return inside[order[:PER_CELL]], len(inside)


def overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return an X-ray under a map.

    Args:
        image: uint8 [size, size].
        values: float [h, w], 0 or more.

    Returns:
        uint8 [size, size, 3]. Where the map is 0 it is the X-ray; a map of 0 everywhere leaves it
        as it is.
    """
    rgb = np.repeat(image[..., np.newaxis], 3, axis=2).astype("float64")
    highest = float(values.max())
    if not highest > 0:  # also of NaN
        return image[..., np.newaxis].repeat(3, axis=2)
    scaled = _resized(values.astype("float32") / highest, len(image))
    colour = 255 * mpl.colormaps[COLOURS](scaled)[..., :3]
    opacity = OPACITY * scaled[..., np.newaxis]
    blended = rgb * (1 - opacity) + colour * opacity
    half = scaled >= 0.5
    blended[half & ~ndimage.binary_erosion(half, border_value=1)] = OUTLINE
    return blended.round().astype("uint8")


def _resized(values: np.ndarray, side: int) -> np.ndarray:
    """Enlarge a map of 0 to 1 to float64 [side, side], linearly between its cells' middles."""
    enlarged = Image.fromarray(values).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(enlarged, dtype="float64").clip(0, 1)


def _tile(
    picture: Image.Image, corner: tuple[int, int], image: np.ndarray, values: np.ndarray
) -> None:
    """Paste an X-ray, and beside it the X-ray under its map."""
    (x, y), xray = corner, Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture.paste(xray.convert("RGB"), (x, y))
    under = Image.fromarray(overlay(np.asarray(xray), values))
    picture.paste(under, (x + TILE - SIDE, y))


def _caption(
    drawing: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    name: str,
    probability: float,
    highest: float,
) -> None:
    """Write probability, highest value of the map, and id below a tile."""
    x, y = corner
    _write(drawing, (x, y), f"probability {probability:.4f}", INK, 15)
    text = f"highest {highest:.2g}" if highest > 0 else "the map is 0: no evidence"
    _write(drawing, (x + TILE, y), text, INK, 15, "ra")
    while _font(13).getlength(name) > TILE:  # the end of an id tells more than its beginning
        name = f"...{name.removeprefix('...')[1:]}"
    _write(drawing, (x, y + 20), name, MUTED, 13)


def _legend(picture: Image.Image, corner: tuple[int, int], threshold: float) -> None:
    """Draw the scale of the maps, from 0 to the highest value, over grey as over an X-ray."""
    (x, y), drawing = corner, ImageDraw.Draw(picture)
    scale = np.linspace(0, 1, TILE)
    colour = mpl.colormaps[COLOURS](scale)[:, :3] * 255
    opacity = OPACITY * scale[:, np.newaxis]
    bar = np.broadcast_to((110 * (1 - opacity) + colour * opacity)[np.newaxis], (14, TILE, 3))
    picture.paste(Image.fromarray(bar.round().astype("uint8")), (x, y))
    drawing.line([(x + TILE // 2, y), (x + TILE // 2, y + 13)], OUTLINE)
    for offset, text, anchor in (
        (0, "0", "la"),
        (TILE // 2, "half", "ma"),
        (TILE, "highest", "ra"),
    ):
        _write(drawing, (x + offset, y + 17), text, MUTED, 13, anchor)
    for line, text in enumerate(EXPLANATION):
        shown = text.format(threshold=threshold)
        _write(drawing, (x, y + 44 + 20 * line), shown, MUTED, 14)


def _write(
    drawing: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    size: int,
    anchor: str = "la",
) -> None:
    drawing.text(corner, text, colour, _font(size), anchor)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that comes with matplotlib, so that the picture is the same everywhere."""
    return ImageFont.truetype(Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)
