"""Manifests and X-rays that the tests of the audits share."""

import numpy as np
import pandas as pd


def manifest(rows: list[tuple[str, int, str]], **columns) -> pd.DataFrame:
    """A manifest from split, label and patient of each image; other columns by name."""
    table = pd.DataFrame(rows, columns=["split", "label", "patient"])
    table.insert(0, "id", [f"{split}/{n}" for n, split in enumerate(table["split"])])
    return table.assign(
        **{
            "path": table["id"] + ".png", "patient_known": True, "subtype": "",
            "pixel_hash": table["id"], "width": 8, "height": 8, "mode": "L", "bytes": 64,
        } | columns
    )  # fmt: skip


def many(train: int = 40, rest: int = 20) -> pd.DataFrame:
    """A manifest of two images per patient, both classes in equal numbers in every split."""
    counts = {"train": train, "val": rest, "test": rest}
    return manifest(
        [(split, n % 2, f"{split}-{n // 4}-{n % 2}") for split, m in counts.items()
         for n in range(m)]
    )  # fmt: skip


def chest(
    side: int = 64, width: float = 1.0, height: float = 1.0, right: float = 0.0
) -> np.ndarray:
    """A picture like a chest: two dark lungs in a bright body, with detail, scaled and shifted.

    Args:
        side: in pixels.
        width: scale to the sides of the centre.
        height: scale above and below it.
        right: shift as a fraction of the side.
    """
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    x, y = (x - right) / width, y / height
    body = 200 * np.exp(-((x / 0.33) ** 4) - (y / 0.45) ** 4)
    lungs = sum(np.exp(-(((x - c) / 0.1) ** 2) - ((y + 0.05) / 0.22) ** 2) for c in (-0.16, 0.16))
    detail = 12 * np.sin(40 * y) * np.exp(-((x / 0.3) ** 2))
    return np.clip(body - 120 * lungs + detail + 10, 0, 255).astype("uint8")
