"""Losses of a head's output, and metrics of the probability of PNEUMONIA."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from cxr.models import head


def loss(output: str) -> Callable[[Any, Any], Any]:
    """Return the loss for a head: a function of labels [batch, 1] and the head's output.

    Args:
        output: ``head.output``. ``sigmoid``: binary cross-entropy; ``sigmoid_pair``: the mean of
            the binary cross-entropies of both classes; ``log_softmax``: the negative
            log-likelihood.
    """
    return {
        "sigmoid": keras.losses.binary_crossentropy,
        "sigmoid_pair": _pair_crossentropy,
        "log_softmax": _negative_log_likelihood,
    }[output]


def _pair_crossentropy(labels: Any, sigmoids: Any) -> Any:
    return keras.losses.binary_crossentropy(_one_hot(labels), sigmoids)


def _negative_log_likelihood(labels: Any, logarithms: Any) -> Any:
    return -ops.sum(_one_hot(labels) * logarithms, axis=1)


def _one_hot(labels: Any) -> Any:
    """Convert labels [batch, 1] to [batch, 2]: NORMAL, PNEUMONIA."""
    return ops.concatenate([1 - labels, labels], axis=1)


def metrics(output: str) -> list[keras.metrics.Metric]:
    """Return the metrics of the history, computed from a head's output; see :func:`loss`."""
    return [
        OfProbability(keras.metrics.BinaryAccuracy(name="accuracy"), output),
        OfProbability(keras.metrics.Precision(name="precision"), output),
        OfProbability(keras.metrics.Recall(name="recall"), output),
        OfProbability(keras.metrics.AUC(name="auc"), output),
    ]


class OfProbability(keras.metrics.Metric):
    """A metric of the probability of PNEUMONIA, for a model that returns a head's output."""

    def __init__(self, metric: keras.metrics.Metric, output: str) -> None:
        super().__init__(name=metric.name)
        self.metric, self.output = metric, output

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.metric.update_state(y_true, head.probability(y_pred, self.output), sample_weight)

    def result(self) -> Any:
        return self.metric.result()

    def reset_state(self) -> None:
        self.metric.reset_state()
