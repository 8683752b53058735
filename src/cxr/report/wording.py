"""How figures and settings are spelt."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cxr import params
from cxr.report.results import Result

DASH = "\N{EN DASH}"  # in the place of a figure that there is not

_RULES = {"all": "all layers", "backbone": "backbone without batch norms, and head"}
_MONITORS = {"val_loss": "validation loss", "val_accuracy": "validation accuracy"}
_KEPT = {
    "val_loss": "the epoch of the lowest validation loss",
    "val_accuracy": "the epoch of the highest validation accuracy",
    "last": "the last epoch",
}


def settings(result: Result) -> dict[str, str]:
    """Describe a system's settings in words."""
    system, weights = result.record["system"], result.weights
    images = [
        f"{split} {' + '.join(f'{n:,} {name}' for name, n in counts.items())}"
        for split, counts in result.record["images"].items()
    ]
    balance = result.record["class_weights"] or {}
    factors = zip(params.CLASSES, balance.values(), strict=False)
    return {
        "Backbone": weights["backbone"],
        "Initial weights": result.start
        + (f", SHA-256 {weights['sha256'][:16]}…" if weights["sha256"] else ""),
        "Input": f"{system['image_size']} x {system['image_size']} pixels, "
        f"batches of {system['batch_size']}",
        "Head": _head(system["head"]),
        "Loss": words(system["loss"]),
        "Augmentation": ranges(system["augmentation"] or {}) or "none",
        "Class weights": ", ".join(f"{name} {w:.3f}" for name, w in factors) or "none",
        "Images": "; ".join(images),
        "Training time": cost(result),
    }


def ranges(settings: Mapping[str, Any]) -> str:
    """Describe an augmentation or a perturbation; what is 0 or false is left out."""
    parts = []
    for key, value in settings.items():
        match value:
            case True:
                parts.append(words(key))
            case [low, high]:
                parts.append(f"{words(key)} {low:g} to {high:g}")
            case _ if value:
                parts.append(f"{words(key)} {value:g}")
    return ", ".join(parts)


def rule(phase: Mapping[str, Any]) -> str:
    """Say in words what a phase trains; ``phase`` is one of params.yaml."""
    match phase["trainable"]:
        case {"blocks": []}:
            return "head"
        case {"blocks": blocks}:
            return f"{_enumerate('block', blocks)} and head"
        case {"from_layer": first}:
            return f"layers from {first} on and head"
        case {"last": count}:
            return f"last {count} layers" if count > 1 else "last layer"
        case word:
            return _RULES.get(word, word)


def how(phase: Mapping[str, Any]) -> str:
    """Say in words how a phase trains; ``phase`` is one of params.yaml."""
    plateau, stopping, steps = (phase[k] for k in ("plateau", "early_stopping", "steps_per_epoch"))
    parts = [f"Adam at {phase['learning_rate']:g}"]
    if plateau:
        parts[0] += (
            f", times {plateau['factor']:g} when the validation loss has not fallen for "
            f"{_epochs(plateau['patience'])}, down to {plateau['min_learning_rate']:g}"
        )
    parts.append(f"epochs of {steps:,} batches" if steps else "epochs of all training images")
    if stopping:
        least = f" by more than {stopping['min_delta']:g}" if stopping["min_delta"] else ""
        parts.append(
            f"stops when the {_MONITORS[stopping['monitor']]} has not got better{least} for "
            f"{_epochs(stopping['patience'])}"
        )
    else:
        parts.append("no early stopping")
    parts.append(f"keeps {_KEPT[phase['keep']]}")
    return "; ".join(parts)


def words(key: str) -> str:
    """Return a name of params.yaml as words."""
    return key.replace("_", " ")


def cost(result: Result) -> str:
    """Say how long training took."""
    seconds = result.timing["seconds"]
    total = f"{seconds / 60:,.0f} min" if seconds >= 600 else f"{seconds:,.0f} s"
    each = f"{result.seconds_per_epoch:,.{1 if result.seconds_per_epoch < 100 else 0}f} s"
    return f"{total} ({_epochs(result.record['epochs'])} of about {each})"


def unknown(value: Any) -> bool:
    """Return whether a figure is missing: None, or NaN from a table."""
    return value is None or pd.isna(value)


def number(value: float | None) -> str:
    """Return a figure with three decimals, or a dash where there is none."""
    return DASH if unknown(value) else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Return a difference with its sign and three decimals, or a dash where there is none."""
    if value is None:
        return DASH
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def published(value: float | None) -> str:
    """Return a published figure with the digits that it was published with."""
    return DASH if unknown(value) else f"{value:.12g}"


def interval(low: float | None, high: float | None) -> str:
    """Return an interval by its ends, or a dash where there is none."""
    return DASH if unknown(low) else f"{number(low)} to {number(high)}"


def _head(head: Mapping[str, Any]) -> str:
    """Describe a head in words, from the pooling to the output."""
    layers = [_with(head["pool"], head)]
    layers += [_with(f"dense {layer['units']:,}", layer) for layer in head["dense"]]
    return ", ".join([*layers, words(head["output"])])


def _with(layer: str, settings: Mapping[str, Any]) -> str:
    """Add to a layer what stands behind it."""
    extras = ["batch norm"] if settings.get("batch_norm") else []
    extras += [f"dropout {settings['dropout']:g}"] if settings["dropout"] else []
    return f"{layer} with {' and '.join(extras)}" if extras else layer


def _enumerate(noun: str, numbers: Sequence[int]) -> str:
    return f"{noun}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _epochs(count: int) -> str:
    return f"{count:,} epoch{'s' * (count != 1)}"
