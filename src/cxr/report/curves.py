"""ROC, precision-recall, reliability and decision curves, all systems over each other."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from cxr.evaluation import metrics
from cxr.report import chart, wording
from cxr.report.chart import HEIGHT, MUTED, Drawing, Table
from cxr.report.results import Result

METHODS = {"none": "as predicted", "temperature": "temperature scaling", "platt": "Platt scaling"}
LOW = 300  # pixels of the chart of reliability, which stands beside a histogram
SHARE = alt.Scale(domain=[0, 1], nice=False)
TICKS = alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], format=".1f")


def drawings(results: Sequence[Result]) -> list[Drawing]:
    """Return the curves that the files have."""
    found = [roc(results), precision_recall(results)]
    if any(result.reliability is not None for result in results):
        found.append(reliability(results))
    if any(result.decision is not None for result in results):
        found.append(decision(results))
    return found


def roc(results: Sequence[Result]) -> Drawing:
    """Draw the ROC curves, with a dot at the threshold of the table."""
    points = Table("roc", chart.stacked(results, {r.name: r.roc for r in results}))
    dots = _dots(results)
    base = alt.Chart(points.data).encode(
        x=share_x("fpr", "1 \N{MINUS SIGN} specificity"), y=share_y("tpr", "sensitivity"),
        color=chart.system_colours(results),
    )  # fmt: skip
    curve = base.mark_line(interpolate="linear", clip=True).encode(
        order=alt.Order("tpr:Q"), detail="system:N"
    )
    tips = [
        alt.Tooltip("system:N"), chart.number("threshold", "threshold"),
        chart.number("tpr", "sensitivity"), chart.number("fpr", "1 \N{MINUS SIGN} specificity"),
    ]  # fmt: skip
    whole = alt.layer(
        _line(0, 0, 1, 1), curve, chart.nearest("roc_hover", base, tips),
        _dot(dots, results, "false_positive_rate", "sensitivity"),
    )  # fmt: skip
    aucs = "; ".join(f"{r.name} {wording.number(r.test['auc'])}" for r in results)
    return Drawing(
        "roc", f"ROC curves on the test set. AUC: {aucs}.", _wide(whole, "roc"), [points, dots]
    )


def precision_recall(results: Sequence[Result]) -> Drawing:
    """Draw precision against recall; the dashed line is the share of PNEUMONIA: chance level."""
    frames = {r.name: r.precision_recall for r in results}
    points, dots = Table("precision_recall", chart.stacked(results, frames)), _dots(results)
    base = alt.Chart(points.data).encode(
        x=share_x("recall", "recall (sensitivity)"), y=share_y("precision", "precision (PPV)"),
        color=chart.system_colours(results),
    )  # fmt: skip
    curve = base.mark_line(clip=True).encode(order=alt.Order("threshold:Q"), detail="system:N")
    tips = [
        alt.Tooltip("system:N"), chart.number("threshold", "threshold"),
        chart.number("recall", "recall"), chart.number("precision", "precision"),
    ]  # fmt: skip
    share = prevalence(results)
    whole = alt.layer(
        _line(0, share, 1, share), curve, chart.nearest("precision_recall_hover", base, tips),
        _dot(dots, results, "sensitivity", "precision"),
    )  # fmt: skip
    described = "Precision against recall on the test set; the table has both at the threshold."
    return Drawing("precision-recall", described, _wide(whole, "precision_recall"), [points, dots])


def reliability(results: Sequence[Result]) -> Drawing:
    """Draw how often PNEUMONIA was right where a probability was given, for a chosen system."""
    frames = {r.name: r.reliability for r in results if r.reliability is not None}
    bins = chart.stacked(results, frames)
    bins = bins[bins["count"] > 0].replace({"method": METHODS})
    table = Table("reliability", bins)
    methods = [name for name in METHODS.values() if name in set(bins["method"])]
    system = alt.param(name="system", value=results[0].name)
    base = (
        alt.Chart(table.data)
        .transform_filter("datum.system === system")
        .encode(
            x=share_x("mean_probability", "predicted probability of PNEUMONIA"),
            y=share_y("frequency", "observed frequency"),
            color=alt.Color(
                "method:N", sort=methods,
                scale=alt.Scale(domain=methods, range=[f"var(--system-{n})" for n in range(3)]),
            ),
        )
    )  # fmt: skip
    tips = [
        alt.Tooltip("method:N"), chart.number("mean_probability", "predicted"),
        chart.number("frequency", "observed"), alt.Tooltip("count:Q", title="images"),
    ]  # fmt: skip
    points = base.mark_circle(opacity=0.9, clip=False).encode(
        size=alt.Size("count:Q", legend=None, scale=alt.Scale(range=[20, 250])), tooltip=tips
    )
    whole = alt.layer(_line(0, 0, 1, 1), base.mark_line(strokeWidth=1.2), points)
    described = (
        "Reliability of the chosen system: the observed frequency of PNEUMONIA against its "
        "predicted probability, before and after calibration on validation."
    )
    return Drawing(
        "reliability", described, _wide(whole, "reliability", LOW).add_params(system), [table]
    )


def decision(results: Sequence[Result]) -> Drawing:
    """Draw the net benefit over the threshold, beside those of treating all and none."""
    frames = {r.name: r.decision for r in results if r.decision is not None}
    table = Table("decision", chart.stacked(results, frames))
    first = next(name for name in frames)
    top = max(0.01, prevalence(results))
    x = alt.X("threshold:Q", title="threshold probability", scale=SHARE, axis=TICKS)
    limits = alt.Scale(domain=[-0.1 * top, 1.05 * top], nice=False)
    every = alt.Chart(table.data).encode(x=x, color=chart.system_colours(results))
    y = alt.Y("net_benefit:Q", title="net benefit", scale=limits)
    whole = alt.layer(
        alt.Chart(table.data).transform_filter(alt.datum.system == first)
        .mark_line(color=MUTED, strokeDash=[4, 3], clip=True)
        .encode(x=x, y=alt.Y("treat_all:Q", title="net benefit", scale=limits)),
        _line(0, 0, 1, 0),
        every.mark_line(clip=True).encode(y=y, detail="system:N"),
        chart.nearest(
            "decision_hover",
            every.transform_filter(f"datum.net_benefit >= {-0.1 * top}").encode(y=y),
            [
                alt.Tooltip("system:N"), chart.number("threshold", "threshold"),
                chart.number("net_benefit", "net benefit"), chart.number("treat_all", "treat all"),
            ],
        ),
    )  # fmt: skip
    described = (
        "Decision curve: net benefit of each system over the threshold. Dashed: treating all; the "
        "line at 0: treating none."
    )
    return Drawing("decision", described, _wide(whole, "decision"), [table])


def share_x(field: str, title: str) -> alt.X:
    """Return an x axis from 0 to 1."""
    return alt.X(f"{field}:Q", title=title, scale=SHARE, axis=TICKS)


def share_y(field: str, title: str) -> alt.Y:
    """Return a y axis from 0 to 1."""
    return alt.Y(f"{field}:Q", title=title, scale=SHARE, axis=TICKS)


def prevalence(results: Sequence[Result]) -> float:
    """Return the share of PNEUMONIA in the test set, 0 to 1; all systems have the same one."""
    counts = results[0].test
    positive = counts["tp"] + counts["fn"]
    return float(positive / max(1, positive + counts["tn"] + counts["fp"]))


def _dots(results: Sequence[Result]) -> Table:
    """Return where each system is at the threshold of the table."""
    rows = []
    for result in results:
        rates = metrics.rates(**{key: result.test[key] for key in ("tp", "tn", "fp", "fn")})
        specificity = rates["specificity"]
        rows.append(
            {
                "system": result.name,
                "threshold": result.metrics["threshold"],
                "sensitivity": rates["recall"],
                "precision": rates["precision"],
                "false_positive_rate": None if specificity is None else 1 - specificity,
            }
        )
    numbers = ["threshold", "sensitivity", "precision", "false_positive_rate"]
    return Table("dots", pd.DataFrame(rows).astype(dict.fromkeys(numbers, float)))


def _dot(table: Table, results: Sequence[Result], x: str, y: str) -> alt.Chart:
    tips = [alt.Tooltip("system:N"), chart.number("threshold", "threshold applied"),
            chart.number(x, x.replace("_", " ")), chart.number(y, y)]  # fmt: skip
    return (
        alt.Chart(table.data)
        .transform_filter(f"isValid(datum.{x}) && isValid(datum.{y})")
        .mark_point(filled=True, size=90, opacity=1, stroke=chart.PAPER, strokeWidth=1.5)
        .encode(x=f"{x}:Q", y=f"{y}:Q", color=chart.system_colours(results), tooltip=tips)
    )


def _line(x: float, y: float, x2: float, y2: float) -> alt.Chart:
    """Return a dashed line, for chance level and the like."""
    rule = alt.Chart(alt.Data(values=[{}])).mark_rule(strokeDash=[4, 3], aria=False)
    return rule.encode(x=alt.datum(x), y=alt.datum(y), x2=alt.datum(x2), y2=alt.datum(y2))


def _wide(layers: alt.LayerChart, name: str, height: int = HEIGHT) -> alt.LayerChart:
    return layers.properties(name=name, width="container", height=height)
