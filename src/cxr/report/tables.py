"""The tables: one row per system, one row per phase, and plain text for the terminal."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from cxr.evaluation import metrics
from cxr.report import wording
from cxr.report.answer import AGAINST_PROBE, WORDS, Verdict, yardstick_sentence
from cxr.report.differences import Difference, PhaseResult, Phases, Yardstick
from cxr.report.results import Result, published_of

METRICS = ("auc", "accuracy", "precision", "recall", "specificity")
COUNTS = ("tp", "tn", "fp", "fn")
# Of the terminal's columns, after the AUC. Published accuracies are at 0.5, or at a threshold that
# their authors do not state.
_SHOWN = ("perturbed_auc", "accuracy", "half_accuracy", "recall", "specificity")
WIDTH = 120  # columns of the terminal
PERTURBED = ("auc", "auc_low", "auc_high", "accuracy")  # of the perturbed test set, in the tables


def comparison(results: Sequence[Result], yardstick: Yardstick | None) -> pd.DataFrame:
    """Return one row per system: network, parameters, test metrics and published figures.

    ``probe_difference`` is the test AUC minus that of the yardstick, if there is one. Durations are
    on the report's page alone, so that equal trainings give equal tables. Parameter counts are
    those of the last phase. Missing or undefined figures are NaN.
    """
    differences = {} if yardstick is None else yardstick.differences
    return pd.DataFrame([_row(result, differences.get(result.name)) for result in results])


def phase_table(phases: Phases) -> pd.DataFrame:
    """Return one row per phase of each system: layers trained, metrics and gain.

    Missing or undefined figures are NaN, and so is the gain of a first phase.
    """
    return pd.DataFrame([_phase_row(phase) for system in phases.values() for phase in system])


def text(
    verdict: Verdict, rows: pd.DataFrame, phases: pd.DataFrame, unevaluated: Mapping[str, str]
) -> str:
    """Return the answer and the comparison as plain text for a terminal of 120 columns.

    Args:
        verdict: from :func:`cxr.report.answer.verdict`.
        rows: from :func:`comparison`.
        phases: from :func:`phase_table`. Earlier phases and published figures are listed under
            their system.
        unevaluated: from :func:`cxr.report.states.unevaluated`; they come last, with dashes.
    """
    headers = (
        "system", "weights", "params, M", "epochs", "AUC", "95 %", "perturbed", "accuracy",
        "at 0.5", "recall", "specif.",
    )  # fmt: skip
    right = {"params, M", "epochs"}
    lines = [list(headers)]
    for _, row in rows.iterrows():
        lines += _lines(row, phases[phases["system"] == row["system"]].iloc[:-1])
    for name in unevaluated:
        lines.append([_shortened(name, 20), *[wording.DASH] * (len(headers) - 1)])
    align = ["right" if header in right else "left" for header in headers]
    # The headers are passed as a row, because tabulate would otherwise widen their columns.
    table = tabulate(lines, tablefmt="plain", disable_numparse=True, colalign=align)
    top, *rest = table.split("\n")
    rule = "-" * max(map(len, [top, *rest]))
    answer, notes = (
        [part for line in found for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]
        for found in (_answer(verdict), _notes(rows, unevaluated))
    )
    return "\n".join([*answer, "", top, rule, *rest, "", *notes])


def _row(result: Result, against_probe: Difference | None) -> dict[str, Any]:
    """Return a system's row of the comparison."""
    last, record = list(result.phases.items())[-1]
    published = published_of(result, last)
    spread = [f"{metric}{end}" for metric in metrics.FIGURES for end in ("", "_low", "_high")]
    return {
        "system": result.name,
        "backbone": result.weights["backbone"],
        "initial_weights": result.start,
        "parameters": record["parameters"]["total"],
        "trainable": record["parameters"]["trainable"],
        "epochs": result.record["epochs"],
        "threshold": result.metrics["threshold"],
        **_known(result.test, [*spread, *COUNTS]),
        **_known(result.metrics["test_at_half"], ("accuracy", "recall", "specificity"), "half_"),
        **_gain("probe_difference", against_probe),
        **_known(result.perturbed, PERTURBED, "perturbed_"),
        **_known(published["test"], ("auc", "accuracy", "precision", "recall"), "published_"),
        **_known(published["perturbed"], ("accuracy",), "published_perturbed_"),
        "published_split": result.published.get("split"),
    }


