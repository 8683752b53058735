"""Set the layers that a phase trains, and separate the frozen part before them."""

import math

import keras
from keras import layers

from cxr import augment, params
from cxr.errors import InputError
from cxr.models import backbones, graph, head

# Names of the layers before the backbone.
INPUT_LAYERS = ("xray", augment.AS_FLOAT, "grey_to_rgb", "preprocess")


def resolve(system: params.System, freeze_blocks: int | None) -> params.System:
    """Return a system with ``trainable: above_freeze_blocks`` replaced by ``blocks``.

    Args:
        system: the system as params.yaml describes it.
        freeze_blocks: how many blocks of the backbone are frozen, counted from the input; None if
            the stage has no such argument.

    Raises:
        InputError: ``freeze_blocks`` is out of range, missing, or used by no phase.
    """
    blocks = len(backbones.get(system).blocks)
    using = [n for n, phase in system.phases.items() if phase.trainable == "above_freeze_blocks"]
    if freeze_blocks is None:
        if using:
            message = (
                f"phase {using[0]} trains above_freeze_blocks, but --freeze-blocks is missing: "
                'add args: "--freeze-blocks ${freeze_blocks}" to the system\'s line in dvc.yaml'
            )
            raise InputError(message)
        return system
    if not using:
        message = (
            f"--freeze-blocks {freeze_blocks} would change nothing: no phase of the system has "
            "trainable: above_freeze_blocks. Remove the argument from dvc.yaml"
        )
        raise InputError(message)
    if not 0 <= freeze_blocks <= blocks:
        message = (
            f"freeze_blocks is {freeze_blocks}; backbone {system.backbone} has {blocks} blocks: "
            f"give an integer from 0 (train all) to {blocks} (train only the head)"
        )
        raise InputError(message)
    rule = params.Blocks(blocks=tuple(range(freeze_blocks + 1, blocks + 1)))
    phases = {
        name: phase.model_copy(update={"trainable": rule}) if name in using else phase
        for name, phase in system.phases.items()
    }
    return system.model_copy(update={"phases": phases})


def set_trainable(model: keras.Model, system: params.System, phase: params.AnyPhase) -> list[str]:
    """Set ``trainable`` of every layer by a phase's rule; compile afterwards.

    The rule ``all`` also trains the backbone's batch norms, so pretrained moving statistics change.
    Every other rule freezes them, because a few small batches would spoil ImageNet's statistics. In
    Keras a frozen batch norm is in inference mode even during ``fit``.

    Args:
        model: from :func:`cxr.models.network.build` with the same system.
        system: names the backbone.
        phase: its ``trainable`` is the rule. ``all``: every layer; ``backbone``: the whole backbone
            and the head; ``head``: only the head; ``blocks``: these blocks and the head;
            ``from_layer``: the backbone from the layer with this index on, counted as in
            ``keras.applications.<Backbone>(include_top=False).layers``, and the head; ``last``:
            this many layers at the end of the whole network.

    Returns:
        The names of the layers with trainable weights.

    Raises:
        InputError: the backbone has no such block or layer.
    """
    backbone = backbones.get(system)
    rule = phase.trainable
    body, top = _layer_names(model)
    owner = f"backbone {system.backbone}"
    match rule:
        case "all" | "backbone":
            trained = {*body, *top}
        case "head":
            trained = set(top)
        case params.Blocks():
            _check_at_most(max(rule.blocks, default=0), len(backbone.blocks), "block", owner)
            trained = {*(n for n in body if backbone.block_of(n) in rule.blocks), *top}
        case params.FromLayer():
            # Index 0 is the input layer of Keras's own model, which ours does not have.
            _check_at_most(rule.from_layer, len(body), "layer", owner)
            trained = {*body[max(rule.from_layer - 1, 0) :], *top}
        case params.Last():
            _check_at_most(rule.last, len(body + top), "layer", "the network")
            trained = set((body + top)[-rule.last :])
        case _:
            message = f"trainable: {rule} must be replaced by blocks first; see resolve"
            raise ValueError(message)
    for layer in model.layers:
        norm = isinstance(layer, layers.BatchNormalization) and layer.name in body
        layer.trainable = layer.name in trained and (rule == "all" or not norm)
    return [layer.name for layer in model.layers if layer.trainable_weights]


def feature_extractor(model: keras.Model) -> tuple[keras.Model, keras.Model] | None:
    """Split a network into a frozen feature extractor and the rest, which is trained.

    Args:
        model: from :func:`cxr.models.network.with_head_output`, after :func:`set_trainable`.

    Returns:
        The extractor, from X-rays to features, and the rest, from features to the head's output;
        both share the model's weights. None if no layer with weights is frozen before the first
        trained one. Dropout belongs to the rest, because its output differs in each step.
    """
    changing = (
        place
        for place, layer in enumerate(model.layers)
        if layer.trainable_weights or isinstance(layer, layers.Dropout)
    )
    frozen = model.layers[: next(changing, 0)]
    outputs = graph.outputs(model)
    while any(layer.weights for layer in frozen):
        features = outputs[frozen.pop().name]
        try:  # ValueError: a later layer also uses an earlier output (a skip), so try one before
            return keras.Model(model.input, features), keras.Model(
                features, model.output, name=model.name
            )
        except ValueError:
            continue
    return None


def parameter_counts(model: keras.Model) -> dict[str, int]:
    """Return the number of a network's parameters: ``total``, ``trainable`` and ``frozen``."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    total = sum(math.prod(weight.shape) for weight in model.weights)
    return {"total": total, "trainable": trainable, "frozen": total - trainable}


def _layer_names(model: keras.Model) -> tuple[list[str], list[str]]:
    """Return the names of the backbone's layers and of the head's, in the model's order."""
    names = [layer.name for layer in model.layers]
    body = [n for n in names if not n.startswith(head.PREFIX) and n not in INPUT_LAYERS]
    return body, [n for n in names if n.startswith(head.PREFIX)]


def _check_at_most(number: int, limit: int, noun: str, owner: str) -> None:
    if number > limit:
        message = (
            f"trainable names {noun} {number}, but {owner} has {limit} {noun}s: "
            f"give at most {limit}"
        )
        raise InputError(message)
