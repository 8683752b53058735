"""What an archive's files tell without their pixels: size, bytes, encoding, JPEG quality."""

import io
import math
import zipfile
from pathlib import Path

import pandas as pd
from PIL import Image, UnidentifiedImageError

from cxr.data import archive, dicom, image, threads
from cxr.errors import InputError

# The sum of table K.1 of ITU-T T.81, the example of a luminance table that most encoders scale.
STANDARD_LUMA = 3688

JPEG = ("jpeg_quality", "jpeg_luma", "jpeg_chroma")


def read(path: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    """Read the header of every image of a manifest.

    Args:
        path: the zip.
        manifest: one row per image: path, width, height, mode, bytes.

    Returns:
        One row per image in the same order: ``width``, ``height`` in pixels; ``aspect`` (width /
        height); ``bytes_per_pixel``; ``mode`` and ``format``, numbered by name; and of a JPEG
        ``jpeg_quality`` (1 to 100, estimated), ``jpeg_luma`` and ``jpeg_chroma``, the sums of the
        quantisation tables of luminance and of colour. They are NaN where the file has none.

    Raises:
        InputError: an image is missing or is not the one that was split.
    """
    with archive.open_zip(path) as opened:

        def header(name: str) -> tuple[str, float, float]:
            return _header(opened, path, name)

        found = threads.parallel_map(header, manifest["path"], "file properties")
    headers = pd.DataFrame(found, columns=["format", "luma", "chroma"], index=manifest.index)
    return pd.DataFrame(
        {
            "width": manifest["width"].astype(float),
            "height": manifest["height"].astype(float),
            "aspect": manifest["width"] / manifest["height"],
            "bytes_per_pixel": manifest["bytes"] / (manifest["width"] * manifest["height"]),
            "mode": pd.factorize(manifest["mode"], sort=True)[0].astype(float),
            "format": pd.factorize(headers["format"], sort=True)[0].astype(float),
            "jpeg_quality": headers["luma"].map(quality),
            "jpeg_luma": headers["luma"],
            "jpeg_chroma": headers["chroma"],
        },
        index=manifest.index,
    )


def quality(luma: float) -> float:
    """Estimate the quality that a JPEG was saved with, as the IJG's library counts it, 1 to 100.

    The library scales the standard table by 50 / quality below 50, and by 2 - quality / 50 above.

    Args:
        luma: sum of the 64 entries of the luminance table; NaN gives NaN.
    """
    if math.isnan(luma):
        return math.nan
    scale = luma / STANDARD_LUMA
    found = 100 - 50 * scale if scale <= 1 else 50 / scale
    return float(min(100.0, max(1.0, found)))


def _header(opened: zipfile.ZipFile, path: Path, name: str) -> tuple[str, float, float]:
    """Return a file's format, and the sums of its quantisation tables or NaN."""
    try:
        data = archive.read(opened, name)
        if dicom.is_dicom(data):
            return "DICOM", math.nan, math.nan
        with Image.open(io.BytesIO(data), formats=image.FORMATS) as found:  # reads the header only
            tables = getattr(found, "quantization", {})
            kind = str(found.format)
    except (InputError, UnidentifiedImageError) as error:
        message = f"{name} in {path}: {error}; run `dvc repro -s -f split`"
        raise InputError(message) from error
    luma, chroma = (float(sum(tables[n])) if n in tables else math.nan for n in (0, 1))
    return kind, luma, chroma
