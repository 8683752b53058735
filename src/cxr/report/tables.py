"""The tables: a row a system, a row a phase, and both laid out for the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from cxr.report import wording
from cxr.report.differences import PhaseResult, Phases
from cxr.report.results import Result, published_of

METRICS = ("auc", "accuracy", "precision", "recall", "specificity", "f1")
COUNTS = ("tp", "tn", "fp", "fn")
PERTURBED = ("auc", "auc_low", "auc_high", "accuracy")  # of the perturbed test set, in the tables


def comparison(results: Sequence[Result]) -> pd.DataFrame:
    """Return a row a system: what it is, what it cost, its test metrics, and what is published.

    Parameters are those of the last phase. What is unknown or undefined is NaN.
    """
    return pd.DataFrame([_row(result) for result in results])


def phase_table(phases: Phases) -> pd.DataFrame:
    """Return a row a system and phase: what it trained, what it reached, what it gained.

    What is unknown or undefined is NaN, and so is the gain of a first phase.
    """
    return pd.DataFrame([_phase_row(phase) for found in phases.values() for phase in found])


def table(rows: pd.DataFrame, phases: pd.DataFrame) -> str:
    """Lay a comparison out for the terminal, 120 columns wide.

    Args:
        rows: of :func:`comparison`.
        phases: of :func:`phase_table`. The phases before a system's last stand under it, and what
            is published under what it is of.
    """
    headers = (
        "system", "from", "trained, M", "epochs", "s/epoch", "AUC", "95 %", "perturbed",
        "accuracy", "precision", "recall",
    )  # fmt: skip
    right = {"trained, M", "epochs", "s/epoch"}
    lines = [list(headers)]
    for _, row in rows.iterrows():
        lines += _lines(row, phases[phases["system"] == row["system"]].iloc[:-1])
    align = ["right" if header in right else "left" for header in headers]
    # The headers are a line like the others: tabulate would make their columns wider.
    top, *rest = tabulate(lines, tablefmt="plain", disable_numparse=True, colalign=align).split(
        "\n"
    )
    return "\n".join([top, "-" * max(map(len, [top, *rest])), *rest, *_notes(rows)])


def _row(result: Result) -> dict[str, Any]:
    """Return a system's row of the comparison."""
    last, done = list(result.phases.items())[-1]
    published = published_of(result, last)
    known = ("auc", "auc_low", "auc_high", *METRICS[1:], *COUNTS)
    return {
        "system": result.name,
        "backbone": result.weights["backbone"],
        "initial_weights": result.start,
        "parameters": done["parameters"]["total"],
        "trainable": done["parameters"]["trainable"],
        "epochs": result.record["epochs"],
        "seconds_per_epoch": result.seconds_per_epoch,
        **_known(result.test, known),
        **_known(result.perturbed, PERTURBED, "perturbed_"),
        **_known(published["test"], ("auc", "accuracy", "precision", "recall"), "published_"),
        **_known(published["perturbed"], ("accuracy",), "published_perturbed_"),
        "published_split": result.published.get("split"),
    }


def _phase_row(phase: PhaseResult) -> dict[str, Any]:
    """Return a phase's row of the table of phases."""
    row = {
        "system": phase.system,
        "phase": phase.name,
        "data": phase.asked["data"],
        "trainable": wording.rule(phase.asked),
        "parameters": phase.done["parameters"]["total"],
        "trainable_parameters": phase.done["parameters"]["trainable"],
        "epochs": phase.done["epochs"],
        "kept_epoch": phase.done["kept_epoch"],
        "learning_rate": phase.asked["learning_rate"],
        **_known(phase.test, ("auc", "auc_low", "auc_high", *METRICS[1:])),
        **_known(phase.perturbed, PERTURBED, "perturbed_"),
    }
    for name, gain in {"gain": phase.gain, "perturbed_gain": phase.perturbed_gain}.items():
        value, interval = (gain.value, gain.interval) if gain else (None, None)
        low, high = interval or (None, None)
        row |= _known({"": value, "_low": low, "_high": high}, ("", "_low", "_high"), name)
    row |= _known(phase.published["test"], ("accuracy",), "published_")
    return row | _known(phase.published["perturbed"], ("accuracy",), "published_perturbed_")


def _known(
    figures: Mapping[str, Any], keys: Iterable[str], prefix: str = ""
) -> dict[str, float | int]:
    """Pick figures for a table, NaN for what is missing or None, and put a prefix to their keys."""
    picked = {f"{prefix}{key}": figures.get(key) for key in keys}
    return {name: float("nan") if value is None else value for name, value in picked.items()}


def _lines(row: pd.Series, earlier: pd.DataFrame) -> list[list[str]]:
    """Return the terminal's lines of a system: its own, its earlier phases', the published."""
    start, seconds = _shortened(row["initial_weights"], 8), f"{row['seconds_per_epoch']:.1f}"
    ours = _line(row["system"], start, row["trainable"], seconds, row)
    lines = [ours]
    for _, phase in earlier.iterrows():
        name = f"- after {_shortened(phase['phase'], 12)}"
        lines.append(_line(name, "", phase["trainable_parameters"], "", phase))
        lines += _published_lines(phase)
    return lines + _published_lines(row)


def _line(name: str, start: str, trained: int, seconds: str, row: pd.Series) -> list[str]:
    """Return a line of the terminal's table: a system's or an earlier phase's."""
    return [
        name, start, f"{_millions(trained)}/{_millions(row['parameters'])}", str(row["epochs"]),
        seconds, wording.number(row["auc"]),
        wording.interval(row["auc_low"], row["auc_high"]).replace(" to ", wording.DASH),
        *(wording.number(row[key]) for key in ("perturbed_auc", "accuracy", "precision", "recall")),
    ]  # fmt: skip


def _published_lines(row: pd.Series) -> list[list[str]]:
    """Return the terminal's line of what is published, or none where no figure is."""
    auc, *rates = (
        "" if wording.unknown(value := row.get(f"published_{key}")) else wording.published(value)
        for key in ("auc", "accuracy", "precision", "recall")
    )
    found = any([auc, *rates])
    return [["- published", "", "", "", "", auc, "", "", *rates]] if found else []


def _notes(rows: pd.DataFrame) -> list[str]:
    """Say under the terminal's table what its columns cannot."""
    split = rows["published_split"].dropna()
    return [
        "perturbed: AUC on the same films, damaged",
        *(
            f"published, {', '.join(rows['system'][split[split == words].index])}: {words}"
            for words in split.unique()
        ),
        *(
            f"published, {row['system']}: accuracy {wording.published(accuracy)} on its own "
            f"damaged films, ours {wording.number(row['perturbed_accuracy'])}"
            for _, row in rows.iterrows()
            if not wording.unknown(accuracy := row["published_perturbed_accuracy"])
        ),
    ]


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def _millions(count: int) -> str:
    """Return a count of parameters in millions; a small head's are not none."""
    return f"{count / 1e6:.1f}" if count >= 50_000 or count == 0 else "<0.1"
