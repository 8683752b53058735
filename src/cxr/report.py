"""The report: is transfer worth it, what did each phase gain, can it be believed?

Two tables, one page, three pictures.
"""

import base64
import io
import itertools
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup
from tabulate import tabulate

from cxr import atomic, metrics, params, pictures
from cxr.errors import InputError

METRICS = ("auc", "accuracy", "precision", "recall", "specificity", "f1")
COUNTS = ("tp", "tn", "fp", "fn")
PERTURBED = ("auc", "auc_low", "auc_high", "accuracy")  # of the perturbed test set, in the tables
GUESSING = 0.5  # the AUC of a coin
SHORTCUT = 0.75  # from this AUC on, facts about the file are a worry

DASH = "\N{EN DASH}"  # in the place of a figure that there is not

_PROTOCOLS = {
    "grouped": "whole patients and pixel-equal images stay on one side",
    "image": "single images, as the original article did: patients leak into the test set",
    "official": "the archive's own test folder; validation from the rest, by patient",
}
_OUTCOMES = {"better": "better", "worse": "worse", "open": "undecided", "unknown": "unknown"}
_NAMES = {"phases": "what the phases train and how"}
_RULES = {"all": "all layers", "backbone": "backbone without batch norms, and head"}
_MONITORS = {"val_loss": "validation loss", "val_accuracy": "validation accuracy"}
_KEPT = {
    "val_loss": "the epoch of the lowest validation loss",
    "val_accuracy": "the epoch of the highest validation accuracy",
    "last": "the last epoch",
}


@dataclass(frozen=True)
class Result:
    """All that is known of one system once it has been trained and evaluated.

    Attributes:
        name: of the system in params.yaml.
        colour: the same one in all pictures.
        weights: what weights.json says: backbone, weights (None for random ones), sha256.
        record: what train.json says.
        timing: what timing.json says.
        history: a row an epoch.
        metrics: what metrics.json says: threshold, and the metrics, which may be None, of each
            split, of the perturbed test set and of each phase.
        predictions: id, split, label, probability.
        phase_predictions: phase, id, label, probability, perturbed_probability; the test set.
        films: perturbed.png, which shows films as they are and perturbed.
        roc: fpr and tpr on the test set.
        precision_recall: recall and precision on the test set.
        published: the system's entry in published.yaml; empty where it has none.
    """

    name: str
    colour: str
    weights: Mapping[str, Any]
    record: Mapping[str, Any]
    timing: Mapping[str, Any]
    history: pd.DataFrame
    metrics: Mapping[str, Any]
    predictions: pd.DataFrame
    phase_predictions: pd.DataFrame
    films: bytes
    roc: pd.DataFrame
    precision_recall: pd.DataFrame
    published: Mapping[str, Any]

    @property
    def test(self) -> Mapping[str, Any]:
        """Return the metrics on the test set, with auc_low and auc_high."""
        return self.metrics["test"]

    @property
    def perturbed(self) -> Mapping[str, Any]:
        """Return the metrics on the perturbed test set, with auc_low and auc_high."""
        return self.metrics["perturbed"]

    @property
    def phases(self) -> Mapping[str, Any]:
        """Return what was trained in each phase, in their order."""
        return self.record["phases"]

    @property
    def start(self) -> str:
        """Say what the backbone began with."""
        return self.weights["weights"] or "random"

    @property
    def seconds_per_epoch(self) -> float:
        """Return the median: the first epoch has the compilation in it."""
        return statistics.median(self.timing["seconds_per_epoch"])

    @property
    def learnt_nothing(self) -> bool:
        """Return whether the AUC's interval includes that of guessing."""
        low, high = self.test["auc_low"], self.test["auc_high"]
        return low is not None and low <= GUESSING <= high


