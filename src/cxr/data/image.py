"""Decode images to grey, hash their pixels, and bring them to a square."""

import hashlib
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from cxr.errors import InputError

GREY_8_BIT = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # at most 8 bits per channel
SMOOTH = Image.Resampling.BILINEAR  # Pillow averages over the area of an output pixel: no aliasing


def decode(data: bytes) -> tuple[np.ndarray, str]:
    """Decode an image to grey.

    Args:
        data: the bytes of a JPEG, PNG, or anything else that Pillow reads.

    Returns:
        uint8 [height, width] (RGB is converted to its luma, ITU-R 601), and the mode that the image
        was stored in.

    Raises:
        InputError: the image cannot be used; the message is the reason.
    """
    if not data:
        message = "zero bytes"
        raise InputError(message)
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            if mode not in GREY_8_BIT:
                message = (
                    f"mode {mode}: converting more than 8 bits per channel to 8 would distort it"
                )
                raise InputError(message)
            return np.asarray(image.convert("L")), mode
    except InputError:  # a ValueError, as are some of Pillow's below
        raise
    except UnidentifiedImageError as error:
        message = "not an image"
        raise InputError(message) from error
    except (
        OSError, SyntaxError, TypeError, ValueError, NotImplementedError,
        Image.DecompressionBombError,
    ) as error:  # fmt: skip
        message = f"cannot be decoded: {error}"
        raise InputError(message) from error


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
