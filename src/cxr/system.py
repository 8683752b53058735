"""The schema of a system of params.yaml: augmentation, head, phases; and the perturbation.

Like :mod:`cxr.params`, it must compute nothing that a result depends on.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

# Phases and systems name files and folders.
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class Frozen(BaseModel):
    """Settings that reject unknown keys, other types, and changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        message = "give the lower value first"
        raise ValueError(message)
    return limits


Factor = Annotated[float, Field(ge=0.1, le=10)]
Factors = Annotated[tuple[Factor, Factor], AfterValidator(_ascending)]
Sigma = Annotated[float, Field(ge=0.1, le=100)]
Quality = Annotated[int, Field(ge=1, le=100)]
NotNegative = Annotated[float, Field(ge=0)]
NotNegatives = Annotated[tuple[NotNegative, NotNegative], AfterValidator(_ascending)]


class Magnification(Frozen):
    """Ranges of the factors of the anatomy's size, drawn for each axis alone."""

    x: Factors
    y: Factors


class Unsharp(Frozen):
    """An unsharp mask: how much of what a Gaussian of ``sigma`` pixels removes is added."""

    sigma: Sigma
    amount: NotNegatives


class Appearance(Frozen):
    """Ranges of what changes an X-ray's grey values alone; see :mod:`cxr.appearance`."""

    blur: Annotated[tuple[Sigma, Sigma], AfterValidator(_ascending)] | None
    jpeg: Annotated[tuple[Quality, Quality], AfterValidator(_ascending)] | None
    unsharp: Unsharp | None
    gamma: Annotated[float, Field(ge=0, le=3)]
    contrast: NotNegatives
    brightness: Annotated[float, Field(ge=0, le=1)]


class Augmentation(Frozen):
    """Ranges of the random affine map, in ImageDataGenerator's units; see :mod:`cxr.augment`.

    With 0 ``views`` each image gets a new map each time; otherwise one of so many, drawn once.
    ``original`` is the probability that it gets none.
    """

    rotation: Annotated[float, Field(ge=0, le=180)]
    width_shift: Annotated[float, Field(ge=0, lt=1)]
    height_shift: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0, lt=90)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    horizontal_flip: bool
    magnification: Magnification | None
    appearance: Appearance | None
    original: Annotated[float, Field(ge=0, lt=1)]
    views: Annotated[int, Field(ge=0)]


