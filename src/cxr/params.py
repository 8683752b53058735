"""The parameters of params.yaml: typed, frozen, read once, nothing unknown let through."""

import difflib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from cxr.errors import InputError

CLASSES = ("NORMAL", "PNEUMONIA")  # the label of a class is its place here: 0, 1
SPLITS = ("train", "val", "test")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Counts(_Frozen):
    """How many images of each class a split holds, 1 or more: AUC needs both classes."""

    NORMAL: Annotated[int, Field(ge=1)]
    PNEUMONIA: Annotated[int, Field(ge=1)]

    def by_label(self) -> tuple[int, int]:
        """Return the counts in the order of the labels."""
        return (self.NORMAL, self.PNEUMONIA)


class Split(_Frozen):
    """How the images are divided; see :func:`cxr.split.assign`."""

    protocol: Literal["grouped", "image", "official"]
    val: Counts
    test: Counts
    max_rejected: Annotated[float, Field(ge=0, le=1)]


class Tensors(_Frozen):
    """How a film is brought to the square that a network takes; see :mod:`cxr.tensors`."""

    resize: Literal["squash", "letterbox", "center_crop"]


class Augmentation(_Frozen):
    """Ranges of the random affine map, in ImageDataGenerator's units; see :mod:`cxr.augment`."""

    rotation: Annotated[float, Field(ge=0, le=180)]
    width_shift: Annotated[float, Field(ge=0, lt=1)]
    height_shift: Annotated[float, Field(ge=0, lt=1)]
    shear: Annotated[float, Field(ge=0, lt=90)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    horizontal_flip: bool


class Perturbation(_Frozen):
    """Ranges of the damage that stands for a second hospital's films; see :mod:`cxr.augment`."""

    rotation: Annotated[float, Field(ge=0, le=180)]
    shear: Annotated[float, Field(ge=0, lt=90)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    horizontal_flip: bool
    channel_shift: Annotated[float, Field(ge=0, le=255)]
    brightness: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]

    @model_validator(mode="after")
    def _low_before_high(self) -> Self:
        low, high = self.brightness
        if low > high:
            message = f"brightness is [{low}, {high}]: give the lower factor first"
            raise ValueError(message)
        return self


class Dense(_Frozen):
    """One hidden layer of a head: dense, batch norm where asked for, ReLU, then dropout."""

    units: Annotated[int, Field(ge=1)]
    batch_norm: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Head(_Frozen):
    """What stands on the backbone: pooling, dropout, hidden layers, and the output.

    The output is one ``sigmoid``, the probability of PNEUMONIA; a ``sigmoid_pair``, one for each
    class, of which PNEUMONIA's part counts; or a pair's ``log_softmax``.
    """

    pool: Literal["flatten", "average", "max"]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    dense: tuple[Dense, ...]
    output: Literal["sigmoid", "sigmoid_pair", "log_softmax"]


class Blocks(_Frozen):
    """The blocks of the backbone that are trained, counted from 1, and the head."""

    blocks: tuple[Annotated[int, Field(ge=1)], ...]


class FromLayer(_Frozen):
    """The backbone's layers from this one on, counted from 0 as in ``model.layers``; the head."""

    from_layer: Annotated[int, Field(ge=0)]


class Last(_Frozen):
    """The last layers of backbone and head, layers without weights counted too."""

    last: Annotated[int, Field(ge=1)]


def _rule_kind(rule: Any) -> str | None:
    """Tell pydantic which of the rules a value is meant to be, so that it complains of that one."""
    if isinstance(rule, str):
        return "word"
    keys = rule if isinstance(rule, dict) else getattr(rule, "model_fields_set", ())
    if len(keys) != 1:  # such as what `-S ...trainable.blocks=[5]` adds to a from_layer
        return None
    return next((f"by_{key}" for key in ("blocks", "from_layer", "last") if key in keys), None)


Trainable = Annotated[
    Annotated[Literal["all", "backbone", "head", "above_freeze_blocks"], Tag("word")]
    | Annotated[Blocks, Tag("by_blocks")]
    | Annotated[FromLayer, Tag("by_from_layer")]
    | Annotated[Last, Tag("by_last")],
    Discriminator(
        _rule_kind,
        custom_error_type="rule",
        custom_error_message="Should be all, backbone, head, above_freeze_blocks, or one alone "
        "of blocks: [5], from_layer: 100, last: 5",
    ),
]


class EarlyStopping(_Frozen):
    """Stop a phase when ``monitor`` has not got better by more than ``min_delta`` for a while."""

    monitor: Literal["val_loss", "val_accuracy"]
    patience: Annotated[int, Field(ge=1)]
    min_delta: Annotated[float, Field(ge=0)]


class Plateau(_Frozen):
    """Multiply the rate by ``factor`` when val_loss has not fallen for ``patience`` epochs."""

    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: Annotated[int, Field(ge=1)]
    min_learning_rate: Annotated[float, Field(ge=0)]


class Phase(_Frozen):
    """One compile-and-fit of a system."""

    data: Literal["clean", "perturbed"]
    trainable: Trainable
    learning_rate: Annotated[float, Field(gt=0)]
    plateau: Plateau | None
    epochs: Annotated[int, Field(ge=1)]
    steps_per_epoch: Annotated[int, Field(ge=1)] | None
    early_stopping: EarlyStopping | None
    keep: Literal["val_loss", "val_accuracy", "last"]


class System(_Frozen):
    """Backbone x weights x head x phases: all that sets one system apart from another."""

    backbone: str
    weights: Annotated[str, Field(min_length=1)] | None
    image_size: Annotated[int, Field(ge=1, le=4096)]
    batch_size: Annotated[int, Field(ge=1)]
    augmentation: Augmentation | None
    class_weights: Literal["balanced"] | None
    head: Head
    loss: Literal["binary_crossentropy", "negative_log_likelihood"]
    phases: Annotated[dict[str, Phase], Field(min_length=1)]

    @model_validator(mode="after")
    def _loss_fits_the_output(self) -> Self:
        logarithms = self.head.output == "log_softmax"
        if logarithms != (self.loss == "negative_log_likelihood"):
            message = (
                f"loss {self.loss} does not go with head.output {self.head.output}: "
                "negative_log_likelihood is for log_softmax, binary_crossentropy for sigmoids"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _phases_are_files(self) -> Self:
        for name in self.phases:
            if not re.fullmatch(r"[a-z0-9_]+", name):
                message = f"phases.{name}: a phase's name is a file's: use a-z, 0-9 and _"
                raise ValueError(message)
        return self

    @property
    def perturbs(self) -> bool:
        """Return whether a phase trains on the perturbed X-rays."""
        return any(phase.data == "perturbed" for phase in self.phases.values())

    def with_frozen_blocks(self, freeze_blocks: int | None, blocks: int) -> Self:
        """Put the blocks to train in the place of ``above_freeze_blocks``.

        Args:
            freeze_blocks: how many blocks of the backbone stay frozen, counted from the input;
                None where the system is not told.
            blocks: how many blocks the backbone has.

        Raises:
            InputError: where it is out of range, missing, or would change nothing.
        """
        waiting = [
            n for n, phase in self.phases.items() if phase.trainable == "above_freeze_blocks"
        ]
        if freeze_blocks is None:
            if waiting:
                message = (
                    f"phase {waiting[0]} trains above_freeze_blocks, but no --freeze-blocks came: "
                    'give the system\'s line in dvc.yaml args: "--freeze-blocks ${freeze_blocks}"'
                )
                raise InputError(message)
            return self
        if not waiting:
            message = (
                f"--freeze-blocks {freeze_blocks} would change nothing: no phase of the system has "
                "trainable: above_freeze_blocks. Drop the argument in dvc.yaml."
            )
            raise InputError(message)
        if not 0 <= freeze_blocks <= blocks:
            message = (
                f"freeze_blocks is {freeze_blocks}; backbone {self.backbone} has {blocks} blocks: "
                f"give an integer from 0 (train all) to {blocks} (train the head alone)"
            )
            raise InputError(message)
        rule = Blocks(blocks=tuple(range(freeze_blocks + 1, blocks + 1)))
        phases = {
            name: phase.model_copy(update={"trainable": rule}) if name in waiting else phase
            for name, phase in self.phases.items()
        }
        return self.model_copy(update={"phases": phases})


class Training(_Frozen):
    """What concerns the machine rather than a system."""

    precision: Literal["auto", "float32", "bfloat16"]
    require_gpu: bool


class Evaluate(_Frozen):
    """How a trained model is judged."""

    threshold: Annotated[float, Field(gt=0, lt=1)]


class Tracking(_Frozen):
    """Where MLflow files the runs."""

    experiment: Annotated[str, Field(min_length=1)]


class Params(_Frozen):
    """All of params.yaml; its comments there say what each is for."""

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
    systems: Annotated[dict[str, System], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_folders(self) -> Self:
        for name in self.systems:
            if not re.fullmatch(r"[a-z0-9_]+", name):
                message = f"systems.{name}: a system's name is a folder: use a-z, 0-9 and _"
                raise ValueError(message)
        return self

    def system(self, name: str) -> System:
        """Return the system of that name, or say which there are."""
        if name not in self.systems:
            message = f"no system {name!r} in params.yaml: there are {', '.join(self.systems)}"
            raise InputError(message + _nearest(name, self.systems))
        return self.systems[name]


def load(path: str | os.PathLike[str] = "params.yaml") -> Params:
    """Read and check a parameter file.

    Args:
        path: a YAML file, as DVC writes it.

    Raises:
        InputError: the file is missing or not YAML, a key is unknown or missing, or a value has
            the wrong type or range. One line for each, with the dotted key.
    """
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Yaml12)
    except FileNotFoundError as error:
        message = f"{path} is missing: run from the repository's root, where params.yaml lies"
        raise InputError(message) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = f"{path} is not YAML: {' '.join(str(error).split())}"
        raise InputError(message) from error
    text = json.dumps(raw, default=str)
    try:
        # Through JSON: strict mode then takes a list for a tuple, and still no "4" for 4.
        return Params.model_validate_json(text)
    except ValidationError as error:
        raw = json.loads(text)  # with the keys as pydantic has seen them: 1 is "1" there
        problems = dict.fromkeys(_explain(problem, raw) for problem in error.errors())
        raise InputError("; ".join(f"{path}: {problem}" for problem in problems)) from error


class _Yaml12(yaml.SafeLoader):
    """YAML 1.2's floats: DVC writes 1e-05, which PyYAML, at 1.1, would read as a string."""


_Yaml12.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _explain(problem: Any, raw: Any) -> str:
    """Turn one of pydantic's errors into a sentence with the dotted key."""
    key, known = _locate(problem["loc"], raw)
    dotted = ".".join(key) or "the file"
    match problem["type"]:
        case "extra_forbidden":
            return f"{dotted} is unknown" + _nearest(key[-1], known, ".".join(key[:-1]))
        case "missing":
            return f"{dotted} is missing: give it a value"
        case "value_error":
            text = str(problem["ctx"]["error"])  # begins with the key below its model's own
            return f"{dotted}.{text}" if key else text
    allowed = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{dotted} is {problem['input']!r}: {allowed}"


def _locate(loc: tuple[int | str, ...], raw: Any) -> tuple[list[str], list[str]]:
    """Follow ``loc`` through the raw file and the models: the key, and the names known beside it.

    Pydantic puts the tried type's name into ``loc`` where a value may have several types; those
    parts are not in the file and are passed over.
    """
    key: list[str] = []
    model: Any = Params
    known: list[str] = []
    for place, part in enumerate(loc):
        inside = isinstance(raw, dict | list) and (
            part in raw if isinstance(raw, dict) else isinstance(part, int) and part < len(raw)
        )
        if not inside and place < len(loc) - 1:
            continue
        fields = getattr(model, "model_fields", {})
        if not inside and fields and part not in fields:
            continue  # the tag of a type
        if not inside and not isinstance(raw, dict) and isinstance(part, str):
            continue
        key.append(str(part))
        known = list(fields)
        raw = raw[part] if inside else None
        model = _model_of(fields[part].annotation) if part in fields else _item_of(model)
    return key, known


def _model_of(annotation: Any) -> Any:
    """Find the model (or the container of models) in an annotation such as ``X | None``."""
    if hasattr(annotation, "model_fields"):
        return annotation
    arguments = getattr(annotation, "__args__", ())
    if getattr(annotation, "__origin__", None) in (dict, tuple):
        return annotation
    return next((found for a in arguments if (found := _model_of(a)) is not None), None)


def _item_of(container: Any) -> Any:
    """Return the model of a dict's values or of a tuple's items."""
    arguments = getattr(container, "__args__", ())
    return next((found for a in arguments if (found := _model_of(a)) is not None), None)


def _nearest(name: str, known: Any, parent: str = "") -> str:
    """Return ``: did you mean ...?`` with the known name most like ``name``, where one is."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if close:
        return f": did you mean {f'{parent}.' if parent else ''}{close[0]}?"
    return f": known here are {', '.join(known)}" if known else ""
