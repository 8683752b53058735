"""The report page, and the tables and figures in the same folder."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from cxr import files
from cxr.labels import SPLITS
from cxr.report import (
    audits,
    card,
    chart,
    comparisons,
    confidence,
    curves,
    ensembles,
    epochs,
    figures,
    forest,
    gallery,
    learning,
    markers,
    matrix,
    operating,
    picture,
    published,
    robustness,
    states,
    style,
    subtypes,
    template,
    wording,
)
from cxr.report.answer import WORDS, Verdict, verdict, yardstick_sentence
from cxr.report.checks import Check, checks, origins
from cxr.report.columns import columns
from cxr.report.differences import Phases, phase_results
from cxr.report.results import Context, Result
from cxr.report.tables import METRICS, comparison, phase_table, text


def page(results: Sequence[Result], shared: Context, answer: Verdict, phases: Phases) -> str:
    """Return the report as one HTML page that needs no other file.

    Args:
        results: from :func:`cxr.report.results.collect`.
        shared: from :func:`cxr.report.results.context`.
        answer: from :func:`cxr.report.answer.verdict`.
        phases: from :func:`cxr.report.differences.phase_results`.
    """
    values = _values(results, shared, answer, phases)
    return template.render(
        "page.html.j2",
        values
        | {
            "style": Markup(template.read("style.css")),
            "script": Markup(template.read("script.js")),
            "bundle": Markup(chart.bundle()),
            "light": {variable: colour for colour, variable in style.VARIABLES.items()},
            "dark": {variable: style.DARK[c] for c, variable in style.VARIABLES.items()},
            "variable_of": style.VARIABLES,
        },
    )


def write(results: Sequence[Result], shared: Context, folder: Path) -> str:
    """Write the page, the tables and the figures.

    The files are index.html; model_card.md and model_card.json; comparison.csv, comparison.txt,
    comparisons.csv, subtypes.csv, markers.csv and phases.csv; training_curves.png, roc.png and
    confusion.png, which DVC shows.

    Returns:
        The text of comparison.txt, for the terminal.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    phases, answer = phase_results(results, shared), verdict(results, shared)
    rows, steps = comparison(results, answer.yardstick), phase_table(phases)
    versus, kinds = comparisons.table(results, shared), subtypes.table(results, shared)
    marked = markers.table(results, shared)
    shared = replace(shared, comparisons=versus, subtypes=kinds, marked=marked)
    table = text(answer, rows, steps, states.unevaluated(shared.systems))
    tested = [
        figures.Tested(r.name, r.colour, r.test, r.perturbed, r.roc, r.precision_recall)
        for r in results
    ]
    style.save(_learning_curves(results), folder / "training_curves.png")
    style.save(figures.roc(tested), folder / "roc.png")
    style.save(figures.confusion(tested), folder / "confusion.png")
    files.write_csv(folder / "comparison.csv", rows)
    files.write_csv(folder / "comparisons.csv", versus)
    files.write_csv(folder / "subtypes.csv", kinds)
    files.write_csv(folder / "markers.csv", marked)
    files.write_csv(folder / "phases.csv", steps)
    files.write_text(folder / "comparison.txt", table + "\n")
    files.write_text(folder / "index.html", page(results, shared, answer, phases))
    described = card.card(results, shared, answer, _checks(results, shared))
    files.write_json(folder / "model_card.json", described)
    files.write_text(folder / "model_card.md", card.text(described))
    return table