@dataclass(frozen=True)
class Context:
    """What all systems of a run share.

    Attributes:
        protocol: ``split.protocol`` of params.yaml.
        threshold: ``evaluate.threshold`` of params.yaml.
        seed: ``seed`` of params.yaml.
        perturbation: ``perturbation`` of params.yaml, the ranges of the damage.
        manifest: a row an image, see :mod:`cxr.manifest`.
        summary: what splits/summary.json says.
        source: what raw/source.json says.
    """

    protocol: str
    threshold: float
    seed: int
    perturbation: Mapping[str, Any]
    manifest: pd.DataFrame
    summary: Mapping[str, Any]
    source: Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """One AUC less another, of the same films.

    Attributes:
        value: -1 to 1; None where a class is missing.
        interval: 95 % interval over the same resampled patients; None where a class is missing.
    """

    value: float | None
    interval: tuple[float, float] | None

    @property
    def outcome(self) -> str:
        """Return ``better``, ``worse``, ``open`` (0 lies in the interval) or ``unknown``."""
        if self.interval is None:
            return "unknown"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "open"


@dataclass(frozen=True)
class Pair:
    """A pretrained system against one of the same backbone that began with random weights.

    Attributes:
        transfer: the pretrained system.
        control: the other.
        difference: AUC(transfer) - AUC(control) on the test set.
    """

    transfer: Result
    control: Result
    difference: Difference


@dataclass(frozen=True)
class PhaseResult:
    """What one phase of a system was, and how the network did when it had ended.

    Attributes:
        system: name of the system.
        name: of the phase.
        asked: its settings, as in params.yaml.
        done: what train.json says: parameters, epochs, kept_epoch and so on.
        test: metrics on the test set, with auc_low and auc_high.
        perturbed: the same on the perturbed test set.
        gain: AUC on the test set less that after the phase before; None for the first phase.
        perturbed_gain: the same on the perturbed test set.
        published: what is published of the network after this phase: ``test``, ``perturbed``.
    """

    system: str
    name: str
    asked: Mapping[str, Any]
    done: Mapping[str, Any]
    test: Mapping[str, Any]
    perturbed: Mapping[str, Any]
    gain: Difference | None
    perturbed_gain: Difference | None
    published: Mapping[str, Any]


Phases = Mapping[str, Sequence[PhaseResult]]  # of each system, in their order


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


@dataclass(frozen=True)
class Check:
    """One line of "Can I believe it?".

    Attributes:
        label: what is looked at.
        value: what was found.
        note: what it means.
        good: True or False where there is a right answer, None where there is none.
    """

    label: str
    value: str
    note: str = ""
    good: bool | None = None


def collect(
    systems: Iterable[str], models: Path, weights: Path, evaluations: Path, published: Path
) -> list[Result]:
    """Read what training and evaluation left of each system.

    Args:
        systems: names, in the order of the report.
        models: has a folder a system, from training.
        weights: has a folder a system, with its initial weights' note.
        evaluations: has a folder a system, from evaluation.
        published: published.yaml.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    figures = _published_figures(published)
    results = []
    for name, colour in pictures.colours(systems).items():
        model, evaluation = models / name, evaluations / name
        results.append(
            Result(
                name=name,
                colour=colour,
                weights=_json(weights / name / "weights.json"),
                record=_json(model / "train.json"),
                timing=_json(model / "timing.json"),
                history=_csv(model / "history.csv"),
                metrics=_json(evaluation / "metrics.json"),
                predictions=_csv(evaluation / "predictions.csv"),
                phase_predictions=_csv(evaluation / "phases.csv"),
                films=_bytes(evaluation / "perturbed.png"),
                roc=_csv(evaluation / "roc.csv"),
                precision_recall=_csv(evaluation / "precision_recall.csv"),
                published=figures.get(name, {}),
            )
        )
    return results


def context(settings: params.Params, manifest: Path, summary: Path, source: Path) -> Context:
    """Read what all systems share.

    Args:
        settings: params.yaml.
        manifest: splits/manifest.csv.
        summary: splits/summary.json.
        source: raw/source.json.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    return Context(
        protocol=settings.split.protocol,
        threshold=settings.evaluate.threshold,
        seed=settings.seed,
        perturbation=settings.perturbation.model_dump(mode="json"),
        manifest=_csv(manifest),
        summary=_json(summary),
        source=_json(source),
    )


def comparison(results: Sequence[Result]) -> pd.DataFrame:
    """Return a row a system: what it is, what it cost, its test metrics, and what is published.

    Parameters are those of the last phase. What is unknown or undefined is NaN.
    """
    return pd.DataFrame([_row(result) for result in results])


