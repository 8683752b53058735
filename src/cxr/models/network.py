"""A system's network: grey pixels -> preprocessing -> backbone -> head -> probability."""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cxr import atomic, augment, params
from cxr.errors import InputError
from cxr.models import backbones, weights

ARCHITECTURE = "architecture.json"
WEIGHTS = "model.weights.h5"
PHASES = "phases"  # folder of the weights that earlier phases kept, and of the index of them all
INDEX = "index.json"
AS_FLOAT = "as_float"  # the layer that makes floats of raw pixels; augmentation comes behind it
IN_FRONT = ("xray", AS_FLOAT, "grey_to_rgb", "preprocess")  # what stands before the backbone
HEAD = "head_"  # every layer of the head begins with it; no layer of a backbone does
OUTPUT = f"{HEAD}output"  # the head's last layer, which the loss is of


def build(
    system: params.System, initial: weights.Arrays | None = None, precision: str = "float32"
) -> keras.Model:
    """Build a system's network.

    Args:
        system: backbone, head and image size.
        initial: the backbone's weights, layer by layer; random where None. Random ones come from
            Keras's global seed: call ``keras.utils.set_random_seed`` before.
        precision: Keras dtype policy of the layers, such as ``float32`` or ``mixed_bfloat16``.

    Returns:
        A flat model that takes uint8 [batch, size, size, 1], X-rays as they are cached, and gives
        float32 [batch, 1], the probability of PNEUMONIA.

    Raises:
        InputError: unknown backbone, or images too small for it.
    """
    backbone = backbones.get(system)
    with _policy(precision):
        image = keras.Input((system.image_size, system.image_size, 1), dtype="uint8", name="xray")
        grey = layers.Rescaling(1.0, dtype="float32", name=AS_FLOAT)(image)
        features = backbone.layers_on(backbone.preprocess(grey))
        model = keras.Model(image, _head(system.head, features), name=system.backbone)
    if initial is not None:
        weights.put(initial, model)
    return model


def warped(model: keras.Model) -> keras.Model:
    """Return a model that augments or perturbs and then does what ``model`` does.

    It shares the weights; ``model`` itself stays made of Keras's own layers, and is what gets
    saved and served.

    Args:
        model: from :func:`build` or :func:`scores`.

    Returns:
        A model of two inputs: the X-rays uint8 [batch, size, size, 1], and transforms float32
        [batch, 10] as :func:`cxr.augment.transforms` gives them.
    """
    image = keras.Input(model.input_shape[1:], dtype="uint8", name="xray")
    transform = keras.Input((augment.TRANSFORM,), dtype="float32", name="transform")
    # From behind AS_FLOAT on: a model with a uint8 input would cut the warped pixels to integers.
    behind = keras.Model(model.get_layer(AS_FLOAT).output, model.output, name=model.name)
    return keras.Model([image, transform], behind(augment.warp(image, transform)))


def scores(model: keras.Model) -> keras.Model:
    """Return the model that is trained: it gives what the loss is of, on the same weights.

    Args:
        model: from :func:`build`.

    Returns:
        A model that gives [batch, 1] or [batch, 2]: sigmoids, or logarithms of probabilities.
    """
    return keras.Model(model.input, model.get_layer(OUTPUT).output, name=model.name)


def split(model: keras.Model) -> tuple[keras.Model, keras.Model] | None:
    """Cut a network where its training begins: what gives the same at each step, and the rest.

    Args:
        model: from :func:`scores`, after :func:`set_trainable`.

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
        cut = frozen.pop().output
        try:  # ValueError: something behind the cut hangs on something before it, so go back
            return keras.Model(model.input, cut), keras.Model(cut, model.output, name=model.name)
        except ValueError:
            continue
    return None


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


def set_trainable(model: keras.Model, system: params.System, phase: params.Phase) -> list[str]:
    """Freeze and free the layers as a phase says. Compile afterwards: Keras looks only then.

    But for the rule ``all``, batch norms of the backbone are never trained: their moving statistics
    are ImageNet's, and a few small batches would spoil them. In Keras a batch norm that is not
    trainable is in inference mode, also while the model is fitted.

    Args:
        model: from :func:`build` with the same system.
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
    body, head = _layer_names(model)
    match rule:
        case "all" | "backbone":
            free = {*body, *head}
        case "head":
            free = set(head)
        case params.Blocks():
            _refuse_beyond(max(rule.blocks, default=0), len(backbone.blocks), "block", system)
            free = {*(n for n in body if backbone.block_of(n) in rule.blocks), *head}
        case params.FromLayer():
            # The backbone's own model begins with its input, which is none of our layers.
            _refuse_beyond(rule.from_layer, len(body), "layer", system)
            free = {*body[max(rule.from_layer - 1, 0) :], *head}
        case params.Last():
            _refuse_beyond(rule.last, len(body + head), "layer", system)
            free = set((body + head)[-rule.last :])
        case _:
            message = f"trainable: {rule} must be replaced by blocks first (with_frozen_blocks)"
            raise ValueError(message)
    for layer in model.layers:
        norm = isinstance(layer, layers.BatchNormalization) and layer.name in body
        layer.trainable = layer.name in free and (rule == "all" or not norm)
    return [layer.name for layer in model.layers if layer.trainable_weights]


