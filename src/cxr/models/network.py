"""A system's network: grey pixels -> preprocessing -> backbone -> head -> probability."""

import difflib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import layers

from cxr import augment, params
from cxr.errors import InputError
from cxr.models import backbones, freezing, graph, head, weights


def build(
    system: params.System, initial: weights.Arrays | None = None, precision: str = "float32"
) -> keras.Model:
    """Build a system's network.

    Args:
        system: backbone, head and image size.
        initial: the backbone's weights, layer by layer; None for random weights, which come from
            Keras's global seed: call ``keras.utils.set_random_seed`` first.
        precision: Keras dtype policy of the layers: ``float32`` or ``mixed_bfloat16``.

    Returns:
        A flat model from uint8 [batch, size, size, 1], the cached X-rays, to float32 [batch, 1],
        the probability of PNEUMONIA. With ``head.layers``, layers of the backbone on which none of
        these depends are left out.

    Raises:
        InputError: the backbone is unknown or lacks a layer of ``head.layers``, or the images are
            too small for it.
    """
    backbone = backbones.get(system)
    with _dtype_policy(precision):
        image = keras.Input((system.image_size, system.image_size, 1), dtype="uint8", name="xray")
        grey = layers.Rescaling(1.0, dtype="float32", name=augment.AS_FLOAT)(image)
        whole = keras.Model(image, backbone.apply(backbone.preprocess(grey)))
        features = _features(whole, system)
        model = keras.Model(image, head.head(system.head, features), name=system.backbone)
    if initial is not None:
        used = {layer.name for layer in model.layers}
        weights.put({name: arrays for name, arrays in initial.items() if name in used}, model)
    return model


def architecture(model: keras.Model) -> str:
    """Return a model's architecture as JSON, always in float32.

    A saved model therefore predicts in float32 on every machine. Call this before a phase freezes
    layers, because the JSON contains each layer's ``trainable``.
    """
    text = model.to_json()
    for reduced in ("mixed_bfloat16", "bfloat16"):  # the layers' policy, the tensors' dtype
        text = text.replace(f'"{reduced}"', '"float32"')
    return json.dumps(json.loads(text), indent=1) + "\n"


def with_head_output(model: keras.Model) -> keras.Model:
    """Return the model to train: it shares the weights but returns the head's output.

    Args:
        model: from :func:`build`.

    Returns:
        A model that returns the input of the loss: [batch, 1] or [batch, 2], sigmoids or logarithms
        of probabilities.
    """
    return keras.Model(model.input, model.get_layer(head.OUTPUT).output, name=model.name)


def _features(backbone: keras.Model, system: params.System) -> list[Any]:
    """Return the outputs of the backbone's layers that the head is built on."""
    if system.head.layers is None:
        return [backbone.output]
    known = [n.name for n in backbone.layers if n.name not in freezing.INPUT_LAYERS]
    for name in system.head.layers:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0)
            message = (
                f"head.layers names {name}, but backbone {system.backbone} has no such layer: "
                f"did you mean {', '.join(close[:-1])} or {close[-1]}?"
            )
            raise InputError(message)
    outputs = graph.outputs(backbone)
    return [outputs[name] for name in system.head.layers]


@contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    """Set Keras's dtype policy inside the block, for the layers created there."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
