"""Is transfer worth it, and what did each phase gain? The answer, in sentences."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxr.report import wording
from cxr.report.checks import on_both_sides
from cxr.report.differences import Difference, Pair, PhaseResult, Phases, pairs
from cxr.report.results import GUESSING, Context, Result, is_pretrained

_OUTCOMES = {"better": "better", "worse": "worse", "open": "undecided", "unknown": "unknown"}
_NAMES = {"phases": "what the phases train and how"}


@dataclass(frozen=True)
class Verdict:
    """The answer, in sentences.

    Attributes:
        outcome: ``better``, ``worse``, ``open``, ``mixed``, ``unknown``, or ``none``: not asked.
        headline: one sentence.
        reasons: the figures behind it, a sentence for each pair, and its circumstances: what
            training took, and what else sets the two systems apart.
        gains: what each phase after a system's first has brought, a sentence each.
        robustness: what damaged films cost, in a sentence; empty where no AUC is known.
        warnings: what speaks against believing it.
    """

    outcome: str
    headline: str
    reasons: tuple[tuple[str, str], ...]
    gains: tuple[str, ...]
    robustness: str
    warnings: tuple[str, ...]


def verdict(results: Sequence[Result], shared: Context, phases: Phases) -> Verdict:
    """Say whether transfer was worth it, and what speaks against believing so.

    Args:
        results: of :func:`cxr.report.collect`.
        shared: of :func:`cxr.report.context`.
        phases: of :func:`cxr.report.phase_results`.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    compared = pairs(results, shared)
    leaks = on_both_sides(shared.manifest, "patient") != (0, 0)
    outcome, headline = _headline(results, compared, leaks)
    return Verdict(
        outcome=outcome,
        headline=headline,
        reasons=tuple((_figures(pair), _circumstances(pair)) for pair in compared),
        gains=tuple(
            _gain(before, after)
            for found in phases.values()
            for before, after in itertools.pairwise(found)
        ),
        robustness=_robustness(results),
        warnings=tuple(_warnings(results, shared)),
    )


def _headline(results: Sequence[Result], compared: Sequence[Pair], leaks: bool) -> tuple[str, str]:
    """Return the outcome and the sentence at the top."""
    pretrained = [result.name for result in results if is_pretrained(result)]
    if not pretrained:
        return "none", (
            "This run says nothing about transfer: no system starts from pretrained weights."
        )
    if not compared:
        has = "have" if len(pretrained) > 1 else "has"
        return "none", (
            "This run says nothing about transfer: no system starts from random weights on the "
            f"same backbone, so {' and '.join(pretrained)} {has} nothing to be compared with."
        )
    caveats = (
        ["a control has learnt nothing"] if any(p.control.learnt_nothing for p in compared) else []
    )
    caveats += ["patients leak into the test set"] if leaks else []
    but = f", but {' and '.join(caveats)}" if caveats else ""
    outcomes = Counter(pair.difference.outcome for pair in compared)
    if len(outcomes) > 1:
        parts = [f"{words} in {outcomes[o]}" for o, words in _OUTCOMES.items() if o in outcomes]
        return "mixed", f"It depends: of {len(compared)} comparisons, {', '.join(parts)}{but}."
    (outcome,) = outcomes
    all_of_them = f" in all {len(compared)} comparisons" if len(compared) > 1 else ""
    opening = {
        "better": "Yes: pretrained weights give the higher test AUC",
        "worse": "No: pretrained weights give the lower test AUC",
        "open": "Not shown: this test set cannot tell pretrained from random initial weights",
        "unknown": "No answer: the test set has too few patients, or one class only",
    }[outcome]
    return outcome, f"{opening}{all_of_them}{but}."


def _figures(pair: Pair) -> str:
    """Return both AUCs of a pair, their difference and its interval, in a sentence."""
    transfer, control = pair.transfer, pair.control
    if pair.difference.interval is None:
        return f"{transfer.name} against {control.name}: no interval to go by."
    return (
        f"{transfer.name} ({transfer.start}) reaches AUC {wording.number(transfer.test['auc'])}, "
        f"{control.name} (random weights) {wording.number(control.test['auc'])}: a difference of "
        f"{_spelt(pair.difference)}."
    )


