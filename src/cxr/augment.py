"""Random affine augmentation, and the perturbation that stands for a second hospital.

ImageDataGenerator, which the published systems use, interpolates image by image on the CPU. A chain
of Keras's random layers interpolates once per layer. Here rotation, shift, shear, zoom and flip are
composed into one matrix on the host, and the grey image is interpolated once.
``python -m benchmarks.feeding`` compares the speeds. The image's appearance changes after the map
(:mod:`cxr.appearance`), where the augmentation has one.

Augmentation depends on (seed, phase, epoch, step) alone, so any batch can be drawn again, in any
order and on any backend. A perturbation depends on (seed, id of the image) alone, so an image
always gets the same one.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from cxr import appearance, params, seeding

DRAWS = ("theta", "tx", "ty", "shear", "zx", "zy", "flip")
AS_FLOAT = "as_float"  # the layer that converts raw pixels to float; transforms come after it
TRANSFORM = 10  # numbers per image: 8 of the affine map, 2 of the tone; those of appearance follow


def draw(
    settings: params.Augmentation,
    shape: tuple[int, int],
    count: int,
    seed: int,
    *purpose: str | int,
) -> np.ndarray:
    """Draw the parameters of ``count`` affine maps.

    Args:
        settings: the ranges.
        shape: height and width of the images in pixels; shifts are fractions of them.
        count: how many images.
        seed: ``seed`` of params.yaml.
        *purpose: identifies the draws: phase, epoch, step.

    Returns:
        float64 [count, 7], the columns of :data:`DRAWS`: rotation in degrees; shifts along x and y
        in pixels; shear in degrees; zooms along x and y (a factor: above 1 shows more, smaller);
        flip, 0 or 1. A magnification divides the zooms.

        Here ``width_shift`` is along the width. ImageDataGenerator swaps rows and columns in its
        matrix, so its ``height_shift_range`` moves images sideways (tried, Keras 3.15).
    """
    unit = seeding.generator(seed, "augment", *purpose).random((count, len(DRAWS)))
    draws = _ranged(unit, settings, shape)
    if settings.magnification is not None:
        x, y = settings.magnification.x, settings.magnification.y
        # Draws of their own, so that the others are the same with and without them.
        unit = seeding.generator(seed, "magnification", *purpose).random((count, 2))
        draws[:, 4:6] /= np.array([x[0], y[0]]) + unit * np.ptp([x, y], axis=1)
    return draws


def perturbations(
    settings: params.Perturbation, shape: tuple[int, int], ids: Iterable[str], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw each image's perturbation: an affine map, a shift of the grey values, a brightness.

    Args:
        settings: the ranges.
        shape: height and width of the images in pixels.
        ids: of n images. The perturbation of an id does not depend on the other ids.
        seed: ``seed`` of params.yaml.

    Returns:
        Maps float64 [n, 3, 3], see :func:`matrices`; and tones float64 [n, 2], see
        :class:`ToneAugmentation`: an offset in grey values (0 to 255), then a factor.
    """
    count = len(DRAWS) + 2
    unit = np.stack([seeding.generator(seed, "perturb", str(name)).random(count) for name in ids])
    affine = params.Augmentation(
        rotation=settings.rotation,
        width_shift=0,
        height_shift=0,
        shear=settings.shear,
        zoom=settings.zoom,
        horizontal_flip=settings.horizontal_flip,
        magnification=None,
        appearance=None,
        original=0,
        views=0,
    )
    low, high = settings.brightness
    shift = (2 * unit[:, -2] - 1) * settings.channel_shift
    tones = np.column_stack([shift, low + unit[:, -1] * (high - low)])
    return matrices(_ranged(unit, affine, shape), shape), tones