def phase_results(results: Sequence[Result], shared: Context) -> dict[str, list[PhaseResult]]:
    """Tell for each system what each of its phases was, reached and gained.

    Raises:
        InputError: a phase was tested on other images than the manifest's.
    """
    return {result.name: _phase_results(result, shared) for result in results}


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


def verdict(results: Sequence[Result], shared: Context, phases: Phases) -> Verdict:
    """Say whether transfer was worth it, and what speaks against believing so.

    Args:
        results: of :func:`collect`.
        shared: of :func:`context`.
        phases: of :func:`phase_results`.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    compared = pairs(results, shared)
    leaks = _on_both_sides(shared.manifest, "patient") != (0, 0)
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


def pairs(results: Sequence[Result], shared: Context) -> list[Pair]:
    """Compare each pretrained system with each from random weights that has the same backbone.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    tests = {
        r.name: _test(r.name, r.predictions[r.predictions["split"] == "test"], shared.manifest)
        for r in results
    }
    found = []
    for transfer in filter(_pretrained, results):
        for control in results:
            same = control.weights["backbone"] == transfer.weights["backbone"]
            if same and not _pretrained(control):
                one, other = tests[transfer.name], tests[control.name]
                difference = _difference(one, other, "probability", shared.seed)
                found.append(Pair(transfer, control, difference))
    return found


def checks(results: Sequence[Result], shared: Context) -> list[Check]:
    """Answer "Can I believe it?", line by line, from the files rather than from what was meant."""
    return [
        *_split_checks(shared),
        *_judging_checks(results, shared),
        *_origin_checks(results, shared),
    ]


def shortcut(manifest: pd.DataFrame) -> tuple[str, float | None]:
    """Find the fact about a file that tells the classes apart best, without any pixel.

    Which fact, and whether more or less of it means PNEUMONIA, is chosen on the training images.

    Returns:
        Its name, and its AUC on the test images, 0 to 1; None where a class is missing.
    """
    pixels = manifest["width"] * manifest["height"]
    facts = {
        "width": manifest["width"],
        "height": manifest["height"],
        "aspect ratio": manifest["width"] / manifest["height"],
        "bytes a pixel": manifest["bytes"] / pixels,
    }
    train, test = (manifest["split"] == split for split in ("train", "test"))
    labels = manifest["label"]
    known = {
        name: metrics.auc(labels[train].to_numpy(), fact[train].to_numpy())
        for name, fact in facts.items()
    }
    aucs = {name: GUESSING if auc is None else auc for name, auc in known.items()}
    name = max(aucs, key=lambda fact: abs(aucs[fact] - GUESSING))
    sign = -1 if aucs[name] < GUESSING else 1
    return name, metrics.auc(labels[test].to_numpy(), sign * facts[name][test].to_numpy())


