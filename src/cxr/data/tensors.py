"""The tensors: every X-ray as grey uint8 pixels of one size, in one memory-mapped array.

One byte per pixel takes a third of the space of RGB and a twelfth of float32 RGB. Everything else
(float, RGB, augmentation, the backbone's preprocessing) happens inside the model.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from cxr import files, params
from cxr.data import archive, contact_sheet, image, threads
from cxr.errors import InputError


def build(
    archive_path: Path, manifest: pd.DataFrame, size: int, settings: params.Tensors, folder: Path
) -> None:
    """Decode and resize every image of a manifest into ``folder``.

    Args:
        archive_path: the zip.
        manifest: the manifest with splits; the array has its rows in the same order.
        size: side of the squares in pixels.
        settings: how an image is brought to a square.
        folder: gets ``images.npy`` (uint8 [n, size, size]), ``index.csv`` (id, label, split,
            patient) and ``contact_sheet.png``, all of them or none.

    Raises:
        InputError: an image is missing or unreadable, or its bytes differ from the manifest's.
    """
    square = image.SQUARES[settings.resize]
    with (
        files.replacing(folder / "index.csv") as index,
        files.replacing(folder / "contact_sheet.png") as sheet,
        files.replacing(folder / "images.npy") as pixels,
    ):
        images = np.lib.format.open_memmap(
            pixels, mode="w+", dtype="uint8", shape=(len(manifest), size, size)
        )
        files.reserve(pixels, pixels.stat().st_size)
        with archive.open_zip(archive_path) as opened, pixels.open("r+b") as stream:

            def cache(row: tuple[int, str, str]) -> None:
                place, path, sha256 = row
                try:
                    data = archive.read(opened, path)
                    grey, _ = image.decode(data)
                    if files.bytes_sha256(data) != sha256:
                        message = "not the file that was split"
                        raise InputError(message)
                except InputError as error:
                    message = f"{path} in {archive_path}: {error}; run `dvc repro -s -f split`"
                    raise InputError(message) from error
                # Not through the map, whose written pages would count as this process's memory.
                place_in_file = images.offset + place * size * size
                os.pwrite(stream.fileno(), square(grey, size).tobytes(), place_in_file)

            rows = zip(range(len(manifest)), manifest["path"], manifest["sha256"], strict=True)
            threads.parallel_map(cache, rows, f"caching at {size} x {size}")
        images.flush()
        contact_sheet.draw(images, manifest).save(sheet)
        files.write_csv(index, manifest[["id", "label", "split", "patient"]])
