"""The kinds of shift: what another machine, hand or hospital may do to an image.

Each keeps the size of the image, replicates its border where something beyond it would show, and
draws what is random from the generator that it is given. Lengths are fractions of the side, so that
a strength means the same at every image size.
"""

import io

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from scipy import ndimage

from cxr.data import image
from cxr.errors import InputError

# The height of what is seen, as a multiple, in a NORMAL and in a PNEUMONIA image. Squashed to a
# square, Kermany's NORMAL training images are wider than those of PNEUMONIA; this reverses it.
ANTI_GEOMETRY = (1.2, 0.87)
SHARPENED = 0.01  # radius of the unsharp mask, as a fraction of the side

# What an image is under, for a reader; {} is the strength.
CAPTIONS = {
    "none": "as it is",
    "rotation": "rotation {} degrees",
    "brightness": "brightness x {}",
    "contrast": "contrast x {}",
    "gamma": "gamma {}",
    "blur": "blur {} % of the side",
    "noise": "noise {} grey values",
    "jpeg": "JPEG quality {}",
    "resolution": "resolution x {}",
    "sharpen": "sharpened {} %",
    "magnify_x": "magnified x {} along x",
    "magnify_y": "magnified x {} along y",
    "anti_geometry": "anti-geometry",
    "centre": "centre {} masked",
    "outside": "outside {} masked",
}
# 1 changes nothing, and a strength below does the opposite of one above.
BOTH_WAYS = ("brightness", "contrast", "gamma", "magnify_x", "magnify_y")


def shifted(
    pixels: np.ndarray, kind: str, strength: float, label: int, draws: np.random.Generator
) -> np.ndarray:
    """Return an image under one kind of shift.

    Args:
        pixels: uint8 [size, size], not changed.
        kind: one of :data:`CAPTIONS`. ``none`` changes nothing; ``anti_geometry`` magnifies along y
            by :data:`ANTI_GEOMETRY`.
        strength: of ``rotation``, degrees, whose direction is drawn; of ``brightness``,
            ``contrast`` (about the mean), ``magnify_x`` and ``magnify_y``, a factor; of ``gamma``,
            the exponent of v / 255; of ``blur``, the Gaussian's standard deviation in percent of
            the side; of ``noise``, the Gaussian's standard deviation in grey values; of ``jpeg``,
            the quality, 1 to 95; of ``resolution``, the fraction of the side that the image is
            reduced to before it is enlarged again; of ``sharpen``, the percentage of the unsharp
            mask; of ``centre`` and ``outside``, the fraction of the side of the middle square that
            is blanked, or outside of which all is. The other kinds ignore it.
        label: 0 or 1, which ``anti_geometry`` alone uses.
        draws: of this image and shift alone.

    Returns:
        uint8 [size, size].

    Raises:
        InputError: there is no such kind.
    """
    match kind:
        case "none":
            return pixels
        case "rotation":
            return _rotated(pixels, strength * draws.choice((-1, 1)))
        case "brightness":
            return np.asarray(ImageEnhance.Brightness(_picture(pixels)).enhance(strength))
        case "contrast":
            return np.asarray(ImageEnhance.Contrast(_picture(pixels)).enhance(strength))
        case "gamma":
            table = 255 * (np.arange(256) / 255) ** strength
            return np.asarray(_picture(pixels).point(table.round().astype(int).tolist()))
        case "blur":
            return _blurred(pixels, strength / 100)
        case "noise":
            return _whole(pixels + draws.normal(0, strength, pixels.shape))
        case "jpeg":
            return _saved(pixels, round(strength))
        case "resolution":
            size = len(pixels)
            return image.squash(image.squash(pixels, max(1, round(strength * size))), size)
        case "sharpen":
            mask = ImageFilter.UnsharpMask(SHARPENED * len(pixels), round(strength), threshold=0)
            return np.asarray(_picture(pixels).filter(mask))
        case "magnify_x":
            return _magnified(pixels, strength, 1)
        case "magnify_y":
            return _magnified(pixels, 1, strength)
        case "anti_geometry":
            return _magnified(pixels, 1, ANTI_GEOMETRY[label])
        case "centre":
            return _blanked(pixels, _middle(len(pixels), strength))
        case "outside":
            return _blanked(pixels, ~_middle(len(pixels), strength))
    message = f"there is no shift {kind!r}: there are {', '.join(CAPTIONS)}"
    raise InputError(message)


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels))


def _whole(values: np.ndarray) -> np.ndarray:
    """Round to whole grey values, 0 to 255."""
    return values.round().clip(0, 255).astype("uint8")


def _rotated(pixels: np.ndarray, degrees: float) -> np.ndarray:
    turned: np.ndarray = ndimage.rotate(pixels, degrees, reshape=False, order=1, mode="nearest")
    return turned


def _magnified(pixels: np.ndarray, x: float, y: float) -> np.ndarray:
    """Magnify about the centre. SciPy's matrix maps (row, column) of the output to the input."""
    middle = (np.array(pixels.shape) - 1) / 2
    scale = 1 / np.array([y, x])
    found: np.ndarray = ndimage.affine_transform(
        pixels, scale, middle - scale * middle, order=1, mode="nearest"
    )
    return found


def _blurred(pixels: np.ndarray, fraction: float) -> np.ndarray:
    # In float32: with a uint8 output SciPy would cut off the fractions, once for each axis.
    sigma = fraction * len(pixels)
    return _whole(ndimage.gaussian_filter(pixels, sigma, output="float32", mode="nearest"))


def _saved(pixels: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    _picture(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream, formats=["JPEG"]))


def _middle(size: int, fraction: float) -> np.ndarray:
    """Return where the middle square is, bool [size, size]."""
    margin = round(size * (1 - fraction) / 2)
    found = np.zeros((size, size), dtype=bool)
    found[margin : size - margin, margin : size - margin] = True
    return found


def _blanked(pixels: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Give the masked pixels the mean of the others.

    The mean of the whole image would tell how bright the lungs are, even where they are masked. It
    is used only if no pixel is left.
    """
    left = pixels[~where] if not where.all() else pixels
    blanked = pixels.copy()
    blanked[where] = round(float(left.mean()))
    return blanked
