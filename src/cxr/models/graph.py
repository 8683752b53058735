"""The outputs of a network's layers."""

from typing import Any

import keras


def outputs(model: keras.Model) -> dict[str, Any]:
    """Return the output of each layer in a model's own graph, by the layer's name.

    ``layer.output`` may belong to another graph: KerasHub calls a backbone's layers on an input of
    its own before :mod:`cxr.models.backbones` applies them to ours.

    Args:
        model: a functional model that uses each of its layers once.
    """
    found: dict[str, Any] = {}
    waiting = list(model.outputs)
    while waiting:
        tensor = waiting.pop()
        layer, node, _ = tensor._keras_history
        if layer.name not in found:
            found[layer.name] = tensor
            waiting += layer._inbound_nodes[node].input_tensors
    return found