def page(results: Sequence[Result], shared: Context, phases: Phases) -> str:
    """Return the report as one HTML page that needs no other file.

    Args:
        results: of :func:`collect`.
        shared: of :func:`context`.
        phases: of :func:`phase_results`.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": _number, "range": _range, "signed": _signed, "published": _published,
        "rule": _rule, "how": _how,
    }  # fmt: skip
    source = (resources.files("cxr") / "report.html.j2").read_text(encoding="utf-8")
    # The films are the same for all systems: those of the largest size show the most.
    films = max(results, key=lambda result: result.record["system"]["image_size"]).films
    return environment.from_string(source).render(
        results=results,
        phases=phases,
        verdict=verdict(results, shared, phases),
        checks=checks(results, shared),
        pictures=_drawn(results),
        films=base64.b64encode(films).decode("ascii"),
        damage=_ranges(shared.perturbation),
        light={variable: colour for colour, variable in pictures.VARIABLES.items()},
        dark={variable: pictures.DARK[c] for c, variable in pictures.VARIABLES.items()},
        variable_of=pictures.VARIABLES,
        metrics=METRICS,
        counts=COUNTS,
        splits=params.SPLITS,
        settings={result.name: _settings(result) for result in results},
    )


def write(
    results: Sequence[Result], shared: Context, folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write index.html, comparison.csv, phases.csv, and three pictures.

    The pictures are training_curves.png, roc.png and confusion.png.

    Returns:
        The comparison and the table of phases.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    phases = phase_results(results, shared)
    text = page(results, shared, phases)
    rows, steps = comparison(results), phase_table(phases)
    tested = [_tested(result) for result in results]
    pictures.save(pictures.curves([_learning(r) for r in results]), folder / "training_curves.png")
    pictures.save(pictures.roc(tested), folder / "roc.png")
    pictures.save(pictures.confusion(tested), folder / "confusion.png")
    for name, found in {"comparison.csv": rows, "phases.csv": steps}.items():
        with atomic.replacing(folder / name) as beside:
            found.to_csv(beside, index=False, lineterminator="\n")
    atomic.write_text(folder / "index.html", text)
    return rows, steps


def _row(result: Result) -> dict[str, Any]:
    """Return a system's row of the comparison."""
    last, done = list(result.phases.items())[-1]
    published = _published_of(result, last)
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
        "trainable": _rule(phase.asked),
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
        seconds, _number(row["auc"]), _range(row["auc_low"], row["auc_high"]).replace(" to ", DASH),
        *(_number(row[key]) for key in ("perturbed_auc", "accuracy", "precision", "recall")),
    ]  # fmt: skip


def _published_lines(row: pd.Series) -> list[list[str]]:
    """Return the terminal's line of what is published, or none where no figure is."""
    auc, *rates = (
        "" if _unknown(value := row.get(f"published_{key}")) else _published(value)
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
            f"published, {row['system']}: accuracy {_published(accuracy)} on its own damaged "
            f"films, ours {_number(row['perturbed_accuracy'])}"
            for _, row in rows.iterrows()
            if not _unknown(accuracy := row["published_perturbed_accuracy"])
        ),
    ]


def _headline(results: Sequence[Result], compared: Sequence[Pair], leaks: bool) -> tuple[str, str]:
    """Return the outcome and the sentence at the top."""
    pretrained = [result.name for result in results if _pretrained(result)]
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
        f"{transfer.name} ({transfer.start}) reaches AUC {_number(transfer.test['auc'])}, "
        f"{control.name} (random weights) {_number(control.test['auc'])}: a difference of "
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
        f"{_number(start['auc'])} to {_number(end['auc'])}, a "
        f"{'gain' if gain.value >= 0 else 'change'} of {_spelt(gain)}; "
        f"the {second} AUC went from {_number(other['auc'])} to {_number(since['auc'])}."
    )