def parameter_counts(model: keras.Model) -> dict[str, int]:
    """Count a network's weights: ``total``, ``trainable`` and ``frozen``."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    total = sum(math.prod(weight.shape) for weight in model.weights)
    return {"total": total, "trainable": trainable, "frozen": total - trainable}


def save(
    model: keras.Model,
    before: Mapping[str, list[np.ndarray]],
    system: params.System,
    folder: Path,
) -> keras.Model:
    """Write a model and what its phases kept; the same model gives the same bytes.

    That is ``architecture.json``; ``model.weights.h5``, the weights of the last phase;
    ``phases/<phase>.weights.h5``, those of the phases before it; and ``phases/index.json``, which
    says of each phase in which of these files its weights are.

    The architecture is the one in float32, whatever precision trained it, so that the model gives
    the same probabilities on every machine.

    Args:
        model: from :func:`build` with the same system.
        before: the weights of the phases before the last.
        system: what the model was built from; its phases.
        folder: such as ``models/vgg16_transfer``.

    Returns:
        The model as :func:`load` would give it back.
    """
    with _policy("float32"):
        keras.backend.clear_session()  # automatic layer names count up within a process
        plain = build(system)
    text = json.dumps(json.loads(plain.to_json()), indent=1)
    atomic.write_text(folder / ARCHITECTURE, text + "\n")
    shutil.rmtree(folder / PHASES, ignore_errors=True)
    (folder / PHASES).mkdir(parents=True)
    files = {phase: f"{PHASES}/{phase}.weights.h5" for phase in before}
    files[list(system.phases)[-1]] = WEIGHTS
    for phase, name in files.items():
        plain.set_weights(before[phase] if phase in before else model.get_weights())
        with atomic.replacing(folder / name) as beside:
            plain.save_weights(beside)
    atomic.write_text(folder / PHASES / INDEX, json.dumps(files, indent=2) + "\n")
    return plain


def load(folder: str | Path, phase: str | None = None) -> keras.Model:
    """Give back a trained model from its folder, such as ``models/vgg16_transfer``.

    Args:
        folder: what :func:`save` wrote.
        phase: whose weights; the last one's where None.

    Returns:
        A model that takes uint8 [batch, size, size, 1] and gives the probability of PNEUMONIA.

    Raises:
        InputError: where the folder does not hold a model, or not that phase.
    """
    text = _kept(Path(folder), ARCHITECTURE).read_text(encoding="utf-8")
    model = keras.models.model_from_json(text)
    restore(model, folder, phase or phases(folder)[-1])
    return model


def phases(folder: str | Path) -> list[str]:
    """Return the names of a trained model's phases, in their order.

    Raises:
        InputError: where the folder does not hold a model.
    """
    return list(_index(Path(folder)))


def restore(model: keras.Model, folder: str | Path, phase: str) -> None:
    """Put the weights that a phase kept into a model from :func:`load`.

    Raises:
        InputError: where the folder does not hold a model, or not that phase.
    """
    folder = Path(folder)
    files = _index(folder)
    if phase not in files:
        message = f"{folder} has no phase {phase!r}: it has {', '.join(files)}"
        raise InputError(message)
    model.load_weights(_kept(folder, files[phase]))


def _index(folder: Path) -> dict[str, str]:
    return dict(json.loads(_kept(folder, f"{PHASES}/{INDEX}").read_text(encoding="utf-8")))


def _kept(folder: Path, name: str) -> Path:
    """Return the path of a file in a model's folder."""
    if not (folder / name).is_file():
        message = f"{folder} holds no {name}: run `dvc repro`, or `dvc pull`, to get the model"
        raise InputError(message)
    return folder / name


def _head(settings: params.Head, features: Any) -> Any:
    pool = {
        "flatten": layers.Flatten,
        "average": layers.GlobalAveragePooling2D,
        "max": layers.GlobalMaxPooling2D,
    }[settings.pool]
    x = pool(name=f"{HEAD}pool")(features)
    if settings.dropout:
        x = layers.Dropout(settings.dropout, name=f"{HEAD}dropout")(x)
    for place, dense in enumerate(settings.dense, start=1):
        if dense.batch_norm:
            x = layers.Dense(dense.units, name=f"{HEAD}dense_{place}")(x)
            x = layers.BatchNormalization(name=f"{HEAD}norm_{place}")(x)
            x = layers.ReLU(name=f"{HEAD}relu_{place}")(x)
        else:
            x = layers.Dense(dense.units, activation="relu", name=f"{HEAD}dense_{place}")(x)
        if dense.dropout:
            x = layers.Dropout(dense.dropout, name=f"{HEAD}dropout_{place}")(x)
    units, activation = {
        "sigmoid": (1, "sigmoid"),
        "sigmoid_pair": (2, "sigmoid"),
        "log_softmax": (2, "log_softmax"),
    }[settings.output]
    # float32: a probability in bfloat16 has steps of 0.004 near 1.
    scores = layers.Dense(units, activation=activation, dtype="float32", name=OUTPUT)(x)
    return probability(scores, settings.output)


def _layer_names(model: keras.Model) -> tuple[list[str], list[str]]:
    """Return the names of the backbone's layers and of the head's, in the model's order."""
    names = [layer.name for layer in model.layers]
    body = [n for n in names if not n.startswith(HEAD) and n not in IN_FRONT]
    return body, [n for n in names if n.startswith(HEAD)]


def _refuse_beyond(asked: int, there_are: int, noun: str, system: params.System) -> None:
    if asked > there_are:
        message = (
            f"trainable asks for {noun} {asked}; backbone {system.backbone} has {there_are} "
            f"{noun}s, so give at most that"
        )
        raise InputError(message)


@contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
