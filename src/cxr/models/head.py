"""The head: what stands on the backbone, and the probability that follows from its outputs."""

from typing import Any

from keras import layers, ops

from cxr import params

PREFIX = "head_"  # every layer of the head begins with it; no layer of a backbone does
OUTPUT = f"{PREFIX}output"  # the head's last layer, which the loss is of


def head(settings: params.Head, features: Any) -> Any:
    """Build a head on top of ``features`` [batch, h, w, channels]: the probability [batch, 1]."""
    pool = {
        "flatten": layers.Flatten,
        "average": layers.GlobalAveragePooling2D,
        "max": layers.GlobalMaxPooling2D,
    }[settings.pool]
    x = pool(name=f"{PREFIX}pool")(features)
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
    # float32: a probability in bfloat16 has steps of 0.004 near 1.
    scores = layers.Dense(units, activation=activation, dtype="float32", name=OUTPUT)(x)
    return probability(scores, settings.output)


def probability(scores: Any, output: str) -> Any:
    """Return the probability of PNEUMONIA [batch, 1] from a head's scores.

    Args:
        scores: what the head's last layer gives, see :class:`cxr.params.Head`.
        output: ``head.output``. Of a pair of sigmoids, which need not add up to 1, it is
            PNEUMONIA's part: above 0.5 where the greater of the two is PNEUMONIA's.
    """
    match output:
        case "sigmoid":
            return scores
        case "sigmoid_pair":
            # A tensor of both 0 has no parts; 1e-7 makes it 0.5 and moves no other that counts.
            return (scores[:, 1:] + 1e-7) / (ops.sum(scores, axis=1, keepdims=True) + 2e-7)
        case "log_softmax":
            return ops.exp(scores[:, 1:])
    raise ValueError(output)
