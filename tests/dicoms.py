"""DICOM files for tests, written by pydicom."""

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    generate_uid,
)


def dicom(
    pixels: np.ndarray,
    jpeg: bytes | None = None,
    syntax: str | None = None,
    **elements: Any,
) -> bytes:
    """Return a computed radiograph.

    Args:
        pixels: uint8 or uint16 [height, width].
        jpeg: the same pixels compressed.
        syntax: the transfer syntax that the header names; None for that of the pixels.
        **elements: of the header; None removes one.
    """
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["test"])
    own = ExplicitVRLittleEndian if jpeg is None else JPEGBaseline8Bit
    image.file_meta.TransferSyntaxUID = syntax or own
    image.SOPClassUID = ComputedRadiographyImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 8 * pixels.itemsize
    image.HighBit, image.PixelRepresentation = image.BitsAllocated - 1, 0
    image.PixelData = pixels.tobytes() if jpeg is None else encapsulate([jpeg])
    image["PixelData"].VR = "OB" if jpeg is not None or pixels.itemsize == 1 else "OW"
    for name, value in elements.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    stream = io.BytesIO()
    image.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
