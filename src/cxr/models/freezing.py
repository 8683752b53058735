"""Which layers a phase trains, and where a network can be cut because all before is frozen."""

import math

import keras
from keras import layers

from cxr import augment, params
from cxr.errors import InputError
from cxr.models import backbones, head

# The layers before the backbone.
IN_FRONT = ("xray", augment.AS_FLOAT, "grey_to_rgb", "preprocess")


def set_trainable(model: keras.Model, system: params.System, phase: params.Phase) -> list[str]:
    """Freeze and free the layers as a phase says. Compile afterwards: Keras looks only then.

    But for the rule ``all``, batch norms of the backbone are never trained: their moving statistics
    are ImageNet's, and a few small batches would spoil them. In Keras a batch norm that is not
    trainable is in inference mode, also while the model is fitted.

    Args:
        model: from :func:`cxr.models.network.build` with the same system.
        system: says which backbone is meant.
        phase: its ``trainable`` says what is trained. ``all``: every layer, batch norms too;
            ``backbone``: all of the backbone, and the head; ``head``: that alone; ``blocks``:
            those, and the head; ``from_layer``: the backbone's layers from that index on, counted
            as in ``keras.applications.<Backbone>(include_top=False).layers``, and the head;
            ``last``: as many layers from the end of the head.

    Returns:
        The names of the layers with weights that the phase trains.

    Raises:
        InputError: a block or layer that the backbone does not have.
    """
    backbone = backbones.get(system)
    rule = phase.trainable
    body, top = _layer_names(model)
    match rule:
        case "all" | "backbone":
            free = {*body, *top}
        case "head":
            free = set(top)
        case params.Blocks():
            _refuse_beyond(max(rule.blocks, default=0), len(backbone.blocks), "block", system)
            free = {*(n for n in body if backbone.block_of(n) in rule.blocks), *top}
        case params.FromLayer():
            # The backbone's own model begins with its input, which is none of our layers.
            _refuse_beyond(rule.from_layer, len(body), "layer", system)
            free = {*body[max(rule.from_layer - 1, 0) :], *top}
        case params.Last():
            _refuse_beyond(rule.last, len(body + top), "layer", system)
            free = set((body + top)[-rule.last :])
        case _:
            message = f"trainable: {rule} must be replaced by blocks first (with_frozen_blocks)"
            raise ValueError(message)
    for layer in model.layers:
        norm = isinstance(layer, layers.BatchNormalization) and layer.name in body
        layer.trainable = layer.name in free and (rule == "all" or not norm)
    return [layer.name for layer in model.layers if layer.trainable_weights]


def cut(model: keras.Model) -> tuple[keras.Model, keras.Model] | None:
    """Cut a network where its training begins: what gives the same at each step, and the rest.

    Args:
        model: from :func:`cxr.models.network.raw_outputs`, after :func:`set_trainable`.

    Returns:
        The frozen part, from X-rays to what is passed on, and the rest, from there to the scores,
        both on the same weights; None where nothing with weights is frozen before what is trained.
        Dropout, which draws anew, counts as training.
    """
    active = (
        place
        for place, layer in enumerate(model.layers)
        if layer.trainable_weights or isinstance(layer, layers.Dropout)
    )
    frozen = model.layers[: next(active, 0)]
    while any(layer.weights for layer in frozen):
        boundary = frozen.pop().output
        try:  # ValueError: something behind the cut hangs on something before it, so go back
            return keras.Model(model.input, boundary), keras.Model(
                boundary, model.output, name=model.name
            )
        except ValueError:
            continue
    return None


def parameter_counts(model: keras.Model) -> dict[str, int]:
    """Count a network's weights: ``total``, ``trainable`` and ``frozen``."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    total = sum(math.prod(weight.shape) for weight in model.weights)
    return {"total": total, "trainable": trainable, "frozen": total - trainable}


def _layer_names(model: keras.Model) -> tuple[list[str], list[str]]:
    """Return the names of the backbone's layers and of the head's, in the model's order."""
    names = [layer.name for layer in model.layers]
    body = [n for n in names if not n.startswith(head.PREFIX) and n not in IN_FRONT]
    return body, [n for n in names if n.startswith(head.PREFIX)]


def _refuse_beyond(asked: int, there_are: int, noun: str, system: params.System) -> None:
    if asked > there_are:
        message = (
            f"trainable asks for {noun} {asked}; backbone {system.backbone} has {there_are} "
            f"{noun}s, so give at most that"
        )
        raise InputError(message)
