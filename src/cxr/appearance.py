"""Random changes of appearance: what another machine, setting or file format does to an X-ray.

First one of these, each as likely as another: nothing, Gaussian blur, JPEG, an unsharp mask. Then
gamma, contrast and brightness. An affine map (:mod:`cxr.augment`) comes before all of them, because
a map that interpolates would blur what was just sharpened.

Every step is a product of matrices or works pixel by pixel, so a batch takes one pass of a fixed
shape on the device, whatever was drawn.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from cxr import params, seeding

DRAWS = ("sigma", "amount", "quality", "gamma", "contrast", "brightness")
NEUTRAL = (1.0, 0.0, 0.0, 1.0, 1.0, 0.0)  # changes nothing
SIDE = 8  # of JPEG's blocks, in pixels

# Quantisation of luminance at quality 50: ITU-T T.81 (1992), table K.1; rows are frequencies in y.
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    "float32",
)


def draw(settings: params.Appearance, count: int, seed: int, *purpose: str | int) -> np.ndarray:
    """Draw the appearance of ``count`` images.

    Args:
        settings: the ranges.
        count: how many images.
        seed: ``seed`` of params.yaml.
        *purpose: identifies the draws: phase, epoch, step.

    Returns:
        float64 [count, 6], the columns of :data:`DRAWS`: the standard deviation of a Gaussian in
        pixels; how much of what it removes is added, -1 for a blur and 0 for neither blur nor
        unsharp mask; the quality of a JPEG, 1 to 100, or 0 for none; the exponent of gamma; the
        factor of contrast; brightness as a fraction of the grey scale.
    """
    which, strength, *tone = seeding.generator(seed, "appearance", *purpose).random((count, 5)).T
    drawn = np.tile(NEUTRAL, (count, 1))
    sigma, amount, quality, gamma, contrast, brightness = drawn.T  # views of its columns
    kinds = ["blur", "jpeg", "unsharp"]
    on = [kind for kind in kinds if getattr(settings, kind) is not None]
    chosen = np.array(["nothing", *on])[(which * (len(on) + 1)).astype(int)]
    if settings.blur is not None:
        blurred = chosen == "blur"
        sigma[blurred] = _within(strength[blurred], settings.blur)
        amount[blurred] = -1
    if settings.jpeg is not None:
        saved = chosen == "jpeg"
        low, high = settings.jpeg
        quality[saved] = np.floor(_within(strength[saved], (low, high + 1)))
    if settings.unsharp is not None:
        sharpened = chosen == "unsharp"
        sigma[sharpened] = settings.unsharp.sigma
        amount[sharpened] = _within(strength[sharpened], settings.unsharp.amount)
    gamma[:] = np.exp(_within(tone[0], (-settings.gamma, settings.gamma)))
    contrast[:] = _within(tone[1], settings.contrast)
    brightness[:] = _within(tone[2], (-settings.brightness, settings.brightness))
    return drawn


def change_images(images: Any, draws: Any, settings: params.Appearance) -> Any:
    """Change the appearance of each image, given as arrays or as a model's tensors.

    What ``settings`` switch off has no layer.

    Args:
        images: [batch, height, width, 1], grey values 0 to 255, any dtype.
        draws: float32 [batch, 6] from :func:`draw`, with the same settings.
        settings: the ranges.

    Returns:
        float32 of the same shape, 0 to 255.
    """
    if settings.blur is not None or settings.unsharp is not None:
        images = Sharpness()([images, draws[:, :2]])
    if settings.jpeg is not None:
        images = Jpeg()([images, draws[:, 2:3]])
    if (settings.gamma, settings.contrast, settings.brightness) != (0, (1, 1), 0):
        images = Tone()([images, draws[:, 3:]])
    return images


def quantisation(quality: Any) -> Any:
    """Return JPEG's steps of quantisation for luminance, as libjpeg computes them (jcparam.c).

    Args:
        quality: float32 [batch, 1], whole, 1 to 100; 0 counts as 1.

    Returns:
        float32 [batch, 64], whole, 1 to 255, in the order of :data:`LUMINANCE`.
    """
    # libjpeg divides whole numbers. The small sums guard against a quotient just below a whole one.
    quality = ops.maximum(quality, 1)
    scale = ops.where(quality < 50, ops.floor(5000 / quality + 0.001), 200 - 2 * quality)
    standard = ops.convert_to_tensor(LUMINANCE.reshape(1, -1))
    return ops.clip(ops.floor((standard * scale + 50) / 100 + 0.002), 1, 255)


class _Appearance(keras.layers.Layer):
    """A layer that returns images of the shape of its first input, always float32."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]


