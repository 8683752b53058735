"""Cache every X-ray as grey uint8 pixels of one size, in one array that is memory-mapped.

One channel and one byte a pixel: three times smaller than RGB, twelve times than float32. All else
(float, RGB, augmentation, the backbone's preprocessing) happens inside the model.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from cxr import files, params
from cxr.data import archive, image, manifest, parallel
from cxr.errors import InputError
from cxr.params import CLASSES

SHEET_SIDE = 160  # pixels of an X-ray in the contact sheet


def build(
    archive_path: Path, split: pd.DataFrame, size: int, settings: params.Tensors, folder: Path
) -> None:
    """Decode and resize every image of a manifest into ``folder``.

    Args:
        archive_path: the zip.
        split: the manifest with splits; the array's rows are in its order.
        size: side of the squares in pixels.
        settings: how a film becomes a square.
        folder: gets ``images.npy`` (uint8 [n, size, size]), ``index.csv`` (id, label, split,
            patient) and ``contact_sheet.png``.

    Raises:
        InputError: an image is gone, unreadable or another one: the archive has changed since.
    """
    square = {
        "squash": image.squash, "letterbox": image.letterbox, "center_crop": image.center_crop
    }[settings.resize]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".part.", dir=folder))
    try:
        images = np.lib.format.open_memmap(
            beside / "images.npy", mode="w+", dtype="uint8", shape=(len(split), size, size)
        )
        with archive.open_zip(archive_path) as opened:

            def cache(row: tuple[int, str, str]) -> None:
                place, path, sha256 = row
                try:
                    data = archive.read(opened, path)
                    grey, _ = image.decode(data)
                    if files.bytes_sha256(data) != sha256:
                        message = "not the file that was split"
                        raise InputError(message)
                except InputError as error:
                    message = f"{path} in {archive_path}: {error}; run `dvc repro -f split`"
                    raise InputError(message) from error
                images[place] = square(grey, size)

            rows = zip(range(len(split)), split["path"], split["sha256"], strict=True)
            parallel.in_threads(cache, rows, f"caching at {size} x {size}")
        images.flush()
        contact_sheet(images, split).save(beside / "contact_sheet.png")
        for name in ("images.npy", "contact_sheet.png"):
            (beside / name).replace(folder / name)
        manifest.write(split[["id", "label", "split", "patient"]], folder / "index.csv")
    finally:
        shutil.rmtree(beside)


def contact_sheet(images: np.ndarray, split: pd.DataFrame, columns: int = 4) -> Image.Image:
    """Show cached X-rays to look at: a row a split and class, each with its id.

    Args:
        images: uint8 [n, size, size].
        split: its rows, with id, label and split.
        columns: X-rays a row, spread evenly over those that there are.
    """
    caption = 14
    rows = [(s, c) for s in params.SPLITS for c in range(len(CLASSES))]
    sheet = Image.new(
        "L", (columns * (SHEET_SIDE + 8) + 8, len(rows) * (SHEET_SIDE + caption + 8) + 8), 255
    )
    draw = ImageDraw.Draw(sheet)
    for line, (side, label) in enumerate(rows):
        found = np.flatnonzero((split["split"] == side) & (split["label"] == label))
        spread = np.linspace(0, len(found) - 1, min(columns, len(found))).astype(int)
        for column, place in enumerate(found[spread]):
            x, y = 8 + column * (SHEET_SIDE + 8), 8 + line * (SHEET_SIDE + caption + 8)
            shown = Image.fromarray(images[place]).resize((SHEET_SIDE, SHEET_SIDE), image.SMOOTH)
            sheet.paste(shown, (x, y + caption))
            draw.text((x, y), f"{side} {split['id'].iloc[place].split('/')[-1]}"[:27], fill=0)
    return sheet
