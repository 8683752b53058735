"""Grad-CAM: where in an X-ray a network sees evidence of PNEUMONIA, by Keras alone.

Selvaraju and others, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017.
"""

import re
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cxr.models import head
from cxr.training import batches


class GradCam:
    """Makes the maps of a network at the last features in front of its head, for batches of X-rays.

    A map is the sum over channels of the features, each weighted by the mean over places of the
    gradient of the log-odds of PNEUMONIA. The gradient of the probability would vanish where the
    network is sure. Where the map is above 0, there is evidence of PNEUMONIA; below 0, against it.

    Keras has no public function for a gradient, but one step of plain gradient descent with
    learning rate 1 gives it. A variable of zeros, one for each image and channel, is added to the
    features at all places, and the loss is minus the sum of the log-odds. After the step the
    variable holds the sum over places of the gradient. The step runs a copy of the head, in
    inference mode, so that the network itself never changes.

    A map is in log-odds per place: if the head is a mean over places and one Dense layer, the sum
    over a map is the log-odds less the bias, and Grad-CAM is CAM (Zhou and others 2016).

    Args:
        model: of :func:`cxr.models.network.build`, perhaps loaded from a file.
        batch_size: images per batch.

    Attributes:
        layer: the name of the layer whose output is mapped. If the head pools several layers, it is
            the one closest to the output: what the others add to the log-odds is not in the maps.
    """

    def __init__(self, model: keras.Model, batch_size: int) -> None:
        pools = [n for n in model.layers if re.fullmatch(rf"{head.PREFIX}pool(_\d+)?", n.name)]
        features = list({id(pool.input): pool.input for pool in pools}.values())
        self._place, self.layer = _closest_to_output(model, features)
        self._size, self._batch_size = features[self._place].shape[1:3], batch_size
        self._extractor = keras.Model(model.input, features)  # shares the model's weights
        output = model.get_layer(head.OUTPUT)
        self._head = keras.Model(features, output.input), output
        self._ascent = _Ascent(*self._head, self._place, batch_size)

    def maps(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the maps of some of the cached X-rays, before negative values are cut to 0.

        They are those of the weights that the model has now.

        Args:
            images: uint8 [n, size, size].
            rows: the indices of the images, in the order of the result.

        Returns:
            float32 [rows, h, w], with the h and w of the features.
        """
        found = np.empty((len(rows), *self._size), "float32")
        if not len(rows):
            return found
        self._ascent.copy_weights(*self._head)
        for places, features in batches.outputs(self._extractor, images, rows, self._batch_size):
            weights = self._ascent.channel_weights(features)
            found[places] = np.einsum("nhwc,nc->nhw", features[self._place], weights)
        return found


def positive(maps: np.ndarray) -> np.ndarray:
    """Return maps of the evidence for PNEUMONIA alone: negative values become 0."""
    return np.maximum(maps, 0)


def _closest_to_output(model: keras.Model, features: list[Any]) -> tuple[int, str]:
    """Return the place of the features with the most layers before them, and their layer's name."""
    if not features:
        message = f"the model has no layer {head.PREFIX}pool: build it with cxr.models.network"
        raise ValueError(message)
    parts = [keras.Model(model.input, tensor).layers for tensor in features]
    place = max(range(len(parts)), key=lambda n: len(parts[n]))
    return place, str(parts[place][-1].name)


class _Ascent(keras.Model):
    """The log-odds of PNEUMONIA from features, and Grad-CAM's weights of one layer's channels."""

    def __init__(
        self, hidden: keras.Model, output: layers.Dense, place: int, batch_size: int
    ) -> None:
        super().__init__(name="log_odds")  # TensorFlow refuses a name that begins with _
        # Copies, because freezing layers, or a step, would change the network that others use. And
        # no attribute may hold the originals: Keras would train them.
        self.hidden = keras.models.clone_model(hidden)
        self.hidden.trainable = False
        self.logits = layers.Dense(output.units, trainable=False, dtype="float32")
        self.logits.build(output.input.shape)
        self.kind = (output.units, output.get_config()["activation"])
        self.place, self.batch_size = place, batch_size
        _, height, width, channels = hidden.inputs[place].shape
        self.places = height * width
        self.added = self.add_weight(
            shape=(batch_size, 1, 1, channels), initializer="zeros", name="added"
        )
        self.compile(keras.optimizers.SGD(learning_rate=1.0), _MinusSum())

    def call(self, features: Any) -> Any:
        """Return the log-odds [batch, 1]; dropout and batch norms are in inference mode."""
        features = list(features)
        features[self.place] = features[self.place] + self.added
        logits = self.logits(self.hidden(features, training=False))
        match self.kind:
            case (1, "sigmoid"):
                return logits
            case (2, "sigmoid"):  # PNEUMONIA's share of the sum; see cxr.models.head.probability
                logs = ops.log_sigmoid(logits)
                return logs[:, 1:] - logs[:, :1]
            case (2, "log_softmax"):
                return logits[:, 1:] - logits[:, :1]
        message = f"no log-odds are known for a head with {self.kind}"
        raise ValueError(message)

    def copy_weights(self, hidden: keras.Model, output: layers.Dense) -> None:
        """Take over the weights that the network's head has now."""
        self.hidden.set_weights(hidden.get_weights())
        self.logits.set_weights(output.get_weights())

    def channel_weights(self, features: list[np.ndarray]) -> np.ndarray:
        """Return the mean over places of the gradient of each image's log-odds, [n, channels].

        Args:
            features: [n, ...] of each pooled layer, n from 1 to ``batch_size``.
        """
        # The variable has a whole batch, so a smaller one is filled, with images that come again.
        filled = [np.resize(given, (self.batch_size, *given.shape[1:])) for given in features]
        self.added.assign(ops.zeros(self.added.shape))
        self.train_on_batch(filled, np.zeros((self.batch_size, 1), "float32"))
        sums = ops.convert_to_numpy(self.added)[: len(features[0]), 0, 0]
        return sums / self.places


class _MinusSum(keras.losses.Loss):
    """Minus the sum of the outputs, so that a step of descent with rate 1 adds their gradient."""

    def __init__(self) -> None:
        super().__init__(reduction="sum")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return -y_pred
