"""A model that can be evaluated by hand, and cached images."""

from pathlib import Path

import keras
import numpy as np

from cxr import params
from cxr.augment import AS_FLOAT
from cxr.evaluation import inference
from cxr.evaluation.predictions import Predictions
from cxr.models import store
from tests.small import PERTURBATION, SIZE, xrays

IMAGES, INDEX = xrays({"train": (40, 50), "val": (6, 9), "test": (8, 12)})
TEST = np.flatnonzero(INDEX["split"] == "test")
MIDDLES = {"features": 90, "finetune": 130}  # the brightness that is a probability of 0.5
NO_PERTURBATION = params.Perturbation(
    rotation=0, shear=0, zoom=0, horizontal_flip=False, channel_shift=0, brightness=(1, 1)
)
BRIGHTNESS = NO_PERTURBATION.model_copy(update={"brightness": (0.5, 1.5)})


@keras.saving.register_keras_serializable("tests")
class Spot(keras.layers.Layer):
    """Gives a probability that rises with the brightness of one pixel of the spot of ``xrays``."""

    def build(self, shape):
        self.middle = self.add_weight(shape=(), initializer="zeros", name="middle")

    def call(self, images):
        return keras.ops.sigmoid((images[:, 5, 5] - self.middle) / 30)


def write_model(folder: Path, middles: dict[str, int]) -> None:
    """Write a model like those of :mod:`cxr.models`: raw pixels in, a probability out."""
    image = keras.Input((SIZE, SIZE, 1), dtype="uint8")
    grey = keras.layers.Rescaling(1.0, dtype="float32", name=AS_FLOAT)(image)
    model = keras.Model(image, Spot()(grey))
    weights = {phase: [np.float32(middle)] for phase, middle in middles.items()}
    store.save(model.to_json(), weights, folder)


def predict(
    folder: Path,
    images: np.ndarray = IMAGES,
    index=INDEX,
    perturbation: params.Perturbation = PERTURBATION,
    batch_size: int = 64,
) -> Predictions:
    return inference.predict(folder, images, index, perturbation, batch_size, 0)
