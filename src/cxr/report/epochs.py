"""Loss and AUC by epoch, with the borders of the phases, for each system that has epochs."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from cxr.report import chart
from cxr.report.chart import MUTED, SMALL, Drawing, Table
from cxr.report.results import Result

METRICS = {"loss": "loss", "auc": "AUC"}


def drawings(results: Sequence[Result]) -> dict[str, list[Drawing]]:
    """Return the charts of each system, by its name; a linear probe has no epochs and no chart."""
    trained = [result for result in results if not result.is_probe]
    if not trained:
        return {}
    lines = Table("history", chart.stacked(trained, {r.name: _lines(r) for r in trained}))
    phases = Table("phases", chart.stacked(trained, {r.name: _phases(r) for r in trained}))
    aucs = lines.frame["auc"]
    low = float(aucs.min()) if aucs.notna().any() else 0.0
    span = [round(max(0.0, low - 0.02), 2), 1.0]
    return {
        result.name: [
            Drawing(
                f"epochs-{place}-{metric}",
                f"{result.name}: {words} by epoch, training and validation.",
                _chart(result, metric, words, lines, phases, span).properties(
                    name=f"epochs_{place}_{metric}"
                ),
                [lines, phases],
            )
            for metric, words in METRICS.items()
        ]
        for place, result in enumerate(trained)
    }


def _lines(result: Result) -> pd.DataFrame:
    """Return epoch, set, loss, auc and best, which marks the epoch that a phase ended with."""
    history = result.history
    best = [phase["best_epoch"] for phase in result.phases.values()]
    sets = {"training": "", "validation": "val_"}
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "epoch": history["epoch"],
                    "set": name,
                    "loss": history[f"{prefix}loss"].astype(float),
                    "auc": history[f"{prefix}auc"].astype(float),
                    "best": (history["epoch"].isin(best) & (name == "validation")).astype(int),
                }
            )
            for name, prefix in sets.items()
        ]
    )


def _phases(result: Result) -> pd.DataFrame:
    """Return each phase with the place of its border; no rows if there is one phase alone."""
    starts = result.history.groupby("phase", sort=False)["epoch"].min()
    frame = pd.DataFrame({"phase": starts.index.astype(str), "start": starts.to_numpy() - 0.5})
    return (
        frame.assign(border=(frame["start"] > 1).astype(int)) if len(frame) > 1 else frame.iloc[:0]
    )


def _chart(
    result: Result, metric: str, words: str, lines: Table, phases: Table, span: list[float]
) -> alt.LayerChart:
    """Draw a metric of one system."""
    colour = chart.line_of(result)
    epochs = result.history["epoch"]
    whole = alt.Scale(domain=[0.5, int(epochs.max()) + 0.5], nice=False)
    x = alt.X(
        "epoch:Q", title="epoch", scale=whole,
        axis=alt.Axis(tickMinStep=1, format="d", grid=False),
    )  # fmt: skip
    scale = alt.Scale(domain=span, nice=False) if metric == "auc" else alt.Scale(zero=False)
    base = (
        alt.Chart(lines.data)
        .transform_filter((alt.datum.system == result.name) & f"isValid(datum.{metric})")
        .encode(x=x, y=alt.Y(f"{metric}:Q", title=None, scale=scale, axis=alt.Axis(tickCount=4)))
    )
    tips = [alt.Tooltip("set:N"), alt.Tooltip("epoch:Q"), chart.number(metric, words)]
    few = {"point": {"color": colour, "size": 30}} if len(epochs) < 3 else {}
    borders = alt.Chart(phases.data).transform_filter(alt.datum.system == result.name)
    return alt.layer(
        borders.transform_filter("datum.border === 1")
        .mark_rule(strokeDash=[3, 3], color=MUTED, aria=False).encode(x="start:Q"),
        borders.mark_text(align="left", baseline="bottom", dx=3, dy=-2, color=MUTED, fontSize=11)
        .encode(x="start:Q", y=alt.value(0), text="phase:N"),
        base.mark_line(color=colour, clip=True, **few).encode(
            strokeDash=alt.StrokeDash(
                "set:N", legend=None,
                scale=alt.Scale(domain=["validation", "training"], range=[[1, 0], [5, 3]]),
            ),
            detail="set:N",
        ),
        base.transform_filter("datum.best === 1").mark_point(
            color=colour, fill=chart.PAPER, size=80, strokeWidth=2, opacity=1
        ).encode(tooltip=tips),
        chart.nearest(f"hover_{metric}", base.encode(color=alt.value(colour)), tips),
    ).properties(
        width="container", height=SMALL,
        title=alt.Title(f"{result.name}: {words}", offset=16 if len(_phases(result)) else 6),
    )  # fmt: skip