def _gain(before: PhaseResult, after: PhaseResult) -> str:
    """Say what a phase has brought; one that trains on damaged films, on such films first."""
    steps = {
        "test": (before.test, after.test, after.gain),
        "perturbed": (before.perturbed, after.perturbed, after.perturbed_gain),
    }
    damaged = after.asked["data"] == "perturbed"
    first, second = ("perturbed", "test") if damaged else ("test", "perturbed")
    start, end, gain = steps[first]
    if gain is None or gain.value is None or gain.interval is None:
        return f"{after.system}: what {after.name} brought has no interval to go by."
    told = ", trained on damaged films," if damaged else ""
    other, since, _ = steps[second]
    return (
        f"{after.system}: {after.name}{told} brought the {first} AUC from "
        f"{wording.number(start['auc'])} to {wording.number(end['auc'])}, a "
        f"{'gain' if gain.value >= 0 else 'change'} of {_spelt(gain)}; the {second} AUC went from "
        f"{wording.number(other['auc'])} to {wording.number(since['auc'])}."
    )


def _spelt(difference: Difference) -> str:
    """Return a difference and its interval, both known, and how that lies to 0."""
    if difference.value is None or difference.interval is None:
        return wording.DASH
    low, high = difference.interval
    ending = {
        "better": "all of it above 0",
        "worse": "all of it below 0",
        "open": "which contains 0",
    }
    return (
        f"{wording.signed(difference.value)}, 95\N{NO-BREAK SPACE}% interval "
        f"{wording.signed(low)} to {wording.signed(high)}, {ending[difference.outcome]}"
    )


def _robustness(results: Sequence[Result]) -> str:
    """Say which system loses least to damaged films, and which most."""
    known = [
        (result.perturbed["auc"] - result.test["auc"], result)
        for result in results
        if None not in (result.test["auc"], result.perturbed["auc"])
        and not result.learnt_nothing  # it has nothing to lose
    ]
    if not known:
        return ""
    known.sort(key=lambda pair: pair[0], reverse=True)
    told = [
        f"{wording.number(result.test['auc'])} to {wording.number(result.perturbed['auc'])} "
        f"({wording.signed(change)})"
        for change, result in known
    ]
    (_, least), (_, most) = known[0], known[-1]
    if least is most:
        return f"Damaged films bring the AUC of {least.name} from {told[0]}."
    return (
        f"Damaged films cost {least.name} least: its AUC goes from {told[0]}. "
        f"They cost {most.name} most: from {told[-1]}."
    )


def _circumstances(pair: Pair) -> str:
    """Say what a pair's training took, and what else than the weights sets the two apart."""
    transfer, control = pair.transfer, pair.control
    devices = transfer.timing["device"], control.timing["device"]
    where = "" if devices[0] == devices[1] else f", on {devices[0]} and {devices[1]}"
    sentence = f"Training took {wording.cost(transfer)} against {wording.cost(control)}{where}."
    others = _differences(transfer.record["system"], control.record["system"])
    if not others:
        return sentence
    return f"{sentence} Initial weights are not all that differs: {', '.join(others)}."


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name the settings, other than the initial weights, in which two systems differ."""
    found = []
    for key in one:
        if key == "weights" or one[key] == other[key]:
            continue
        ours, theirs = one[key], other[key]
        if key == "phases":
            ours, theirs = (", then ".join(map(wording.rule, v.values())) for v in (ours, theirs))
        plain = all(isinstance(value, int | float | str) for value in (ours, theirs))
        details = f" ({ours} against {theirs})" if plain and ours != theirs else ""
        found.append(f"{_NAMES.get(key, wording.words(key))}{details}")
    return found


def _warnings(results: Sequence[Result], shared: Context) -> list[str]:
    """Say what speaks against believing the figures."""
    found = []
    for result in results:
        low, high = result.test["auc_low"], result.test["auc_high"]
        if result.learnt_nothing:
            found.append(
                f"{result.name} has learnt nothing that this test set can show: the interval of "
                f"its AUC, {wording.interval(low, high)}, includes {GUESSING}, which is guessing."
            )
        elif high is not None and high < GUESSING:
            found.append(
                f"{result.name} does worse than guessing: its AUC lies in "
                f"{wording.interval(low, high)}."
            )
    patients, images = on_both_sides(shared.manifest, "patient")
    if patients:
        found.append(
            f"{images:,} test images show patients who were trained or validated on "
            f"({patients:,} of them): the figures flatter. Choose split.protocol: grouped."
        )
    return found