def _phase_row(phase: PhaseResult) -> dict[str, Any]:
    """Return a phase's row of the table of phases."""
    return {
        "system": phase.system,
        "phase": phase.name,
        "data": phase.settings["data"],
        "trainable": wording.rule(phase.settings["trainable"]),
        "parameters": phase.record["parameters"]["total"],
        "trainable_parameters": phase.record["parameters"]["trainable"],
        "epochs": phase.record["epochs"],
        "best_epoch": phase.record["best_epoch"],
        **_known(phase.settings, ("learning_rate",)),
        **_known(phase.record, ("strength",)),
        **_known(phase.test, ("auc", "auc_low", "auc_high", *METRICS[1:])),
        **_known(phase.perturbed, PERTURBED, "perturbed_"),
        **_gain("gain", phase.gain),
        **_gain("perturbed_gain", phase.perturbed_gain),
        **_known(phase.published["test"], ("accuracy",), "published_"),
        **_known(phase.published["perturbed"], ("accuracy",), "published_perturbed_"),
    }


def _gain(name: str, gain: Difference | None) -> dict[str, float | int]:
    """Return a gain and the ends of its interval, as three columns."""
    low, high = (gain and gain.interval) or (None, None)
    values = {name: gain and gain.value, f"{name}_low": low, f"{name}_high": high}
    return _known(values, values)


def _known(
    figures: Mapping[str, Any], keys: Iterable[str], prefix: str = ""
) -> dict[str, float | int]:
    """Pick figures for a table, with a prefix to their keys; missing ones and None become NaN."""
    picked = {f"{prefix}{key}": figures.get(key) for key in keys}
    return {name: float("nan") if value is None else value for name, value in picked.items()}


def _answer(verdict: Verdict) -> list[str]:
    """Return the headline, the warnings, and one line per comparison."""
    yardstick = verdict.yardstick
    against_probe = {} if yardstick is None else yardstick.differences
    return [
        f"{verdict.headline} {verdict.obstacle}".strip(),
        *(f"Caution: {warning}" for warning in verdict.warnings),
        *(
            f"  {pair.transfer.name} against {pair.control.name}: "
            f"{wording.signed(pair.difference.value)} AUC, {WORDS[pair.difference.outcome]}"
            + ("" if pair.controlled else " (not a controlled comparison)")
            for pair in verdict.pairs
        ),
        *([yardstick_sentence(yardstick)] if yardstick else []),
        *(
            f"  {name}: {wording.signed(found.value)} AUC, {AGAINST_PROBE[found.outcome]}"
            for name, found in against_probe.items()
        ),
    ]


def _lines(row: pd.Series, earlier: pd.DataFrame) -> list[list[str]]:
    """Return a system's lines: its own, those of its earlier phases, and published figures."""
    start = _shortened(row["initial_weights"], 8)
    lines = [_line(_shortened(row["system"], 20), start, row["trainable"], row)]
    for _, phase in earlier.iterrows():
        name = f"- after {_shortened(phase['phase'], 12)}"
        lines.append(_line(name, "", phase["trainable_parameters"], phase))
        lines += _published_lines(phase)
    return lines + _published_lines(row)


def _line(name: str, start: str, trained: int, row: pd.Series) -> list[str]:
    """Return the line of a system or of an earlier phase."""
    return [
        name, start, f"{_millions(trained)}/{_millions(row['parameters'])}", str(row["epochs"]),
        wording.number(row["auc"]),
        wording.interval(row["auc_low"], row["auc_high"]).replace(" to ", wording.DASH),
        *(wording.number(row.get(key)) for key in _SHOWN),
    ]  # fmt: skip


def _published_lines(row: pd.Series) -> list[list[str]]:
    """Return the line of published figures, or no line if there are none."""
    auc, accuracy, recall = (
        "" if wording.unknown(value := row.get(f"published_{key}")) else wording.published(value)
        for key in ("auc", "accuracy", "recall")
    )
    found = any([auc, accuracy, recall])
    return [["- published", "", "", "", auc, "", "", "", accuracy, recall, ""]] if found else []


def _notes(rows: pd.DataFrame, unevaluated: Mapping[str, str]) -> list[str]:
    """Return the lines under the table."""
    split = rows["published_split"].dropna()
    return [
        "params, M: millions of parameters, trained/all. perturbed: AUC on the perturbed test set.",
        "accuracy, recall, specif(icity): at the locked threshold. at 0.5: accuracy there.",
        *(f"{name} is not evaluated: {reason}" for name, reason in unevaluated.items()),
        *(
            f"published, {', '.join(rows['system'][split[split == words].index])}: {words}"
            for words in split.unique()
        ),
        *(
            f"published, {row['system']}: accuracy {wording.published(accuracy)} on its own "
            f"perturbed images, ours {wording.number(row['perturbed_accuracy'])}"
            for _, row in rows.iterrows()
            if not wording.unknown(accuracy := row["published_perturbed_accuracy"])
        ),
    ]


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def _millions(count: int) -> str:
    """Return a count of parameters in millions; a small one is ``<0.1`` and not ``0.0``."""
    return f"{count / 1e6:.1f}" if count >= 50_000 or count == 0 else "<0.1"