@keras.saving.register_keras_serializable(package="cxr")
class Sharpness(_Appearance):
    """Blur each image of a batch, or sharpen it: an unsharp mask is a blur whose sign is turned.

    The result is ``image + amount * (image - blurred)``. Near an edge the Gaussian is cut off there
    and its weights are scaled to a sum of 1. Two products with a matrix blur along y and along x.

    Call arguments:
        inputs: a pair: images [batch, height, width, 1], 0 to 255, and [batch, 2]: the Gaussian's
            standard deviation in pixels, at least 0.1, and the amount: -1 blurs, 0 changes nothing,
            above 0 sharpens.

    Returns:
        Images of the same shape, clipped to 0 to 255, always float32.
    """

    def call(self, inputs: tuple[Any, Any]) -> Any:
        images, strengths = inputs
        pixels = ops.squeeze(ops.cast(images, self.compute_dtype), -1)
        sigma, amount = strengths[:, 0], strengths[:, 1]
        height, width = pixels.shape[1:]
        along_y = _gaussian(sigma, height)
        along_x = along_y if width == height else _gaussian(sigma, width)
        blurred = ops.matmul(along_y, ops.matmul(pixels, ops.swapaxes(along_x, 1, 2)))
        amount = amount[:, None, None]
        # Not image + amount * (image - blurred), which rounds the image away where amount is -1.
        changed = (1 + amount) * pixels - amount * blurred
        return ops.clip(changed, 0, 255)[..., None]


@keras.saving.register_keras_serializable(package="cxr")
class Jpeg(_Appearance):
    """Do to each image of a batch what saving it as a JPEG of some quality does.

    The cosine transform of each block of 8 x 8 pixels is rounded to multiples of the standard's
    table for luminance, which is scaled by the quality as in libjpeg (``jpeg_set_quality``). Sides
    that are not multiples of 8 are filled with their last pixels, also as in libjpeg. Grey values
    are not rounded to whole numbers as those of a file are.

    Call arguments:
        inputs: a pair: images [batch, height, width, 1], 0 to 255, and qualities [batch, 1], 1 to
            100, or 0, which changes nothing.

    Returns:
        Images of the same shape, always float32.
    """

    def call(self, inputs: tuple[Any, Any]) -> Any:
        images, quality = inputs
        images = ops.cast(images, self.compute_dtype)
        height, width = images.shape[1:3]
        filled = _filled(_filled(ops.squeeze(images, -1), 1, -height % SIDE), 2, -width % SIDE)
        down, across = filled.shape[1] // SIDE, filled.shape[2] // SIDE
        blocks = ops.reshape(filled, (-1, down, SIDE, across, SIDE))
        blocks = ops.reshape(ops.transpose(blocks, (0, 1, 3, 2, 4)), (-1, down * across, SIDE**2))
        table = quantisation(quality)[:, None]
        cosines = ops.convert_to_tensor(_COSINES)
        kept = ops.round(ops.matmul(blocks - 128, ops.transpose(cosines)) / table) * table
        blocks = ops.reshape(ops.matmul(kept, cosines) + 128, (-1, down, across, SIDE, SIDE))
        saved = ops.reshape(
            ops.transpose(blocks, (0, 1, 3, 2, 4)), (-1, down * SIDE, across * SIDE, 1)
        )
        saved = ops.clip(saved[:, :height, :width], 0, 255)
        return ops.where(quality[:, :, None, None] > 0, saved, images)


@keras.saving.register_keras_serializable(package="cxr")
class Tone(_Appearance):
    """Change gamma, contrast and brightness of each image of a batch, in this order.

    On a scale of 0 to 1 a grey value v becomes ``contrast * (v**gamma - 0.5) + 0.5 + brightness``,
    clipped to 0 to 1. Contrast is about mid-grey and not about the image's mean, so that a wider
    black border does not change the lungs.

    Call arguments:
        inputs: a pair: images [batch, height, width, 1], 0 to 255, and tones [batch, 3]: gamma,
            contrast, brightness. (1, 1, 0) changes nothing.

    Returns:
        Images of the same shape, always float32.
    """

    def call(self, inputs: tuple[Any, Any]) -> Any:
        images, tones = inputs
        gamma, contrast, brightness = ops.split(tones[:, :, None, None], 3, axis=1)
        # The offset is a number per image, so that each pixel takes a power, a product and a sum.
        offset = 255 * (0.5 * (1 - contrast) + brightness)
        curved = ops.power(ops.cast(images, self.compute_dtype) / 255, gamma)
        return ops.clip(255 * contrast * curved + offset, 0, 255)


def _within(unit: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Scale draws in [0, 1) to a range."""
    low, high = limits
    return low + unit * (high - low)


def _gaussian(sigma: Any, side: int) -> Any:
    """Return [batch, side, side]: row i has the weights of the pixels around pixel i, sum 1."""
    places = np.arange(side, dtype="float32")
    apart = ops.convert_to_tensor((places[:, None] - places) ** 2)
    weights = ops.exp(-apart / (2 * ops.square(sigma))[:, None, None])
    return weights / ops.sum(weights, axis=-1, keepdims=True)


def _cosines() -> np.ndarray:
    """Return the orthonormal cosine transform of a block, [64 frequencies, 64 pixels], float32."""
    places = np.arange(SIDE)
    one = np.cos((2 * places + 1) * places[:, None] * np.pi / (2 * SIDE)) * np.sqrt(2 / SIDE)
    one[0] /= np.sqrt(2)
    return np.kron(one, one).astype("float32")


_COSINES = _cosines()


def _filled(images: Any, axis: int, more: int) -> Any:
    """Repeat the last row (axis 1) or column (axis 2) of images [batch, height, width]."""
    if not more:
        return images
    last = images[:, -1:] if axis == 1 else images[:, :, -1:]
    return ops.concatenate([images, ops.repeat(last, more, axis=axis)], axis=axis)