def _spelt(difference: Difference) -> str:
    """Return a difference and its interval, both known, and how that lies to 0."""
    if difference.value is None or difference.interval is None:
        return DASH
    low, high = difference.interval
    ending = {
        "better": "all of it above 0",
        "worse": "all of it below 0",
        "open": "which contains 0",
    }
    return (
        f"{_signed(difference.value)}, 95\N{NO-BREAK SPACE}% interval {_signed(low)} to "
        f"{_signed(high)}, {ending[difference.outcome]}"
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
        f"{_number(result.test['auc'])} to {_number(result.perturbed['auc'])} ({_signed(change)})"
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
    sentence = f"Training took {_cost(transfer)} against {_cost(control)}{where}."
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
            ours, theirs = (", then ".join(map(_rule, v.values())) for v in (ours, theirs))
        plain = all(isinstance(value, int | float | str) for value in (ours, theirs))
        details = f" ({ours} against {theirs})" if plain and ours != theirs else ""
        found.append(f"{_NAMES.get(key, _words(key))}{details}")
    return found


def _warnings(results: Sequence[Result], shared: Context) -> list[str]:
    """Say what speaks against believing the figures."""
    found = []
    for result in results:
        low, high = result.test["auc_low"], result.test["auc_high"]
        if result.learnt_nothing:
            found.append(
                f"{result.name} has learnt nothing that this test set can show: the interval of "
                f"its AUC, {_range(low, high)}, includes {GUESSING}, which is guessing."
            )
        elif high is not None and high < GUESSING:
            found.append(
                f"{result.name} does worse than guessing: its AUC lies in {_range(low, high)}."
            )
    patients, images = _on_both_sides(shared.manifest, "patient")
    if patients:
        found.append(
            f"{images:,} test images show patients who were trained or validated on "
            f"({patients:,} of them): the figures flatter. Choose split.protocol: grouped."
        )
    return found


def _split_checks(shared: Context) -> list[Check]:
    """Look at how the images were divided."""
    summary, test = shared.summary, shared.manifest[shared.manifest["split"] == "test"]
    patients, images = _on_both_sides(shared.manifest, "patient")
    copies, _ = _on_both_sides(shared.manifest, "pixel_hash")
    classes = ", ".join(f"{n:,} {name}" for name, n in summary["images"]["test"].items())
    return [
        Check("Split", shared.protocol, _PROTOCOLS[shared.protocol], shared.protocol != "image"),
        Check(
            "Patients on both sides",
            f"{patients:,}",
            "counted in the manifest: tested on, and trained or validated on"
            + (f"; {images:,} test images" if images else ""),
            patients == 0,
        ),
        Check(
            "Equal pixels on both sides",
            f"{copies:,}",
            f"pixel-equal groups in all: {summary['duplicates']['groups']:,}, "
            f"with {summary['duplicates']['images']:,} files",
            copies == 0,
        ),
        Check(
            "Under an image-level split",
            f"{summary['image_level_leak']:,} of {len(test):,} test images",
            "would share a patient with training, had single images been drawn in these numbers",
        ),
        Check(
            "Test set", f"{len(test):,} images of {test['patient'].nunique():,} patients", classes
        ),
        Check(
            "Files left out",
            f"{summary['rejected']:,}",
            f"each with its reason in splits/rejected.csv; {summary['total']:,} images were used",
        ),
    ]


def _judging_checks(results: Sequence[Result], shared: Context) -> list[Check]:
    """Look at how the systems were judged."""
    thresholds = sorted({result.metrics["threshold"] for result in results})
    seeds = sorted({result.record["seed"] for result in results})
    fact, auc = shortcut(shared.manifest)
    return [
        Check(
            "Threshold",
            ", ".join(f"{threshold:g}" for threshold in thresholds),
            "evaluate.threshold in params.yaml, set beforehand and not chosen on the test set",
            thresholds == [shared.threshold],
        ),
        Check(
            "Intervals",
            f"95 %, {metrics.RESAMPLES:,} resamples",
            "of whole patients, the same ones for both sides of a comparison. They hold the luck "
            "of who was tested, not that of training: each system was trained once",
        ),
        Check(
            "Seed", ", ".join(map(str, seeds)), "for the split, the initial weights and all draws"
        ),
        Check(
            "Without a single pixel",
            f"AUC {_number(auc)}",
            f"from {fact} of the file alone, the most telling of width, height, aspect ratio and "
            "bytes a pixel. The nearer to 1, the more a network could owe to how the films were "
            "made rather than to the lungs",
            None if auc is None else auc < SHORTCUT,
        ),
    ]


def _origin_checks(results: Sequence[Result], shared: Context) -> list[Check]:
    """Say what the figures were made from, and on what."""
    source = shared.source
    rights = [source["licence"], source["doi"] and f"doi:{source['doi']}", source["citation"]]
    machines = {
        f"{result.timing['device']}, {result.timing['policy']}": ", ".join(
            f"{package} {version}" for package, version in result.timing["versions"].items()
        )
        for result in results
    }
    return [
        Check("Data", source["origin"], ". ".join(filter(None, rights)) or "licence not stated"),
        Check("SHA-256 of the data", source["sha256"], f"{source['bytes']:,} bytes"),
        *(
            Check(f"SHA-256 of {result.name}", result.record["weights_sha256"], "trained weights")
            for result in results
        ),
        *(Check("Trained on", machine, versions) for machine, versions in machines.items()),
    ]


def _settings(result: Result) -> dict[str, str]:
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
        "Loss": _words(system["loss"]),
        "Augmentation": _ranges(system["augmentation"] or {}) or "none",
        "Class weights": ", ".join(f"{name} {w:.3f}" for name, w in factors) or "none",
        "Images": "; ".join(images),
        "Training time": _cost(result),
    }


