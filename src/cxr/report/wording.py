"""Figures and settings as text."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cxr.labels import CLASSES
from cxr.report.results import Result

DASH = "\N{EN DASH}"  # for a missing figure

_RULES = {"all": "all layers", "backbone": "backbone without batch norms, and head"}
_METRICS = {"val_loss": "validation loss", "val_accuracy": "validation accuracy"}
_RESTORED = {
    "val_loss": "restores the weights of the epoch with the lowest validation loss",
    "val_accuracy": "restores the weights of the epoch with the highest validation accuracy",
    "shifted_loss": "restores the weights of the epoch with the lowest loss on validation images "
    "under simulated shifts",
    None: "ends with the last epoch's weights",
}


def settings(result: Result) -> dict[str, str]:
    """Describe a system's settings."""
    system, weights = result.record["system"], result.weights
    images = [
        f"{split} {' + '.join(f'{n:,} {name}' for name, n in counts.items())}"
        for split, counts in result.record["images"].items()
    ]
    balance = result.record["class_weights"] or {}
    factors = zip(CLASSES, balance.values(), strict=False)
    return {
        "Backbone": weights["backbone"],
        "Initial weights": result.start
        + (f", SHA-256 {weights['sha256'][:16]}…" if weights["sha256"] else ""),
        "Input": f"{system['image_size']} x {system['image_size']} pixels, "
        f"batches of {system['batch_size']}",
        "Head": _head(system["head"]),
        "Augmentation": ranges(system["augmentation"] or {}) or "none",
        "Class weights": ", ".join(f"{name} {w:.3f}" for name, w in factors) or "none",
        "Images": "; ".join(images),
        "Training time": f"{duration(result)} ({_epochs(result.record['epochs'])}, "
        f"{result.seconds_per_epoch:,.1f} s each)",
    }


def ranges(settings: Mapping[str, Any]) -> str:
    """Describe an augmentation or a perturbation; what is 0, false or null is left out."""
    parts = []
    for key, value in settings.items():
        match value:
            case True:
                parts.append(words(key))
            case [low, high]:
                parts.append(f"{words(key)} {low:g} to {high:g}")
            case Mapping():
                parts.append(f"{words(key)} ({ranges(value)})")
            case _ if value:
                parts.append(f"{words(key)} {value:g}")
    return ", ".join(parts)


def rule(trainable: Any) -> str:
    """Describe the layers that a phase trains; ``trainable`` is as in params.yaml."""
    match trainable:
        case {"blocks": []}:
            return "head"
        case {"blocks": [block]}:
            return f"block {block} and head"
        case {"blocks": blocks}:
            return f"blocks {', '.join(map(str, blocks))} and head"
        case {"from_layer": first}:
            return f"layers from {first} on and head"
        case {"last": 1}:
            return "last layer"
        case {"last": count}:
            return f"last {count} layers"
        case word:
            return _RULES.get(word, words(word))


def how(phase: Mapping[str, Any]) -> str:
    """Describe how a phase trains; ``phase`` is as in params.yaml."""
    if "logistic_regression" in phase:
        strengths = [f"{value:,g}" for value in phase["logistic_regression"]["strengths"]]
        return (
            "logistic regression on standardised features, patients weighted equally; of the L2 "
            f"penalty's strengths {listed(strengths)} the one with the lowest validation loss"
        )
    plateau, stopping, steps = (phase[k] for k in ("plateau", "early_stopping", "steps_per_epoch"))
    parts = [f"Adam at {phase['learning_rate']:g}"]
    if plateau:
        parts.append(
            f"rate times {plateau['factor']:g} after {_epochs(plateau['patience'])} without a "
            f"lower validation loss, down to {plateau['min_learning_rate']:g}"
        )
    if phase.get("cosine"):
        parts.append(
            f"rate rises for {phase['cosine']['warm_up']:g} epochs, then falls along a cosine to "
            f"{phase['cosine']['final']:g} of that"
        )
    if phase.get("average"):
        parts.append(f"moving average of the weights with a decay of {phase['average']:g} per step")
    parts.append(f"{steps:,} batches per epoch" if steps else "all whole batches in each epoch")
    if stopping:
        least = f" of more than {stopping['min_delta']:g}" if stopping["min_delta"] else ""
        parts.append(
            f"stops after {_epochs(stopping['patience'])} without an improvement{least} in "
            f"{_METRICS[stopping['monitor']]}"
        )
    else:
        parts.append("no early stopping")
    parts.append(_RESTORED[phase["restore"]])
    return "; ".join(parts)


def frozen(features: Mapping[str, Any] | None) -> str:
    """Describe which images pass frozen layers once, from train.json's ``frozen_features``.

    A network without frozen layers before the first trained one has None.
    """
    if features is None:
        return "all layers computed in each step"
    precision = features["policy"].removeprefix("mixed_")
    up_to = f"frozen layers up to {features['layer']} computed in {precision}"
    match features["views"]:
        case 0:
            return f"{up_to} once for validation images, and in each step for training images"
        case 1:
            return f"{up_to} once"
        case views:
            return f"{up_to} once for each of {views} views"


def threshold(rule: Any) -> str:
    """Describe ``evaluate.threshold`` of params.yaml: a number, or a rule that chooses one."""
    match rule:
        case int() | float():
            return f"{rule:g}"
        case dict():
            return ", ".join(f"{words(key)} {threshold(value)}" for key, value in rule.items())
        case name:
            return words(str(name))


def words(key: str) -> str:
    """Return a name of params.yaml as words."""
    return key.replace("_", " ")


def listed(items: Sequence[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))


def duration(result: Result) -> str:
    """Return how long training took."""
    seconds = result.training["seconds"]
    return f"{seconds / 60:,.0f} min" if seconds >= 600 else f"{seconds:,.0f} s"


def unknown(value: Any) -> bool:
    """Return whether a figure is missing: None, or NaN from a table."""
    return value is None or bool(pd.isna(value))


def number(value: float | None) -> str:
    """Return a figure with three decimals, or a dash if there is none."""
    return DASH if unknown(value) else f"{value:.3f}"


def count(value: int | None) -> str:
    """Return a whole number with thousands separators, or a dash if there is none."""
    return DASH if unknown(value) else f"{value:,}"


def signed(value: float | None) -> str:
    """Return a difference with its sign and three decimals, or a dash if there is none."""
    return DASH if unknown(value) else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def published(value: float | None) -> str:
    """Return a published figure with the digits of its publication, or a dash if there is none."""
    return DASH if unknown(value) else f"{value:.12g}"


def interval(low: float | None, high: float | None) -> str:
    """Return the ends of an interval, or a dash if there is none."""
    return DASH if unknown(low) else f"{number(low)} to {number(high)}"


def _head(head: Mapping[str, Any]) -> str:
    """Describe a head from the pooling to the output."""
    pool = head["pool"]
    if head["layers"]:
        pool += f" of {listed(head['layers'])}"
    layers = [_with(pool, head)]
    layers += [_with(f"dense {layer['units']:,}", layer) for layer in head["dense"]]
    return ", ".join([*layers, words(head["output"])])


def _with(layer: str, settings: Mapping[str, Any]) -> str:
    """Add the batch norm and the dropout that follow a layer to its description."""
    extras = ["batch norm"] if settings.get("batch_norm") else []
    extras += [f"dropout {settings['dropout']:g}"] if settings["dropout"] else []
    return f"{layer} with {' and '.join(extras)}" if extras else layer


def _epochs(count: int) -> str:
    return f"{count:,} epoch{'s' * (count != 1)}"
