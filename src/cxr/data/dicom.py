"""Decode DICOM X-rays to grey as a viewer shows them, and say whose they are."""

import hashlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np

from cxr.errors import InputError

GREY = ("MONOCHROME1", "MONOCHROME2")  # the lowest value is white, or black
# pydicom inflates a whole file before it can be asked anything, so a bomb would fill the memory.
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_JPEG = "1.2.840.10008.1.2.4.50"  # baseline, 8 bits
_FAR = 2.0**40  # beyond every stored value


def is_dicom(data: bytes) -> bool:
    """Return whether a file has DICOM's preamble."""
    return data[128:132] == b"DICM"


def decode(
    data: bytes, max_pixels: int, jpeg: Callable[[bytes], np.ndarray]
) -> tuple[np.ndarray, str]:
    """Decode a DICOM file to grey.

    Stored values pass the modality's rescale and the first window or lookup table of the file, as
    in a viewer. Without one, the lowest value of the image is black and the highest white.
    MONOCHROME1 is inverted.

    Args:
        data: the bytes of a file, for which :func:`is_dicom` holds.
        max_pixels: how many an image may have.
        jpeg: decodes a JPEG to uint8 [height, width].

    Returns:
        uint8 [height, width], and the mode: DICOM with the bits per pixel, such as ``DICOM 12``.

    Raises:
        InputError: the image cannot be used; the message is the reason.
    """
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import pixel_array

    header = _read(data)
    if _check(header, max_pixels) == _JPEG:
        stored = jpeg(get_frame(header.PixelData, 0, number_of_frames=1))
    else:
        stored = pixel_array(header)
    if stored.shape != (header.Rows, header.Columns):
        found = " x ".join(map(str, reversed(stored.shape)))
        message = (
            f"the DICOM header says {header.Columns} x {header.Rows} pixels, but the image has "
            f"{found}: export it again"
        )
        raise InputError(message)
    # Of at most 65,536 values instead of 40 million pixels, which would take 1 GB as float64.
    low = int(stored.min())
    grey = _shown(np.arange(low, int(stored.max()) + 1), header)
    return grey[stored.astype("int32") - low], f"DICOM {header.BitsStored}"


def patient(data: bytes) -> str | None:
    """Return a patient's pseudonym from a DICOM file: a hash of PatientID and of who issued it.

    Returns:
        The same text for the same patient, from which the id cannot be read; None if the file has
        no id. A short id can be found by trying all of them, so it is no anonymisation.

    Raises:
        InputError: the header cannot be read.
    """
    header = _read(data, with_pixels=False)
    identity = str(header.get("PatientID", "") or "").strip()
    if not identity:
        return None
    issuer = str(header.get("IssuerOfPatientID", "") or "").strip()
    return f"dicom-{hashlib.sha256(f'{issuer}/{identity}'.encode()).hexdigest()[:16]}"


def _read(data: bytes, with_pixels: bool = True) -> Any:
    import pydicom
    from pydicom import config

    if _DEFLATED in data:
        message = "a deflated DICOM file: save it uncompressed (dcmconv +te)"
        raise InputError(message)
    # A badly formed name or date does not matter here, and would print a warning for every file.
    config.settings.reading_validation_mode = config.IGNORE
    return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=not with_pixels)


def _check(header: Any, max_pixels: int) -> str:
    """Check an image's header before its pixels are decoded, and return its transfer syntax."""
    syntax = header.file_meta.TransferSyntaxUID
    if "PixelData" not in header:
        message = "a DICOM file without an image"
    elif header.Rows * header.Columns > max_pixels:
        message = f"{header.Columns} x {header.Rows} pixels: an X-ray has at most {max_pixels:,}"
    elif int(header.get("NumberOfFrames", 1) or 1) != 1:
        message = "has several frames: an X-ray has one; save the right one as a PNG"
    elif header.SamplesPerPixel != 1 or header.PhotometricInterpretation not in GREY:
        message = f"DICOM in {header.PhotometricInterpretation}: an X-ray is in {' or '.join(GREY)}"
    elif header.BitsAllocated not in (8, 16):
        message = f"DICOM with {header.BitsAllocated} bits allocated: 8 and 16 are read"
    elif syntax not in (*_UNCOMPRESSED, _JPEG):
        message = f"DICOM compressed as {syntax.name}: decompress it (gdcmconv --raw)"
    else:
        return str(syntax)
    raise InputError(message)


def _shown(stored: np.ndarray, header: Any) -> np.ndarray:
    """Return the grey value, uint8 [n], in which each stored value, int [n], is shown."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    def windowed(values: np.ndarray) -> np.ndarray:
        return np.asarray(apply_voi_lut(values, header), "float64")

    values = windowed(apply_modality_lut(stored, header))
    if "VOILUTSequence" in header:
        table = windowed(np.array([0, 2**15 - 1]))
        black, white = table.min(), table.max()
    elif "WindowCenter" in header and "WindowWidth" in header:
        black, white = windowed(np.array([-_FAR, _FAR]))
    else:
        black, white = values.min(), values.max()
    grey = np.clip((values - black) / ((white - black) or 1), 0, 1)
    if header.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    return np.rint(255 * grey).astype("uint8")