def _head(head: Mapping[str, Any]) -> str:
    """Describe a head in words, from the pooling to the output."""
    layers = [_with(head["pool"], head)]
    layers += [_with(f"dense {layer['units']:,}", layer) for layer in head["dense"]]
    return ", ".join([*layers, _words(head["output"])])


def _with(layer: str, settings: Mapping[str, Any]) -> str:
    """Add to a layer what stands behind it."""
    extras = ["batch norm"] if settings.get("batch_norm") else []
    extras += [f"dropout {settings['dropout']:g}"] if settings["dropout"] else []
    return f"{layer} with {' and '.join(extras)}" if extras else layer


def _ranges(settings: Mapping[str, Any]) -> str:
    """Describe an augmentation or a perturbation; what is 0 or false is left out."""
    parts = []
    for key, value in settings.items():
        match value:
            case True:
                parts.append(_words(key))
            case [low, high]:
                parts.append(f"{_words(key)} {low:g} to {high:g}")
            case _ if value:
                parts.append(f"{_words(key)} {value:g}")
    return ", ".join(parts)


def _phase_results(result: Result, shared: Context) -> list[PhaseResult]:
    """Tell of each phase of a system, and compare it with the one before."""
    everything = result.phase_predictions
    found: list[PhaseResult] = []
    before = None
    for name, done in result.phases.items():
        rows = _test(result.name, everything[everything["phase"] == name], shared.manifest)
        gains = {
            column: None if before is None else _difference(rows, before, column, shared.seed)
            for column in ("probability", "perturbed_probability")
        }
        found.append(
            PhaseResult(
                system=result.name,
                name=name,
                asked=result.record["system"]["phases"][name],
                done=done,
                test=result.metrics["phases"][name]["test"],
                perturbed=result.metrics["phases"][name]["perturbed"],
                gain=gains["probability"],
                perturbed_gain=gains["perturbed_probability"],
                published=_published_of(result, name),
            )
        )
        before = rows
    return found


def _difference(one: pd.DataFrame, other: pd.DataFrame, column: str, seed: int) -> Difference:
    """Compare the AUCs of a column of two tables of :func:`_test`."""
    labels, patients = one["label"].to_numpy(), one["patient"].to_numpy()
    ours, theirs = one[column].to_numpy(), other[column].to_numpy()
    first, second = metrics.auc(labels, ours), metrics.auc(labels, theirs)
    value = None if first is None or second is None else first - second
    interval = metrics.auc_difference_interval(labels, ours, theirs, patients, seed)
    return Difference(value, interval)


def _published_of(result: Result, phase: str) -> dict[str, Mapping[str, Any]]:
    """Return what is published of a system after a phase; ``test`` of all of it is its last's."""
    entry = result.published
    whole = {"test": entry.get("test", {})} if phase == list(result.phases)[-1] else {}
    return {"test": {}, "perturbed": {}} | whole | entry.get("phases", {}).get(phase, {})


def _drawn(results: Sequence[Result]) -> dict[str, Markup]:
    """Draw the page's pictures, each with a description for those who do not see it."""
    tested = [_tested(result) for result in results]
    published = {
        r.name: r.published["test"]["auc"] for r in results if "auc" in r.published.get("test", {})
    }
    aucs = "; ".join(
        f"{r.name} {_number(r.test['auc'])} ({_range(r.test['auc_low'], r.test['auc_high'])})"
        for r in results
    )
    cells = "; ".join(
        f"{r.name} {', '.join(f'{key.upper()} {r.test[key]}' for key in COUNTS)}" for r in results
    )
    drawn = {
        "intervals": (pictures.intervals(tested, published), f"Test AUC and interval: {aucs}."),
        "curves": (
            pictures.curves([_learning(result) for result in results]),
            "Loss and AUC by epoch, training and validation, of each system; figures in the "
            "history.csv of each model.",
        ),
        "roc": (pictures.roc(tested), f"ROC curves on the test set. AUC: {aucs}."),
        "tradeoff": (
            pictures.precision_recall(tested),
            "Precision against recall on the test set; those at the threshold are in the table.",
        ),
        "confusion": (pictures.confusion(tested), f"Confusion matrices: {cells}."),
    }
    return {
        name: Markup(pictures.svg(figure, name, description))  # svg() escapes its texts
        for name, (figure, description) in drawn.items()
    }


