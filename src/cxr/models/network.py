"""A system's network: grey pixels -> preprocessing -> backbone -> head -> probability."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
from keras import layers

from cxr import atomic, augment, params
from cxr.errors import InputError
from cxr.models import backbones, weights

ARCHITECTURE = "architecture.json"
WEIGHTS = "model.weights.h5"
AS_FLOAT = "as_float"  # the layer that makes floats of raw pixels; augmentation comes behind it
HEAD = "head_"  # every layer of the head begins with it; no layer of a backbone does


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


def augmented(model: keras.Model) -> keras.Model:
    """Return a model that augments and then does what ``model`` does, on the same weights.

    Training goes through it; ``model`` itself stays made of Keras's own layers, and is what gets
    saved and served.

    Args:
        model: from :func:`build`.

    Returns:
        A model of two inputs: the X-rays uint8 [batch, size, size, 1], and transforms float32
        [batch, 8] as :func:`cxr.augment.transforms` gives them.
    """
    image = keras.Input(model.input_shape[1:], dtype="uint8", name="xray")
    transform = keras.Input((8,), dtype="float32", name="transform")
    # From behind AS_FLOAT on: a model with a uint8 input would cut the warped pixels to integers.
    behind = keras.Model(model.get_layer(AS_FLOAT).output, model.output, name=model.name)
    return keras.Model([image, transform], behind(augment.AffineAugmentation()([image, transform])))


def set_trainable(model: keras.Model, system: params.System, phase: params.Phase) -> list[str]:
    """Freeze and free the layers as a phase says. Compile afterwards: Keras looks only then.

    Args:
        model: from :func:`build` with the same system.
        system: says which backbone's blocks are meant.
        phase: its ``trainable`` is all, head, or numbers of blocks; the head is always trained.

    Returns:
        The names of the layers with weights that the phase trains.

    Raises:
        InputError: a block that the backbone does not have; ``above_freeze_blocks`` not replaced.
    """
    backbone = backbones.get(system)
    rule = phase.trainable
    match rule:
        case "all":
            free = set(range(1, backbone.blocks + 1))
        case "head":
            free = set()
        case params.Blocks():
            free = set(rule.blocks)
        case _:
            message = f"trainable: {rule} must be replaced by blocks first (with_frozen_blocks)"
            raise ValueError(message)
    unknown = sorted(block for block in free if block > backbone.blocks)
    if unknown:
        message = (
            f"trainable.blocks has {unknown[0]}; backbone {system.backbone} has blocks 1 to "
            f"{backbone.blocks}"
        )
        raise InputError(message)
    for layer in model.layers:
        if layer.weights:
            in_head = layer.name.startswith(HEAD)
            layer.trainable = in_head or backbone.block_of(layer.name) in free
    return [layer.name for layer in model.layers if layer.trainable_weights]


def parameter_counts(model: keras.Model) -> dict[str, int]:
    """Count a network's weights: ``total``, ``trainable`` and ``frozen``."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    total = sum(math.prod(weight.shape) for weight in model.weights)
    return {"total": total, "trainable": trainable, "frozen": total - trainable}


def save(model: keras.Model, system: params.System, folder: Path) -> None:
    """Write ``architecture.json`` and ``model.weights.h5``; the same model gives the same bytes.

    The architecture is the one in float32, whatever precision trained it, so that the model gives
    the same probabilities on every machine.
    """
    with _policy("float32"):
        keras.backend.clear_session()  # automatic layer names count up within a process
        plain = build(system)
    plain.set_weights(model.get_weights())  # layer names stand in the weights file too
    text = json.dumps(json.loads(plain.to_json()), indent=1)
    atomic.write_text(folder / ARCHITECTURE, text + "\n")
    with atomic.replacing(folder / WEIGHTS) as beside:
        plain.save_weights(beside)


def load(folder: str | Path) -> keras.Model:
    """Give back a trained model from its folder, such as ``models/vgg16_transfer``.

    Returns:
        A model that takes uint8 [batch, size, size, 1] and gives the probability of PNEUMONIA.

    Raises:
        InputError: where the folder does not hold a model.
    """
    folder = Path(folder)
    for name in (ARCHITECTURE, WEIGHTS):
        if not (folder / name).is_file():
            message = f"{folder} holds no {name}: run `dvc repro`, or `dvc pull`, to get the model"
            raise InputError(message)
    model = keras.models.model_from_json((folder / ARCHITECTURE).read_text(encoding="utf-8"))
    model.load_weights(folder / WEIGHTS)
    return model


def _head(settings: params.Head, features: Any) -> Any:
    pool = {
        "flatten": layers.Flatten,
        "average": layers.GlobalAveragePooling2D,
        "max": layers.GlobalMaxPooling2D,
    }[settings.pool]
    x = pool(name=f"{HEAD}pool")(features)
    for place, dense in enumerate(settings.dense, start=1):
        x = layers.Dense(dense.units, activation="relu", name=f"{HEAD}dense_{place}")(x)
        x = layers.Dropout(dense.dropout, name=f"{HEAD}dropout_{place}")(x)
    # float32: a probability in bfloat16 has steps of 0.004 near 1.
    return layers.Dense(1, activation="sigmoid", dtype="float32", name=f"{HEAD}probability")(x)


@contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
