"""The head: the layers on top of the backbone, and the probability computed from its output."""

from collections.abc import Sequence
from typing import Any

from keras import layers, ops

from cxr import params

PREFIX = "head_"  # of the name of every layer in the head, and of none in the backbone
OUTPUT = f"{PREFIX}output"  # the head's last layer; the loss is computed from its output


def head(settings: params.Head, features: Sequence[Any]) -> Any:
    """Build a head on top of a backbone's outputs.

    Args:
        settings: of the head.
        features: [batch, h, w, channels] each, of ``settings.layers``; without these one, the
            backbone's own output. Their h and w may differ.

    Returns:
        The probability of PNEUMONIA, float32 [batch, 1].
    """
    x = _pooled(settings, features)
    if settings.dropout:
        x = layers.Dropout(settings.dropout, name=f"{PREFIX}dropout")(x)
    for place, dense in enumerate(settings.dense, start=1):
        if dense.batch_norm:
            x = layers.Dense(dense.units, name=f"{PREFIX}dense_{place}")(x)
            x = layers.BatchNormalization(name=f"{PREFIX}norm_{place}")(x)
            x = layers.ReLU(name=f"{PREFIX}relu_{place}")(x)
        else:
            x = layers.Dense(dense.units, activation="relu", name=f"{PREFIX}dense_{place}")(x)
        if dense.dropout:
            x = layers.Dropout(dense.dropout, name=f"{PREFIX}dropout_{place}")(x)
    units, activation = {
        "sigmoid": (1, "sigmoid"),
        "sigmoid_pair": (2, "sigmoid"),
        "log_softmax": (2, "log_softmax"),
    }[settings.output]
    # float32, because probabilities near 1 are 0.004 apart in bfloat16.
    output = layers.Dense(units, activation=activation, dtype="float32", name=OUTPUT)(x)
    return probability(output, settings.output)


def _pooled(settings: params.Head, features: Sequence[Any]) -> Any:
    """Pool each of the features and concatenate the results: [batch, channels of all]."""
    pool = {
        "flatten": layers.Flatten,
        "average": layers.GlobalAveragePooling2D,
        "max": layers.GlobalMaxPooling2D,
    }[settings.pool]
    if len(features) == 1:
        return pool(name=f"{PREFIX}pool")(features[0])
    pooled = [
        pool(name=f"{PREFIX}pool_{place}")(tensor) for place, tensor in enumerate(features, start=1)
    ]
    return layers.Concatenate(name=f"{PREFIX}pools")(pooled)


def probability(output: Any, kind: str) -> Any:
    """Return the probability of PNEUMONIA [batch, 1] from a head's output.

    Args:
        output: [batch, 1] or [batch, 2], of the head's last layer; see :class:`cxr.params.Head`.
        kind: ``head.output``. A pair of sigmoids need not add up to 1; the probability is
            PNEUMONIA's share of their sum.
    """
    match kind:
        case "sigmoid":
            return output
        case "sigmoid_pair":
            # 1e-7 gives 0.5 if both are 0, and is too small to matter otherwise.
            return (output[:, 1:] + 1e-7) / (ops.sum(output, axis=1, keepdims=True) + 2e-7)
        case "log_softmax":
            return ops.exp(output[:, 1:])
    raise ValueError(kind)