class Perturbation(Frozen):
    """Ranges of the perturbation that stands for a second hospital; see :mod:`cxr.augment`."""

    rotation: Annotated[float, Field(ge=0, le=180)]
    shear: Annotated[float, Field(ge=0, lt=90)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    horizontal_flip: bool
    channel_shift: Annotated[float, Field(ge=0, le=255)]
    brightness: NotNegatives


class Dense(Frozen):
    """One hidden layer of a head: dense, optional batch norm, ReLU, then dropout."""

    units: Annotated[int, Field(ge=1)]
    batch_norm: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Head(Frozen):
    """The layers on top of the backbone: pooling, dropout, hidden layers and the output.

    ``layers`` names backbone layers, each of which is pooled by ``average`` or ``max``; the results
    are concatenated. None is the backbone's last layer. The output is one ``sigmoid``, the
    probability of PNEUMONIA; a ``sigmoid_pair``, one per class; or the ``log_softmax`` of both
    classes. It also decides the loss; see :mod:`cxr.training.losses`.
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
            message = "layers need pool: average or max, not flatten"
            raise ValueError(message)
        return layers


class Blocks(Frozen):
    """Train these blocks of the backbone, counted from 1, and the head."""

    blocks: tuple[Annotated[int, Field(ge=1)], ...]


class FromLayer(Frozen):
    """Train the backbone from this layer on, counted from 0, and the head."""

    from_layer: Annotated[int, Field(ge=0)]


class Last(Frozen):
    """Train this many layers at the end of the network, counting layers without weights too."""

    last: Annotated[int, Field(ge=1)]


# Tags of the unions below. pydantic adds them to an error's location; no key looks like them.
TAGS = {
    name: f"<{name}>"
    for name in (
        "word", "number", "sensitivity", "blocks", "from_layer", "last", "gradient", "regression",
    )
}  # fmt: skip


def _tag(rule: Any) -> str | None:
    """Return the tag of a rule's type, so that pydantic reports errors of that type alone."""
    if isinstance(rule, str):
        return TAGS["word"]
    keys = rule if isinstance(rule, dict) else getattr(rule, "model_fields_set", ())
    if len(keys) != 1:  # `-S ...trainable.blocks=[5]` adds a second key to from_layer
        return None
    return TAGS.get(next(iter(keys)))


Trainable = Annotated[
    Annotated[Literal["all", "backbone", "head", "above_freeze_blocks"], Tag(TAGS["word"])]
    | Annotated[Blocks, Tag(TAGS["blocks"])]
    | Annotated[FromLayer, Tag(TAGS["from_layer"])]
    | Annotated[Last, Tag(TAGS["last"])],
    Discriminator(
        _tag,
        custom_error_type="rule",
        custom_error_message="Should be all, backbone, head, above_freeze_blocks, or exactly one "
        "of blocks: [5], from_layer: 100, last: 5",
    ),
]


class EarlyStopping(Frozen):
    """Stop if ``monitor`` has not improved by more than ``min_delta`` for ``patience`` epochs."""

    monitor: Literal["val_loss", "val_accuracy"]
    patience: Annotated[int, Field(ge=1)]
    min_delta: Annotated[float, Field(ge=0)]


class Plateau(Frozen):
    """Multiply the rate by ``factor`` if val_loss has not fallen for ``patience`` epochs."""

    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: Annotated[int, Field(ge=1)]
    min_learning_rate: Annotated[float, Field(ge=0)]


class Cosine(Frozen):
    """Raise the rate evenly for ``warm_up`` epochs, then lower it along a cosine to a fraction."""

    warm_up: Annotated[float, Field(ge=0)]
    final: Annotated[float, Field(ge=0, le=1)]


class Phase(Frozen):
    """One compile-and-fit of a system, by gradient descent."""

    data: Literal["clean", "perturbed"]
    trainable: Trainable
    learning_rate: Annotated[float, Field(gt=0)]
    plateau: Plateau | None
    cosine: Cosine | None
    average: Annotated[float, Field(gt=0, lt=1)] | None
    epochs: Annotated[int, Field(ge=1)]
    steps_per_epoch: Annotated[int, Field(ge=1)] | None
    early_stopping: EarlyStopping | None
    restore: Literal["val_loss", "val_accuracy", "shifted_loss"] | None

    @field_validator("cosine")
    @classmethod
    def _alone(cls, cosine: Cosine | None, known: ValidationInfo) -> Any:
        if cosine is not None and known.data.get("plateau") is not None:
            message = "a cosine and a plateau cannot both set the rate: make one of them null"
            raise ValueError(message)
        return cosine

    @field_validator("epochs")
    @classmethod
    def _warmed_up(cls, epochs: int, known: ValidationInfo) -> Any:
        cosine = known.data.get("cosine")
        if cosine is not None and cosine.warm_up >= epochs:
            message = f"give more than the {cosine.warm_up:g} epochs of cosine.warm_up"
            raise ValueError(message)
        return epochs


class Penalty(Frozen):
    """The strengths of the L2 penalty to try, each ``1 / C`` of scikit-learn."""

    strengths: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]


class LogisticRegression(Frozen):
    """A phase that fits a head of one sigmoid to frozen features; see :mod:`cxr.training.probe`."""

    data: Literal["clean", "perturbed"]
    trainable: Literal["head"]
    logistic_regression: Penalty


def _phase_tag(phase: Any) -> str:
    """Return the tag of a phase's type, so that pydantic reports errors of that type alone."""
    keys = phase if isinstance(phase, dict) else getattr(phase, "model_fields_set", ())
    return TAGS["regression" if "logistic_regression" in keys else "gradient"]


AnyPhase = Annotated[
    Annotated[Phase, Tag(TAGS["gradient"])]
    | Annotated[LogisticRegression, Tag(TAGS["regression"])],
    Discriminator(_phase_tag),
]


class System(Frozen):
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