def _tested(result: Result) -> pictures.Tested:
    return pictures.Tested(
        result.name, result.colour, result.test, result.perturbed, result.roc,
        result.precision_recall,
    )  # fmt: skip


def _learning(result: Result) -> pictures.Learning:
    kept = [phase["kept_epoch"] for phase in result.phases.values()]
    return pictures.Learning(result.name, result.colour, result.history, kept)


def _test(system: str, predictions: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return a system's predictions of the test set with their patients, ordered by id."""
    rows = predictions.sort_values("id")
    patients = manifest[manifest["split"] == "test"].set_index("id")["patient"].sort_index()
    if list(rows["id"]) != list(patients.index):
        message = (
            f"{system} was tested on {len(rows)} images that are not the {len(patients)} test "
            "images of the manifest: bring both up to date with `dvc repro`"
        )
        raise InputError(message)
    return rows.assign(patient=patients.to_numpy())


def _on_both_sides(manifest: pd.DataFrame, column: str) -> tuple[int, int]:
    """Count what is both in the test set and in the rest: values, and the test images with them."""
    tested = manifest["split"] == "test"
    shared = manifest[column].isin(manifest.loc[~tested, column]) & tested
    return int(manifest.loc[shared, column].nunique()), int(shared.sum())


def _pretrained(result: Result) -> bool:
    return result.weights["weights"] is not None


def _rule(phase: Mapping[str, Any]) -> str:
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


def _how(phase: Mapping[str, Any]) -> str:
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


def _enumerate(noun: str, numbers: Sequence[int]) -> str:
    return f"{noun}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _epochs(count: int) -> str:
    return f"{count:,} epoch{'s' * (count != 1)}"


def _millions(count: int) -> str:
    """Return a count of parameters in millions; a small head's are not none."""
    return f"{count / 1e6:.1f}" if count >= 50_000 or count == 0 else "<0.1"


def _cost(result: Result) -> str:
    """Say how long training took."""
    seconds = result.timing["seconds"]
    total = f"{seconds / 60:,.0f} min" if seconds >= 600 else f"{seconds:,.0f} s"
    each = f"{result.seconds_per_epoch:,.{1 if result.seconds_per_epoch < 100 else 0}f} s"
    return f"{total} ({_epochs(result.record['epochs'])} of about {each})"


def _unknown(value: Any) -> bool:
    return value is None or pd.isna(value)


def _number(value: float | None) -> str:
    return DASH if _unknown(value) else f"{value:.3f}"


def _signed(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _published(value: float | None) -> str:
    """Return a published figure with the digits that it was published with."""
    return DASH if _unknown(value) else f"{value:.12g}"


def _range(low: float | None, high: float | None) -> str:
    return DASH if _unknown(low) else f"{_number(low)} to {_number(high)}"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        message = f"{path} is missing: `dvc repro` makes it"
        raise InputError(message) from error


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8")


def _json(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        return dict(json.loads(text))
    except ValueError as error:
        message = f"{path} is not JSON ({error}): remove it, then `dvc repro` makes it anew"
        raise InputError(message) from error


def _csv(path: Path) -> pd.DataFrame:
    """Read a table; ids, patients, hashes and names stay text."""
    text = dict.fromkeys(("id", "patient", "pixel_hash", "split", "phase"), str)
    return pd.read_csv(io.StringIO(_text(path)), dtype=text)


def _published_figures(path: Path) -> dict[str, Any]:
    """Read published.yaml, which is written by hand and kept in git."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        message = f"{path} is missing: bring it back with `git checkout {path}`"
        raise InputError(message) from error
    except yaml.YAMLError as error:
        message = f"{path} is not YAML: {' '.join(str(error).split())}"
        raise InputError(message) from error
