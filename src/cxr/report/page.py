"""The page, and the tables and pictures that are written beside it."""

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from cxr import files, params
from cxr.report import figures, style, wording
from cxr.report.answer import verdict
from cxr.report.checks import checks
from cxr.report.differences import Phases, phase_results
from cxr.report.results import Context, Result
from cxr.report.tables import COUNTS, METRICS, comparison, phase_table


def page(results: Sequence[Result], shared: Context, phases: Phases) -> str:
    """Return the report as one HTML page that needs no other file.

    Args:
        results: of :func:`cxr.report.collect`.
        shared: of :func:`cxr.report.context`.
        phases: of :func:`cxr.report.phase_results`.

    Raises:
        InputError: systems were tested on other images than each other or than the manifest's.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": wording.number, "range": wording.interval, "signed": wording.signed,
        "published": wording.published, "rule": wording.rule, "how": wording.how,
    }  # fmt: skip
    source = (resources.files("cxr.report") / "report.html.j2").read_text(encoding="utf-8")
    # The films are the same for all systems: those of the largest size show the most.
    films = max(results, key=lambda result: result.record["system"]["image_size"]).films
    return environment.from_string(source).render(
        results=results,
        phases=phases,
        verdict=verdict(results, shared, phases),
        checks=checks(results, shared),
        pictures=_drawn(results),
        films=base64.b64encode(films).decode("ascii"),
        damage=wording.ranges(shared.perturbation),
        light={variable: colour for colour, variable in style.VARIABLES.items()},
        dark={variable: style.DARK[c] for c, variable in style.VARIABLES.items()},
        variable_of=style.VARIABLES,
        metrics=METRICS,
        counts=COUNTS,
        splits=params.SPLITS,
        settings={result.name: wording.settings(result) for result in results},
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
    style.save(figures.curves([_learning(r) for r in results]), folder / "training_curves.png")
    style.save(figures.roc(tested), folder / "roc.png")
    style.save(figures.confusion(tested), folder / "confusion.png")
    for name, found in {"comparison.csv": rows, "phases.csv": steps}.items():
        with files.replacing(folder / name) as beside:
            found.to_csv(beside, index=False, lineterminator="\n")
    files.write_text(folder / "index.html", text)
    return rows, steps


def _drawn(results: Sequence[Result]) -> dict[str, Markup]:
    """Draw the page's pictures, each with a description for those who do not see it."""
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
        "intervals": (figures.intervals(tested, published), f"Test AUC and interval: {aucs}."),
        "curves": (
            figures.curves([_learning(result) for result in results]),
            "Loss and AUC by epoch, training and validation, of each system; figures in the "
            "history.csv of each model.",
        ),
        "roc": (figures.roc(tested), f"ROC curves on the test set. AUC: {aucs}."),
        "tradeoff": (
            figures.precision_recall(tested),
            "Precision against recall on the test set; those at the threshold are in the table.",
        ),
        "confusion": (figures.confusion(tested), f"Confusion matrices: {cells}."),
    }
    return {
        name: Markup(style.svg(figure, name, description))  # svg() escapes its texts
        for name, (figure, description) in drawn.items()
    }


def _tested(result: Result) -> figures.Tested:
    return figures.Tested(
        result.name, result.colour, result.test, result.perturbed, result.roc,
        result.precision_recall,
    )  # fmt: skip


def _learning(result: Result) -> figures.Learning:
    kept = [phase["kept_epoch"] for phase in result.phases.values()]
    return figures.Learning(result.name, result.colour, result.history, kept)