def _values(
    results: Sequence[Result], shared: Context, answer: Verdict, phases: Phases
) -> dict[str, Any]:
    """Return what the sections show."""
    trained, shifted = epochs.drawings(results), robustness.drawings(results)
    single = [
        forest.drawing(results, answer.yardstick), audits.shortcuts(shared),
        *curves.drawings(results), *operating.drawings(results),
    ]  # fmt: skip
    charts = {drawing.name: drawing for drawing in single if drawing is not None}
    every = [*charts.values(), *(d for drawn in trained.values() for d in drawn), *shifted]
    names = [result.name for result in results]
    # All systems have the same samples; the largest images are the sharpest.
    samples = max(results, key=lambda result: result.record["system"]["image_size"]).samples
    values = {
        "results": results,
        "phases": phases,
        "verdict": answer,
        "yardstick": answer.yardstick,
        "yardstick_sentence": answer.yardstick and yardstick_sentence(answer.yardstick),
        "outcome_words": WORDS,
        "columns": columns(results, answer.yardstick),
        "threshold_words": _thresholds(results),
        "published": published.rows(results, phases),
        "seeds": shared.seeds.to_dict("records"),
        "ensembles": ensembles.rows(results, shared),
        "checks": _checks(results, shared),
        "origins": origins(results, shared),
        "conditions": robustness.conditions(results),
        "subtypes": subtypes.by_subtype(shared.subtypes),
        "markers": markers.by_group(shared.marked, shared.audit),
        "confidence": confidence.confidence(results),
        "suspects": audits.suspects(shared),
        "charts": charts,
        "epochs": trained,
        "robustness": shifted,
        "measures": robustness.MEASURES,
        "galleries": gallery.galleries(results),
        "matrices": matrix.matrices(shared.comparisons, names),
        "samples": Markup(picture.inline(samples)),
        "perturbation": wording.ranges(shared.perturbation),
        "starting_threshold": operating.starting_threshold,
        "starting_prevalence": operating.starting_prevalence(results),
        "settings": {result.name: wording.settings(result) for result in results},
        "metrics": METRICS,
        "splits": (*SPLITS, "perturbed"),
        "no_anatomy": audits.no_anatomy(shared.audit),
        "unevaluated": states.unevaluated(shared.systems),
        "not_run": [name for name, state in shared.systems.items() if state == states.NOT_RUN],
        "commit": _commit(results),
        "experiments": list(
            dict.fromkeys(filter(None, (r.provenance["dvc"]["experiment"] for r in results)))
        ),
        "data": Markup(chart.page_data(every)),
    }
    return values | {"contents": _contents(values)}


def _checks(results: Sequence[Result], shared: Context) -> list[Check]:
    """Return all checks, those of the audits last."""
    return [*checks(results, shared), *(audits.checks(shared.audit) if shared.audit else [])]


def _contents(values: dict[str, Any]) -> dict[str, str]:
    """Return the titles of the sections that the page has, by id."""
    optional = {
        "ensembles": "ensembles", "robustness": "robustness", "gallery": "galleries",
        "comparisons": "matrices",
    }  # fmt: skip
    titles = {
        "systems": "All systems", "ensembles": "Ensembles",
        "against": "What speaks against it", "curves": "Curves",
        "operating": "Move the threshold", "training": "Training", "robustness": "Robustness",
        "gallery": "Where the networks look", "comparisons": "Who beats whom",
        "details": "Each system", "rebuild": "How to rebuild it",
    }  # fmt: skip
    return {key: title for key, title in titles.items() if values.get(optional.get(key, "results"))}


def _thresholds(results: Sequence[Result]) -> str:
    """Return the threshold in words: a number, or the rule by which each system has its own."""
    rule = results[0].metrics.get("threshold_rule", results[0].metrics["threshold"])
    if isinstance(rule, int | float):
        return wording.threshold(rule)
    where = "validation"
    if results[0].metrics.get("threshold_from") == "shifted":
        where += " under shift"
    return f"chosen on {where} ({wording.threshold(rule)})"


def _commit(results: Iterable[Result]) -> str | None:
    """Return the commit of all models, if it is one and nothing was changed since."""
    found = {(r.provenance["git"]["commit"], bool(r.provenance["git"]["changed"])) for r in results}
    commit, changed = found.pop()
    return None if found or changed or not commit else str(commit)[:12]


def _learning_curves(results: Sequence[Result]) -> Figure:
    """Draw the learning curves of the systems that have some: not those of linear probes."""
    trained = [result for result in results if not result.is_probe]
    return learning.curves([_learning(result) for result in trained or results])


def _learning(result: Result) -> learning.Learning:
    best = [phase["best_epoch"] for phase in result.phases.values()]
    return learning.Learning(result.name, result.colour, result.history, best)
