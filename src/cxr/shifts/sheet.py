"""The samples: one test image of each class under every kind of shift, for a look at them."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from cxr.data.image import SMOOTH
from cxr.shifts import images, kinds, sets

SIDE = 150  # side of an image in pixels
GAP = 8  # pixels between images
CAPTION = 14  # pixels above an image
COLUMNS = 7  # shifts in a row


def draw(load: Callable[[int], np.ndarray], index: pd.DataFrame, seed: int) -> Image.Image:
    """Draw the first test image of each class under every kind at its strongest.

    Args:
        load: returns the image of a row of the index, uint8 [size, size].
        index: id, label and split of each image.
        seed: ``seed`` of params.yaml, which gives the shifts of the predictions.

    Returns:
        A grey image (mode L): NORMAL above PNEUMONIA; a class that the test set lacks is left out.
    """
    shifts = strongest()
    test = index["split"].to_numpy() == "test"
    of_class = [np.flatnonzero(test & (index["label"] == label))[:1] for label in (0, 1)]
    rows = np.concatenate(of_class)
    height = CAPTION + len(rows) * (SIDE + GAP)
    lines = -(-len(shifts) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * (SIDE + GAP) + GAP, lines * (height + GAP) + GAP), 255)
    drawing = ImageDraw.Draw(sheet)
    for place, shift in enumerate(shifts):
        x, y = GAP + place % COLUMNS * (SIDE + GAP), GAP + place // COLUMNS * (height + GAP)
        caption = kinds.CAPTIONS[shift.kind].format(f"{shift.strength:g}")
        drawing.text((x, y), caption, fill=0)
        for number, row in enumerate(rows):
            about = index.iloc[row]
            shown = images.shifted_image(load, shift, about["id"], about["label"], row, seed)
            picture = Image.fromarray(shown).resize((SIDE, SIDE), SMOOTH)
            sheet.paste(picture, (x, y + CAPTION + number * (SIDE + GAP)))
    return sheet


def strongest() -> list[sets.Shift]:
    """Return ``none``, and each kind at its strongest, in both directions if it has two."""
    found: dict[tuple[str, bool], sets.Shift] = {}
    for shift in (sets.NONE, *sets.CURVE, *sets.VALIDATION, *sets.MASKED):
        key = (shift.kind, shift.kind in kinds.BOTH_WAYS and shift.strength < 1)
        if key not in found or _amount(shift) > _amount(found[key]):
            found[key] = shift
    order = list(kinds.CAPTIONS)
    return sorted(found.values(), key=lambda shift: (order.index(shift.kind), shift.strength))


def _amount(shift: sets.Shift) -> float:
    """Return a number that rises with how much a shift changes, within one kind."""
    falling = shift.kind in ("jpeg", "resolution")
    return -shift.strength if falling else abs(shift.strength - 1)
