"""The operating point: what a threshold does, computed in the browser from the predictions.

The reader chooses a system, a threshold and a prevalence. The page's controls set the parameters of
these names in every chart that has them.
"""

from collections.abc import Sequence

import altair as alt
import numpy as np

from cxr.labels import CLASSES
from cxr.report import chart
from cxr.report.chart import MUTED, Drawing, Table
from cxr.report.curves import LOW, SHARE, TICKS, prevalence
from cxr.report.results import Result

DIGITS = 4  # of a probability; rounded down, so that steps of the threshold are met exactly
STEP = 0.001  # of the threshold
HEIGHT = 230  # pixels of a chart
BIN = 0.02  # of the histogram
CELLS = {"tp": (1, 1), "fn": (1, 0), "fp": (0, 1), "tn": (0, 0)}  # actual, predicted
RATES = {
    "sensitivity": "datum.tp / (datum.tp + datum.fn)",
    "specificity": "datum.tn / (datum.tn + datum.fp)",
    "PPV": "datum.sensitivity * prevalence / (datum.sensitivity * prevalence"
    " + (1 - datum.specificity) * (1 - prevalence))",
    "NPV": "datum.specificity * (1 - prevalence) / (datum.specificity * (1 - prevalence)"
    " + (1 - datum.sensitivity) * prevalence)",
    "accuracy": "(datum.tp + datum.tn) / (datum.tp + datum.tn + datum.fp + datum.fn)",
}


def drawings(results: Sequence[Result]) -> list[Drawing]:
    """Return the distribution of probabilities, the confusion matrix and the rates."""
    table = predictions(results)
    system = alt.param(name="system", value=results[0].name)
    threshold = alt.param(name="threshold", value=starting_threshold(results[0]))
    share = alt.param(name="prevalence", value=starting_prevalence(results))
    return [
        Drawing(
            "distribution",
            "Histogram of the chosen system's probabilities: PNEUMONIA above, NORMAL below.",
            _distribution(table).add_params(system, threshold), [table],
        ),
        Drawing(
            "confusion", "Confusion matrix of the chosen system at the threshold.",
            _confusion(table).add_params(system, threshold), [table],
        ),
        Drawing(
            "rates", "Rates of the chosen system at the threshold; PPV and NPV at the prevalence.",
            _rates(table).add_params(system, threshold, share), [table],
        ),
    ]  # fmt: skip


def predictions(results: Sequence[Result]) -> Table:
    """Return the test images of each system, those with equal probabilities as one row.

    The columns are system, label, p (rounded down to four digits) and n, the number of images.
    """
    frames = {}
    for result in results:
        rows = result.predictions[result.predictions["split"] == "test"]
        # 0.29 * 10 ** 4 is 2899.99...
        p = np.floor(rows["probability"] * 10**DIGITS + 1e-6) / 10**DIGITS
        counted = rows.assign(p=p).groupby(["label", "p"], sort=True).size()
        frames[result.name] = counted.rename("n").reset_index()
    return Table("predictions", chart.stacked(results, frames))


def starting_threshold(result: Result) -> float:
    """Return the threshold of a system, as the slider can show it."""
    return round(round(float(result.metrics["threshold"]) / STEP) * STEP, 3)


def starting_prevalence(results: Sequence[Result]) -> float:
    """Return the prevalence of params.yaml or else that of the test set, as the slider has it."""
    given = results[0].metrics.get("prevalence")
    share = prevalence(results) if given is None else float(given)
    return min(0.99, max(0.01, round(share, 2)))


def _chosen(table: Table) -> alt.Chart:
    return alt.Chart(table.data).transform_filter("datum.system === system")


def _counted(table: Table) -> alt.Chart:
    """Count tp, fn, fp and tn of the chosen system at the threshold: one row."""
    called = {1: "datum.p >= threshold", 0: "datum.p < threshold"}
    found = _chosen(table)
    for cell, (actual, predicted) in CELLS.items():
        right = f"datum.label === {actual} && {called[predicted]}"
        found = found.transform_calculate(**{cell: f"{right} ? datum.n : 0"})
    return found.transform_aggregate(**{cell: f"sum({cell})" for cell in CELLS})