def matrices(draws: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return one matrix about the image's centre for each row of draws.

    The order is ImageDataGenerator's: rotation, shift, shear, zoom, and the flip last.

    Args:
        draws: [count, 7], from :func:`draw`.
        shape: height and width of the images in pixels.

    Returns:
        float64 [count, 3, 3]: each maps (x, y, 1) of an output pixel to (x, y, 1) of the input.
    """
    theta, tx, ty, shear, zx, zy, flip = draws.T
    theta, shear = np.deg2rad(theta), np.deg2rad(shear)
    rotation = _matrix(np.cos(theta), -np.sin(theta), 0, np.sin(theta), np.cos(theta), 0)
    shift = _matrix(1, 0, tx, 0, 1, ty)
    shearing = _matrix(1, -np.sin(shear), 0, 0, np.cos(shear), 0)
    zooming = _matrix(zx, 0, 0, 0, zy, 0)
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    to_centre, from_centre = _matrix(1, 0, -x, 0, 1, -y), _matrix(1, 0, x, 0, 1, y)
    mirror = _matrix(1 - 2 * flip, 0, flip * (shape[1] - 1), 0, 1, 0)
    return from_centre @ rotation @ shift @ shearing @ zooming @ to_centre @ mirror


def transforms(
    matrices: np.ndarray, tones: np.ndarray | None = None, appearances: np.ndarray | None = None
) -> np.ndarray:
    """Return maps [count, 3, 3] and tones [count, 2] as a model's input, float32 [count, 10].

    Without tones, grey values do not change. Appearances [count, 6], from
    :func:`cxr.appearance.draw`, are six more columns.
    """
    if tones is None:
        tones = np.tile([0.0, 1.0], (len(matrices), 1))
    columns = [matrices.reshape(-1, 9)[:, :8], tones]
    if appearances is not None:
        columns.append(appearances)
    return np.column_stack(columns).astype("float32")


def transform_images(
    images: Any, transforms: Any, settings: params.Appearance | None = None
) -> Any:
    """Apply an affine map and a tone to each image, given as arrays or as a model's tensors.

    Args:
        images: [batch, height, width, channels], grey values 0 to 255, any dtype. One channel
            where the appearance changes.
        transforms: float32 [batch, 10] from :func:`transforms`; [batch, 16] with ``settings``.
        settings: of the change of appearance that follows; None for none.

    Returns:
        float32 of the same shape.
    """
    moved = AffineAugmentation()([images, transforms[:, :8]])
    toned = ToneAugmentation()([moved, transforms[:, 8:TRANSFORM]])
    if settings is None:
        return toned
    return appearance.change_images(toned, transforms[:, TRANSFORM:], settings)


def with_transforms(model: keras.Model, settings: params.Appearance | None = None) -> keras.Model:
    """Return a model that transforms the images (augments or perturbs) before ``model``.

    Both share their weights. Save and serve ``model``, which has only Keras's own layers.

    Args:
        model: takes uint8 [batch, size, size, 1], and has a layer :data:`AS_FLOAT`.
        settings: of the change of appearance; None for none.

    Returns:
        A model with two inputs: X-rays uint8 [batch, size, size, 1], and transforms float32
        [batch, 10] from :func:`transforms`, or [batch, 16] with ``settings``.
    """
    image = keras.Input(model.input_shape[1:], dtype="uint8", name="xray")
    width = TRANSFORM if settings is None else TRANSFORM + len(appearance.DRAWS)
    transform = keras.Input((width,), dtype="float32", name="transform")
    # After AS_FLOAT, because a uint8 input would truncate the transformed pixels.
    rest = keras.Model(model.get_layer(AS_FLOAT).output, model.output, name=model.name)
    return keras.Model([image, transform], rest(transform_images(image, transform, settings)))


@keras.saving.register_keras_serializable(package="cxr")
class AffineAugmentation(keras.layers.Layer):
    """Apply an affine map to each image of a batch; the fill mode is nearest.

    Call arguments:
        inputs: a pair: images [batch, height, width, channels], any dtype, and transforms
            float32 [batch, 8], the first eight columns of :func:`transforms`.

    Returns:
        Images of the same shape, always float32, because bfloat16 would round the pixels before
        they reach the backbone.

    Example:
        >>> settings = params.load().systems["vgg16_transfer"].augmentation
        >>> drawn = draw(settings, (224, 224), 62, 0, "train", 3, 17)
        >>> AffineAugmentation()([images, transforms(matrices(drawn, (224, 224)))[:, :8]])
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)
        # XLA can compile JAX's kernel of the affine map, but not TensorFlow's.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def call(self, inputs: tuple[Any, Any]) -> Any:
        images, transforms = inputs
        return ops.image.affine_transform(
            ops.cast(images, self.compute_dtype),
            transforms,
            interpolation="bilinear",
            fill_mode="nearest",
            data_format="channels_last",
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]


@keras.saving.register_keras_serializable(package="cxr")
class ToneAugmentation(keras.layers.Layer):
    """Shift the grey values of each image of a batch, then multiply them by its brightness.

    The order is ImageDataGenerator's, but values are not rounded to whole grey values. Shifted
    values are clipped to the image's own range, and products to 0 to 255.

    Call arguments:
        inputs: a pair: images [batch, height, width, channels], 0 to 255, and tones [batch, 2]:
            an offset in grey values, then a factor. (0, 1) changes nothing.

    Returns:
        Images of the same shape, always float32.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)

    def call(self, inputs: tuple[Any, Any]) -> Any:
        images, tones = inputs
        shift, brightness = ops.split(tones[:, :, None, None], 2, axis=1)
        inside = (1, 2, 3)
        low = ops.min(images, axis=inside, keepdims=True)
        high = ops.max(images, axis=inside, keepdims=True)
        shifted = ops.minimum(ops.maximum(images + shift, low), high)
        return ops.clip(shifted * brightness, 0, 255)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]


def _ranged(unit: np.ndarray, settings: params.Augmentation, shape: tuple[int, int]) -> np.ndarray:
    """Scale draws in [0, 1), of shape [count, 7 or more], to the ranges of :data:`DRAWS`."""
    height, width = shape
    zoom = settings.zoom
    low_high = np.array(
        [
            (-settings.rotation, settings.rotation),
            (-settings.width_shift * width, settings.width_shift * width),
            (-settings.height_shift * height, settings.height_shift * height),
            (-settings.shear, settings.shear),
            (1 - zoom, 1 + zoom),
            (1 - zoom, 1 + zoom),
        ]
    )
    ranged = low_high[:, 0] + unit[:, :6] * (low_high[:, 1] - low_high[:, 0])
    flip = (unit[:, 6] < 0.5) & settings.horizontal_flip
    return np.column_stack([ranged, flip])


def _matrix(*six: Any) -> np.ndarray:
    """Return matrices [count, 3, 3] from an affine map's six numbers, each a scalar or [count]."""
    rows = np.stack(np.broadcast_arrays(*np.atleast_1d(*six), 0, 0, 1)[:9], axis=-1)
    return rows.reshape(-1, 3, 3).astype("float64")
