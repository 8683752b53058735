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
from cxr.system import (
    TAGS,
    AnyPhase,
    Appearance,
    Augmentation,
    Blocks,
    Cosine,
    Dense,
    EarlyStopping,
    FromLayer,
    Frozen,
    Head,
    Last,
    LogisticRegression,
    Magnification,
    Name,
    Penalty,
    Perturbation,
    Phase,
    Plateau,
    System,
    Unsharp,
)

__all__ = [
    "AnyPhase", "Appearance", "Augmentation", "Blocks", "Checkpoint", "Cosine", "Counts", "Dense",
    "EarlyStopping", "Evaluate", "FromLayer", "Head", "Last", "LogisticRegression",
    "Magnification", "Params", "Penalty", "Perturbation", "Phase", "Plateau", "Sensitivity",
    "Shift", "Split", "System", "Tensors", "Tracking", "Training", "Unsharp", "load",
]  # fmt: skip


class Counts(Frozen):
    """The number of images of each class in a split, at least 1: AUC needs both classes."""

    NORMAL: Annotated[int, Field(ge=1)]
    PNEUMONIA: Annotated[int, Field(ge=1)]


class Split(Frozen):
    """Settings of the split; see :func:`cxr.data.split.assign`."""

    protocol: Literal["grouped", "image", "official"]
    val: Counts
    test: Counts
    max_rejected: Annotated[float, Field(ge=0, le=1)]
    patients: Annotated[str, Field(min_length=1)]


class Tensors(Frozen):
    """How an image is brought to the square that a network expects; see :mod:`cxr.data.tensors`."""

    resize: Literal["squash", "letterbox", "center_crop"]


class Checkpoint(Frozen):
    """How often training saves a checkpoint, and the space that all may take.

    See :class:`cxr.training.checkpoint.Checkpoint`.
    """

    every: Annotated[int, Field(ge=1)]
    minutes: Annotated[float, Field(gt=0)]
    gigabytes: Annotated[float, Field(gt=0)]


class Training(Frozen):
    """Settings of training that all systems share."""

    precision: Literal["auto", "float32", "bfloat16"]
    deterministic: bool
    require_gpu: bool
    checkpoint: Checkpoint


class Sensitivity(Frozen):
    """The threshold that reaches this sensitivity on validation."""

    sensitivity: Annotated[float, Field(gt=0, le=1)]


def _threshold_tag(rule: Any) -> str | None:
    """Return the tag of a rule's type, so that pydantic reports errors of that type alone."""
    if rule == "youden":
        return TAGS["word"]
    if isinstance(rule, Sensitivity) or (isinstance(rule, dict) and "sensitivity" in rule):
        return TAGS["sensitivity"]
    return TAGS["number"] if isinstance(rule, int | float) else None


class Evaluate(Frozen):
    """How a trained model is evaluated; see :mod:`cxr.evaluation`."""

    threshold: Annotated[
        Annotated[float, Field(gt=0, lt=1), Tag(TAGS["number"])]
        | Annotated[Literal["youden"], Tag(TAGS["word"])]
        | Annotated[Sensitivity, Tag(TAGS["sensitivity"])],
        Discriminator(
            _threshold_tag,
            custom_error_type="rule",
            custom_error_message="Should be a number between 0 and 1, youden, or sensitivity: 0.95",
        ),
    ]
    threshold_from: Literal["validation", "shifted"]
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None
    false_alarms_per_miss: Annotated[float, Field(gt=0)]
    external: dict[Name, Annotated[str, Field(min_length=1)]]


class Shift(Frozen):
    """The images that are shifted; see :mod:`cxr.shifts.sets`. Both classes need at least one."""

    images: Annotated[int, Field(ge=2)]


class Tracking(Frozen):
    """Where MLflow stores the runs."""

    experiment: Annotated[str, Field(min_length=1)]


class Params(Frozen):
    """All of params.yaml, whose comments explain each setting."""

    source: Annotated[str, Field(min_length=1)]
    seed: Annotated[int, Field(ge=0)]
    freeze_blocks: Annotated[int, Field(ge=0, le=5)]
    split: Split
    tensors: Tensors
    perturbation: Perturbation
    training: Training
    inference_batch_size: Annotated[int, Field(ge=1)]
    shift: Shift
    evaluate: Evaluate
    tracking: Tracking
    systems: Annotated[dict[Name, System], Field(min_length=1)]
    ensembles: dict[Name, tuple[str, ...]]

    @field_validator("ensembles")
    @classmethod
    def _of_systems(cls, ensembles: dict[str, Any], known: ValidationInfo) -> dict[str, Any]:
        systems = known.data.get("systems")
        if systems is not None:  # otherwise they are wrong themselves
            for name, members in ensembles.items():
                problem = _problem(name, members, systems)
                if problem is not None:
                    raise PydanticCustomError("own_words", problem, {"key": name})
        return ensembles

    def system(self, name: str) -> System:
        """Return the system called ``name``.

        Raises:
            InputError: there is no such system; the message lists the names.
        """
        if name not in self.systems:
            message = f"no system {name!r} in params.yaml: there are {', '.join(self.systems)}"
            raise InputError(message + mistakes.suggestion(name, self.systems))
        return self.systems[name]

    def ensemble(self, name: str) -> tuple[str, ...]:
        """Return the members of the ensemble called ``name``.

        Raises:
            InputError: there is no such ensemble; the message lists the names.
        """
        if name not in self.ensembles:
            there = ", ".join(self.ensembles) or "none"
            message = f"no ensemble {name!r} in params.yaml: there are {there}"
            raise InputError(message + mistakes.suggestion(name, self.ensembles))
        return self.ensembles[name]


def _problem(name: str, members: tuple[str, ...], systems: dict[str, System]) -> str | None:
    """Return what is wrong with an ensemble, after its key; None if nothing is."""
    unknown = [member for member in members if member not in systems]
    given = f"is {list(members)}"
    if name in systems:
        return "has the name of a system: give it another one"
    if unknown:
        hint = mistakes.suggestion(unknown[0], systems) or f": there are {', '.join(systems)}"
        return f"{given}: {unknown[0]} is not a system{hint}"
    if len(members) < 2:
        return f"{given}: give at least two systems"
    if len(set(members)) < len(members):
        return f"{given}: name each system once"
    return None


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
        explain = partial(mistakes.explain, names=_field_names(), tags=TAGS.values())
        problems = dict.fromkeys(map(explain, error.errors()))
        raise InputError("; ".join(f"{path}: {problem}" for problem in problems)) from error


def _field_names() -> set[str]:
    """Return the names of all settings, at every level."""
    schema = Params.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    return {name for model in models for name in model["properties"]}