def _confusion(table: Table) -> alt.LayerChart:
    of = {
        name: " : ".join(
            f"datum.cell === '{cell}' ? '{CLASSES[place[axis]]}'" for cell, place in CELLS.items()
        ) + " : ''"
        for axis, name in enumerate(("actual", "predicted"))
    }  # fmt: skip
    base = (
        _counted(table)
        .transform_fold(list(CELLS), as_=["cell", "count"])
        .transform_calculate(**of)
        .transform_joinaggregate(row="sum(count)", groupby=["actual"])
        .transform_calculate(
            share="datum.row > 0 ? datum.count / datum.row : 0",
            words="format(datum.share, '.1%') + ' of ' + datum.actual",
        )
        .encode(
            x=alt.X("predicted:N", sort=list(CLASSES), title="predicted", axis=_axis(0)),
            y=alt.Y("actual:N", sort=list(CLASSES), title="actual", axis=_axis(-90)),
        )
    )
    text = {"aria": True, "fontSize": 20, "fontWeight": 600}
    return alt.layer(
        base.mark_rect(fill="var(--system-0)", cornerRadius=4, aria=False).encode(
            opacity=alt.Opacity(
                "share:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.04, 0.4])
            )
        ),
        base.mark_text(dy=-7, **text).encode(
            text="count:Q", description=alt.Description("said:N")
        ).transform_calculate(
            said="datum.count + ' ' + datum.actual + ' called ' + datum.predicted"
        ),
        base.mark_text(dy=13, color=MUTED, fontSize=11, aria=False).encode(text="words:N"),
    ).properties(name="confusion", width="container", height=HEIGHT)  # fmt: skip


def _rates(table: Table) -> alt.LayerChart:
    base = _counted(table)
    for name, formula in RATES.items():
        base = base.transform_calculate(**{name: formula})
    base = (
        base.transform_fold(list(RATES), as_=["rate", "value"])
        .transform_calculate(
            known="isFinite(datum.value)",
            words="isFinite(datum.value) ? format(datum.value, '.3f') : 'undefined'",
            said="datum.rate + ' ' + (isFinite(datum.value) ? format(datum.value, '.3f') : '?')",
        )
        .encode(
            y=alt.Y("rate:N", sort=list(RATES), title=None,
                    axis=alt.Axis(ticks=False, domain=False, labelFontSize=13)),
        )
    )  # fmt: skip
    x = alt.X("value:Q", title=None, scale=alt.Scale(domain=[0, 1.15]),
              axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2~f"))  # fmt: skip
    return alt.layer(
        base.transform_filter("datum.known").mark_bar(
            fill="var(--system-0)", opacity=0.5, height={"band": 0.6}, aria=False
        ).encode(x=x),
        base.mark_text(align="left", dx=6, fontWeight=600, fontSize=13).encode(
            x=alt.X("at:Q"), text="words:N", description=alt.Description("said:N")
        ).transform_calculate(at="datum.known ? datum.value : 0"),
    ).properties(name="rates", width="container", height=HEIGHT)  # fmt: skip


def _distribution(table: Table) -> alt.LayerChart:
    base = (
        _chosen(table)
        .transform_calculate(
            low=f"min(floor(datum.p / {BIN} + 1e-9), {round(1 / BIN) - 1}) * {BIN}",
            actual=f"datum.label === 1 ? '{CLASSES[1]}' : '{CLASSES[0]}'",
        )
        .transform_aggregate(images="sum(n)", groupby=["low", "actual"])
        .transform_joinaggregate(whole="sum(images)", groupby=["actual"])
        .transform_calculate(
            high=f"datum.low + {BIN}",
            share=f"datum.images / datum.whole * (datum.actual === '{CLASSES[1]}' ? 1 : -1)",
        )
    )
    bars = base.mark_bar(aria=False).encode(
        x=alt.X("low:Q", title="predicted probability of PNEUMONIA",
                scale=SHARE, axis=TICKS),
        x2="high:Q",
        y2=alt.datum(0),
        y=alt.Y("share:Q", title="share of the class",
                axis=alt.Axis(format=".0%", labelExpr="format(abs(datum.value), '.0%')")),
        color=alt.Color("actual:N", sort=[CLASSES[1], CLASSES[0]], scale=alt.Scale(
            domain=[CLASSES[1], CLASSES[0]], range=["var(--system-1)", "var(--system-0)"])),
        tooltip=[alt.Tooltip("actual:N"), alt.Tooltip("low:Q", title="from", format=".2f"),
                 alt.Tooltip("high:Q", title="to", format=".2f"), alt.Tooltip("images:Q")],
    )  # fmt: skip
    cut = alt.Chart(alt.Data(values=[{}])).mark_rule(color=chart.INK, strokeWidth=2)
    return alt.layer(
        bars, cut.encode(x=alt.XDatum(alt.expr("threshold"), type="quantitative"))
    ).properties(name="distribution", width="container", height=LOW)


def _axis(angle: int) -> alt.Axis:
    return alt.Axis(labelAngle=angle, ticks=False, domain=False)
