"""The schema of params.yaml: types, ranges and messages. Unknown keys are errors.

No stage depends on this file, because DVC tracks the values that a stage reads. It must therefore
compute nothing that a result depends on.
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from cxr import files, mistakes
from cxr.errors import InputError

# Phases and systems name files and folders.
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Counts(_Frozen):
    """The number of images of each class in a split, at least 1: AUC needs both classes."""

    NORMAL: Annotated[int, Field(ge=1)]
    PNEUMONIA: Annotated[int, Field(ge=1)]


class Split(_Frozen):
    """Settings of the split; see :func:`cxr.data.split.assign`."""

    protocol: Literal["grouped", "image", "official"]
    val: Counts
    test: Counts
    max_rejected: Annotated[float, Field(ge=0, le=1)]
    patients: Annotated[str, Field(min_length=1)]


class Tensors(_Frozen):
    """How an image is brought to the square that a network expects; see :mod:`cxr.data.tensors`."""

    resize: Literal["squash", "letterbox", "center_crop"]


class Augmentation(_Frozen):
    """Ranges of the random affine map, in ImageDataGenerator's units; see :mod:`cxr.augment`.

    With 0 ``views`` each image gets a new map each time; otherwise one of so many, drawn once.
    """

    rotation: Annotated[float, Field(ge=0, le=180)]
    width_shift: Annotated[float, Field(ge=0, lt=1)]
    height_shift: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0, lt=90)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    horizontal_flip: bool
    views: Annotated[int, Field(ge=0)]


def _ascending(brightness: tuple[float, float]) -> tuple[float, float]:
    if brightness[0] > brightness[1]:
        message = "give the lower factor first"
        raise ValueError(message)
    return brightness


class Perturbation(_Frozen):
    """Ranges of the perturbation that stands for a second hospital; see :mod:`cxr.augment`."""

    rotation: Annotated[float, Field(ge=0, le=180)]
    shear: Annotated[float, Field(ge=0, lt=90)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    horizontal_flip: bool
    channel_shift: Annotated[float, Field(ge=0, le=255)]
    brightness: Annotated[
        tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]],
        AfterValidator(_ascending),
    ]


class Dense(_Frozen):
    """One hidden layer of a head: dense, optional batch norm, ReLU, then dropout."""

    units: Annotated[int, Field(ge=1)]
    batch_norm: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Head(_Frozen):
    """The layers on top of the backbone: pooling, dropout, hidden layers and the output.

    ``layers`` names backbone layers, each of which is pooled; the results are concatenated. None
    is the backbone's last layer. The output is one ``sigmoid``, the probability of PNEUMONIA; a
    ``sigmoid_pair``, one per class; or the ``log_softmax`` of both classes. It also decides the
    loss; see :mod:`cxr.training.losses`.
    """

    pool: Literal["flatten", "average", "max"]
    layers: Annotated[tuple[str, ...], Field(min_length=1)] | None
    dropout: Annotated[float, Field(ge=0, lt=1)]
    dense: tuple[Dense, ...]
    output: Literal["sigmoid", "sigmoid_pair", "log_softmax"]

    @field_validator("layers")
    @classmethod
    def _pooled(cls, layers: tuple[str, ...] | None, known: ValidationInfo) -> Any:
        if layers is not None and known.data.get("pool") == "flatten":
            message = "layers of several sizes need pool: average or max, not flatten"
            raise ValueError(message)
        return layers


class Blocks(_Frozen):
    """Train these blocks of the backbone, counted from 1, and the head."""

    blocks: tuple[Annotated[int, Field(ge=1)], ...]


class FromLayer(_Frozen):
    """Train the backbone from this layer on, counted from 0, and the head."""

    from_layer: Annotated[int, Field(ge=0)]


class Last(_Frozen):
    """Train this many layers at the end of the network, counting layers without weights too."""

    last: Annotated[int, Field(ge=1)]


# Tags of the unions below. pydantic adds them to an error's location; no key looks like them.
_TAGS = {
    name: f"<{name}>" for name in ("word", "blocks", "from_layer", "last", "gradient", "regression")
}


def _tag(rule: Any) -> str | None:
    """Return the tag of a rule's type, so that pydantic reports errors of that type alone."""
    if isinstance(rule, str):
        return _TAGS["word"]
    keys = rule if isinstance(rule, dict) else getattr(rule, "model_fields_set", ())
    if len(keys) != 1:  # `-S ...trainable.blocks=[5]` adds a second key to from_layer
        return None
    return _TAGS.get(next(iter(keys)))


Trainable = Annotated[
    Annotated[Literal["all", "backbone", "head", "above_freeze_blocks"], Tag(_TAGS["word"])]
    | Annotated[Blocks, Tag(_TAGS["blocks"])]
    | Annotated[FromLayer, Tag(_TAGS["from_layer"])]
    | Annotated[Last, Tag(_TAGS["last"])],
    Discriminator(
        _tag,
        custom_error_type="rule",
        custom_error_message="Should be all, backbone, head, above_freeze_blocks, or exactly one "
        "of blocks: [5], from_layer: 100, last: 5",
    ),
]


class EarlyStopping(_Frozen):
    """Stop if ``monitor`` has not improved by more than ``min_delta`` for ``patience`` epochs."""

    monitor: Literal["val_loss", "val_accuracy"]
    patience: Annotated[int, Field(ge=1)]
    min_delta: Annotated[float, Field(ge=0)]


class Plateau(_Frozen):
    """Multiply the rate by ``factor`` if val_loss has not fallen for ``patience`` epochs."""

    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: Annotated[int, Field(ge=1)]
    min_learning_rate: Annotated[float, Field(ge=0)]


