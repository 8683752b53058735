"""The report page, and the tables and figures in the same folder."""

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from cxr import files
from cxr.labels import SPLITS
from cxr.report import comparisons, figures, learning, style, wording
from cxr.report.answer import AGAINST_PROBE, WORDS, Verdict, verdict, yardstick_sentence
from cxr.report.checks import checks
from cxr.report.differences import Phases, Yardstick, phase_results
from cxr.report.results import Context, Result
from cxr.report.tables import COUNTS, METRICS, comparison, phase_table, text


def page(results: Sequence[Result], shared: Context, answer: Verdict, phases: Phases) -> str:
    """Return the report as one HTML page that needs no other file.

    Args:
        results: from :func:`cxr.report.results.collect`.
        shared: from :func:`cxr.report.results.context`.
        answer: from :func:`cxr.report.answer.verdict`.
        phases: from :func:`cxr.report.differences.phase_results`.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": wording.number, "range": wording.interval, "signed": wording.signed,
        "count": wording.count, "published": wording.published, "rule": wording.rule,
        "how": wording.how, "frozen": wording.frozen, "listed": wording.listed,
        "duration": wording.duration,
    }  # fmt: skip
    source = (resources.files("cxr.report") / "report.html.j2").read_text(encoding="utf-8")
    # All systems have the same samples; the largest images are the sharpest.
    samples = max(results, key=lambda result: result.record["system"]["image_size"]).samples
    return environment.from_string(source).render(
        results=results,
        phases=phases,
        verdict=answer,
        outcome_words=WORDS,
        yardstick=answer.yardstick,
        against_probe=_against_probe(answer.yardstick),
        yardstick_sentence=answer.yardstick and yardstick_sentence(answer.yardstick),
        probe_words=AGAINST_PROBE,
        checks=checks(results, shared),
        figures=_figures(results, answer.yardstick),
        samples=base64.b64encode(samples).decode("ascii"),
        perturbation=wording.ranges(shared.perturbation),
        light={variable: colour for colour, variable in style.VARIABLES.items()},
        dark={variable: style.DARK[c] for c, variable in style.VARIABLES.items()},
        variable_of=style.VARIABLES,
        metrics=METRICS,
        counts=COUNTS,
        splits=SPLITS,
        settings={result.name: wording.settings(result) for result in results},
    )


def write(results: Sequence[Result], shared: Context, folder: Path) -> str:
    """Write the page, the tables and the figures.

    The files are index.html; comparison.csv, comparison.txt, comparisons.csv and phases.csv;
    training_curves.png, roc.png and confusion.png.

    Returns:
        The text of comparison.txt, for the terminal.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    phases, answer = phase_results(results, shared), verdict(results, shared)
    rows, steps = comparison(results, answer.yardstick), phase_table(phases)
    table = text(answer, rows, steps)
    tested = [_tested(result) for result in results]
    style.save(_curves(results), folder / "training_curves.png")
    style.save(figures.roc(tested), folder / "roc.png")
    style.save(figures.confusion(tested), folder / "confusion.png")
    files.write_csv(folder / "comparison.csv", rows)
    files.write_csv(folder / "comparisons.csv", comparisons.table(results, shared))
    files.write_csv(folder / "phases.csv", steps)
    files.write_text(folder / "comparison.txt", table + "\n")
    files.write_text(folder / "index.html", page(results, shared, answer, phases))
    return table


def _against_probe(yardstick: Yardstick | None) -> dict[str, list[str]]:
    """Return the systems that beat the linear probe, those that do not, and those worse than it."""
    differences = {} if yardstick is None else yardstick.differences
    words = {"better": "It is beaten by", "open": "It is not beaten by", "worse": "It beats"}
    found = {
        words[outcome]: [name for name, each in differences.items() if each.outcome == outcome]
        for outcome in words
    }
    return {opening: names for opening, names in found.items() if names}


def _figures(results: Sequence[Result], yardstick: Yardstick | None) -> dict[str, Markup]:
    """Draw the page's figures, each with a description for screen readers."""
    tested = [_tested(result) for result in results]
    published = {
        r.name: r.published["test"]["auc"] for r in results if "auc" in r.published.get("test", {})
    }
    aucs = "; ".join(
        f"{r.name} {wording.number(r.test['auc'])} "
        f"({wording.interval(r.test['auc_low'], r.test['auc_high'])})"
        for r in results
    )
    cells = "; ".join(
        f"{r.name} {', '.join(f'{key.upper()} {r.test[key]}' for key in COUNTS)}" for r in results
    )
    drawn = {
        "intervals": (
            figures.intervals(
                tested, published, None if yardstick is None else yardstick.probe.test["auc"]
            ),
            f"Test AUC and interval: {aucs}.",
        ),
        "curves": (
            _curves(results),
            "Loss and AUC of each system by epoch, on training and validation; the numbers are in "
            "each model's history.csv.",
        ),
        "roc": (figures.roc(tested), f"ROC curves on the test set. AUC: {aucs}."),
        "precision_recall": (
            figures.precision_recall(tested),
            "Precision against recall on the test set; the table has both at the threshold.",
        ),
        "confusion": (figures.confusion(tested), f"Confusion matrices: {cells}."),
    }
    return {
        name: Markup(style.svg(figure, name.replace("_", "-"), description))  # svg() escapes
        for name, (figure, description) in drawn.items()
    }


def _tested(result: Result) -> figures.Tested:
    return figures.Tested(
        result.name, result.colour, result.test, result.perturbed, result.roc,
        result.precision_recall,
    )  # fmt: skip


def _curves(results: Sequence[Result]) -> Figure:
    """Draw the learning curves of the systems that have some: not those of linear probes."""
    trained = [result for result in results if not result.is_probe]
    return learning.curves([_learning(result) for result in trained or results])


def _learning(result: Result) -> learning.Learning:
    best = [phase["best_epoch"] for phase in result.phases.values()]
    return learning.Learning(result.name, result.colour, result.history, best)
