"""Decode images to grey, hash their pixels, and bring them to a square."""

import hashlib
import io
import re
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from cxr.data import dicom
from cxr.errors import InputError

# Formats of still images that take bounded memory before their size is known. Pillow knows forty
# more: EPS would start Ghostscript, and WebP allocates all frames when it is opened.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF")
# Twice the largest detector: 43 x 43 cm with 0.1 mm per pixel are 18.5 million. Decoding takes at
# most 16 bytes per pixel (a progressive JPEG in CMYK), so 640 MB per thread.
MAX_PIXELS = 40_000_000
# Encoders write about ten scans in a progressive JPEG. Each costs a pass over all pixels, however
# few bytes it has.
MAX_SCANS = 100
GREY_8_BIT = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # at most 8 bits per channel
SMOOTH = Image.Resampling.BILINEAR  # Pillow averages over the area of an output pixel: no aliasing
# What turns an image upright, by its EXIF orientation.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DEEP = re.compile(r";(12|16[BLN]|32)")  # in Pillow's names of raw pixels: bits and byte order
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags


def decode(data: bytes) -> tuple[np.ndarray, str]:
    """Decode an image to grey, and turn it upright if its EXIF data say that it is not.

    Args:
        data: the bytes of a file in one of the :data:`FORMATS`, or of a DICOM file
            (:mod:`cxr.data.dicom`).

    Returns:
        uint8 [height, width] (RGB is converted to its luma, ITU-R 601; transparency is ignored),
        and the mode that the image was stored in.

    Raises:
        InputError: the image cannot be used; the message is the reason.
    """
    if not data:
        message = "zero bytes"
        raise InputError(message)
    try:
        if dicom.is_dicom(data):
            return dicom.decode(data, MAX_PIXELS, lambda frame: decode(frame)[0])
        with _open(data) as image:
            _check(image, data)
            if image.format == "PNG":
                with _open(data) as again:
                    again.verify()  # decoding does not check the checksums of the pixels
            image.load()  # a TIFF is turned here, and loses its orientation
            mode = image.mode
            grey = image if mode == "L" else image.convert("L")  # which would copy grey pixels
            turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
            return np.asarray(grey if turn is None else grey.transpose(turn)), mode
    except InputError:
        raise
    except UnidentifiedImageError as error:
        message = f"not an image in {', '.join(FORMATS)} or DICOM format"
        raise InputError(message) from error
    except Exception as error:  # readers raise errors of any type on broken files
        message = f"cannot be decoded: {str(error) or type(error).__name__}"
        raise InputError(message) from error


def _open(data: bytes) -> Any:
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _check(image: Any, data: bytes) -> None:
    """Check the number and depth of an opened image's pixels before they are decoded."""
    width, height = image.size
    tile = 0
    if image.format == "TIFF":
        tile = image.tag_v2.get(_TILE_WIDTH, 0) * image.tag_v2.get(_TILE_LENGTH, 0)
    if max(width * height, tile) > MAX_PIXELS:
        message = f"{width} x {height} pixels: an X-ray has at most {MAX_PIXELS:,}"
    elif image.mode.startswith(("I", "F")) or _is_deep(image):
        message = (
            f"mode {image.mode}: converting more than 8 bits per channel to 8 would distort it"
        )
    elif image.mode not in GREY_8_BIT:
        message = f"mode {image.mode}: save it as grey or RGB"
    elif getattr(image, "is_animated", False):
        message = "has several frames: an X-ray has one; save the right one as a PNG"
    elif image.info.get("progressive") and data.count(b"\xff\xda") > MAX_SCANS:
        message = f"a progressive JPEG with more than {MAX_SCANS} scans: save it again"
    else:
        return
    raise InputError(message)


def _is_deep(image: Any) -> bool:
    """Return whether Pillow would cut channels of more than 8 bits to 8, as in an RGB PNG of 16."""
    for decoder, _, _, given in image.tile:
        arguments = given if isinstance(given, tuple) else (given,)
        if decoder in ("ppm", "ppm_plain") and arguments[-1] > 255:  # the largest value of a PPM
            return True
        if isinstance(arguments[0], str) and _DEEP.search(arguments[0]):
            return True
    return False


def pixel_hash(pixels: np.ndarray) -> str:
    """Return a hash that two images share if and only if their size and pixels are equal.

    Args:
        pixels: uint8 array, [height, width], grey.

    Returns:
        The first 32 hexadecimal digits (128 bits) of a SHA-256 over the shape and the pixels.
    """
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()[:32]


def squash(grey: np.ndarray, size: int) -> np.ndarray:
    """Stretch uint8 [height, width] to [size, size]; the aspect ratio is lost."""
    return np.asarray(Image.fromarray(grey).resize((size, size), SMOOTH))


def letterbox(grey: np.ndarray, size: int) -> np.ndarray:
    """Fit uint8 [height, width] into [size, size] and pad both sides with black."""
    height, width = grey.shape
    scale = size / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(grey).resize(inner, SMOOTH))
    square = np.zeros((size, size), dtype="uint8")
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square


def center_crop(grey: np.ndarray, size: int) -> np.ndarray:
    """Crop the middle square of uint8 [height, width] and resize it to [size, size]."""
    side = min(grey.shape)
    top, left = (grey.shape[0] - side) // 2, (grey.shape[1] - side) // 2
    return squash(grey[top : top + side, left : left + side], size)


# How an image is brought to a square: the values of tensors.resize.
SQUARES = {"squash": squash, "letterbox": letterbox, "center_crop": center_crop}