class Phase(_Frozen):
    """One compile-and-fit of a system, by gradient descent."""

    data: Literal["clean", "perturbed"]
    trainable: Trainable
    learning_rate: Annotated[float, Field(gt=0)]
    plateau: Plateau | None
    epochs: Annotated[int, Field(ge=1)]
    steps_per_epoch: Annotated[int, Field(ge=1)] | None
    early_stopping: EarlyStopping | None
    restore: Literal["val_loss", "val_accuracy"] | None


class Penalty(_Frozen):
    """The strengths of the L2 penalty to try, each ``1 / C`` of scikit-learn."""

    strengths: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]


class LogisticRegression(_Frozen):
    """A phase that fits a head of one sigmoid to frozen features; see :mod:`cxr.training.probe`."""

    data: Literal["clean", "perturbed"]
    trainable: Literal["head"]
    logistic_regression: Penalty


def _phase_tag(phase: Any) -> str:
    """Return the tag of a phase's type, so that pydantic reports errors of that type alone."""
    keys = phase if isinstance(phase, dict) else getattr(phase, "model_fields_set", ())
    return _TAGS["regression" if "logistic_regression" in keys else "gradient"]


AnyPhase = Annotated[
    Annotated[Phase, Tag(_TAGS["gradient"])]
    | Annotated[LogisticRegression, Tag(_TAGS["regression"])],
    Discriminator(_phase_tag),
]


class System(_Frozen):
    """Backbone x weights x head x phases: everything that distinguishes one system from another."""

    backbone: str
    weights: Annotated[str, Field(min_length=1)] | None
    image_size: Annotated[int, Field(ge=1, le=4096)]
    batch_size: Annotated[int, Field(ge=1)]
    augmentation: Augmentation | None
    class_weights: Literal["balanced"] | None
    head: Head
    phases: Annotated[dict[Name, AnyPhase], Field(min_length=1)]

    @field_validator("phases")
    @classmethod
    def _fit_the_head(cls, phases: dict[str, Any], known: ValidationInfo) -> dict[str, Any]:
        head = known.data.get("head")  # None if it is wrong itself
        if head is not None and (head.dense or head.output != "sigmoid"):
            for name, phase in phases.items():
                if isinstance(phase, LogisticRegression):
                    needs = "needs head.dense: [] and head.output: sigmoid"
                    message = f"is a logistic regression, which {needs}"
                    raise PydanticCustomError("own_words", message, {"key": name})
        return phases


class Checkpoint(_Frozen):
    """How often training saves a checkpoint, and the space that all may take.

    See :class:`cxr.training.checkpoint.Checkpoint`.
    """

    every: Annotated[int, Field(ge=1)]
    minutes: Annotated[float, Field(gt=0)]
    gigabytes: Annotated[float, Field(gt=0)]


class Training(_Frozen):
    """Settings of training that all systems share."""

    precision: Literal["auto", "float32", "bfloat16"]
    deterministic: bool
    require_gpu: bool
    checkpoint: Checkpoint


class Evaluate(_Frozen):
    """How a trained model is evaluated."""

    threshold: Annotated[float, Field(gt=0, lt=1)]


class Tracking(_Frozen):
    """Where MLflow stores the runs."""

    experiment: Annotated[str, Field(min_length=1)]


class Params(_Frozen):
    """All of params.yaml, whose comments explain each setting."""

    source: Annotated[str, Field(min_length=1)]
    seed: Annotated[int, Field(ge=0)]
    freeze_blocks: Annotated[int, Field(ge=0, le=5)]
    split: Split
    tensors: Tensors
    perturbation: Perturbation
    training: Training
    inference_batch_size: Annotated[int, Field(ge=1)]
    evaluate: Evaluate
    tracking: Tracking
    systems: Annotated[dict[Name, System], Field(min_length=1)]

    def system(self, name: str) -> System:
        """Return the system called ``name``.

        Raises:
            InputError: there is no such system; the message lists the names.
        """
        if name not in self.systems:
            message = f"no system {name!r} in params.yaml: there are {', '.join(self.systems)}"
            raise InputError(message + mistakes.suggestion(name, self.systems))
        return self.systems[name]


def load(path: str | os.PathLike[str] = "params.yaml") -> Params:
    """Read and check a parameter file.

    Args:
        path: a YAML 1.2 file, as DVC writes it.

    Raises:
        InputError: the file is missing or not YAML, a key is unknown, missing or given twice, or a
            value has the wrong type or range. One line, with the dotted key of each problem.
    """
    path = Path(path)
    if not path.is_file():
        message = f"{path} is missing: run from the repository's root, which has a params.yaml"
        raise InputError(message)
    raw = files.read_yaml(path)
    try:
        # Through JSON, because strict mode then accepts a list for a tuple, but not "4" for 4.
        text = json.dumps(raw, default=str)
    except TypeError as error:  # a key that is a date or a list
        raise InputError(f"{path}: a key is not text ({error})") from error
    except ValueError as error:  # a hexadecimal integer of thousands of digits
        raise InputError(f"{path}: a number cannot be used ({error})") from error
    try:
        return Params.model_validate_json(text)
    except ValidationError as error:
        explain = partial(mistakes.explain, names=_field_names(), tags=_TAGS.values())
        problems = dict.fromkeys(map(explain, error.errors()))
        raise InputError("; ".join(f"{path}: {problem}" for problem in problems)) from error


def _field_names() -> set[str]:
    """Return the names of all settings, at every level."""
    schema = Params.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    return {name for model in models for name in model["properties"]}
