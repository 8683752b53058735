"""The answer to "Is transfer worth it?": a headline, the pairs behind it, and warnings."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cxr.report import wording
from cxr.report.differences import Pair, Yardstick, pairs, yardstick
from cxr.report.leaks import in_test_and_rest, unknown_patients
from cxr.report.results import CHANCE, Context, Result

# The outcome of a comparison, as the tables show it.
WORDS = {
    "better": "pretrained better",
    "worse": "pretrained worse",
    "open": "undecided",
    "unknown": "undefined",
}
# The outcome of a comparison with the linear probe, below a sentence that names it.
AGAINST_PROBE = {
    "better": "beats it",
    "worse": "is worse",
    "open": "does not beat it",  # nor is it worse: the interval includes 0
    "unknown": "undefined",
}
_HEADLINES = {
    "better": ("Yes", "pretrained weights give the higher test AUC"),
    "worse": ("No", "pretrained weights give the lower test AUC"),
    "open": ("Undecided", "the 95 % interval of the AUC difference includes 0"),
    "unknown": ("Undefined", "the test set has only one class or too few patients"),
}


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        outcome: ``better``, ``worse``, ``open``, ``unknown``, ``mixed``, or ``none`` if there is no
            controlled pair.
        headline: one sentence, from controlled pairs alone.
        obstacle: the settings that prevent a controlled pair; empty if there is one.
        pairs: all pairs with the same backbone, the controlled ones first.
        warnings: reasons to doubt the figures, one sentence each.
        yardstick: the linear probe, and the other systems against it; None without a probe.
    """

    outcome: str
    headline: str
    obstacle: str
    pairs: tuple[Pair, ...]
    warnings: tuple[str, ...]
    yardstick: Yardstick | None


def verdict(results: Sequence[Result], shared: Context) -> Verdict:
    """Answer whether transfer is worth it.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    compared = pairs(results, shared)
    controlled = [pair for pair in compared if pair.controlled]
    outcome, headline = (
        _answer(controlled) if controlled else ("none", _no_answer(results, compared))
    )
    return Verdict(
        outcome=outcome,
        headline=headline,
        obstacle="" if controlled or not compared else _obstacle(compared),
        pairs=tuple(compared),
        warnings=tuple(_warnings(results, shared)),
        yardstick=yardstick(results, shared),
    )


def yardstick_sentence(found: Yardstick) -> str:
    """Return which system is the yardstick."""
    return (
        f"The yardstick is {found.probe.name}, a linear probe on frozen features: its test AUC is "
        f"{wording.number(found.probe.test['auc'])}, and every trained network has to beat it."
    )


def _answer(controlled: Sequence[Pair]) -> tuple[str, str]:
    """Return the outcome of the controlled pairs and the headline."""
    outcomes = Counter(pair.difference.outcome for pair in controlled)
    if len(outcomes) > 1:
        counts = [f"{WORDS[o]} in {outcomes[o]}" for o in WORDS if o in outcomes]
        outcome, word = "mixed", "It depends"
        rest = f"of {len(controlled)} controlled comparisons, {', '.join(counts)}"
    else:
        (outcome,) = outcomes
        word, rest = _HEADLINES[outcome]
        if len(controlled) > 1:
            rest += f" in all {len(controlled)} controlled comparisons"
    if any(pair.control.at_chance for pair in controlled):
        rest += f", but {'the' if len(controlled) == 1 else 'a'} control learned nothing"
    return outcome, f"{word}: {rest}."


def _no_answer(results: Sequence[Result], compared: Sequence[Pair]) -> str:
    """Return the reason why there is no answer, as the headline."""
    if compared:
        reason = "no two systems differ in the initial weights alone"
    elif any(result.pretrained for result in results):
        reason = "no randomly initialised system has the same backbone as a pretrained one"
    else:
        reason = "no system starts from pretrained weights"
    return f"This run cannot answer: {reason}."


def _obstacle(compared: Sequence[Pair]) -> str:
    """Return a sentence on the most similar pair and the settings in which it differs."""
    closest = min(compared, key=lambda pair: len(pair.confounders))
    return (
        f"{closest.transfer.name} and {closest.control.name} come closest, but also differ in "
        f"{wording.listed(closest.confounders)}."
    )


def _warnings(results: Sequence[Result], shared: Context) -> Iterator[str]:
    """Yield the reasons to doubt the figures."""
    for result in results:
        low, high = result.test["auc_low"], result.test["auc_high"]
        if result.at_chance:
            yield (
                f"{result.name} is at chance level: the 95 % interval of its AUC, "
                f"{wording.interval(low, high)}, includes {CHANCE}."
            )
        elif high is not None and high < CHANCE:
            yield (
                f"{result.name} is worse than chance: the 95 % interval of its AUC is "
                f"{wording.interval(low, high)}."
            )
    patients, images = in_test_and_rest(shared.manifest, "patient")
    if patients:
        yield (
            f"{images:,} test images show patients who are also in training or validation "
            f"({patients:,} patients), so the figures are too high. Set split.protocol to grouped."
        )
    unknown = unknown_patients(shared.manifest)
    if unknown:
        yield (
            f"{unknown:,} of {len(shared.manifest):,} images have no known patient, so the same "
            "patient may be in both the test set and training."
        )
