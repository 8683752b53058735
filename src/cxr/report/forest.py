"""The AUC of each system and its interval, on the test set and on the perturbed one."""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from cxr.report import chart, wording
from cxr.report.chart import MUTED, Drawing, Table
from cxr.report.differences import Yardstick
from cxr.report.results import CHANCE, Result

ROW = 42  # pixels of a system
SETS = ["test set", "perturbed"]


def drawing(results: Sequence[Result], yardstick: Yardstick | None) -> Drawing:
    """Draw a row per system: the filled dot is the test set, the open one the perturbed set."""
    table = Table("aucs", _aucs(results))
    names = [result.name for result in results]
    low = np.nanmin([*table.frame[["auc", "low"]].to_numpy().ravel(), 1.0])
    span = [max(0.0, round(float(low) - 0.03, 2)), 1.0]
    y = alt.Y(
        "system:N", sort=names, title=None, axis=alt.Axis(ticks=False, domain=False, offset=4)
    )
    base = alt.Chart(table.data).encode(
        y=y,
        yOffset=alt.YOffset("set:N", sort=SETS),
        color=chart.system_colours(results, legend=None),
    )
    scale = alt.Scale(domain=span, nice=False)
    x = alt.X(
        "auc:Q", title="AUC, 95 % interval over patients", scale=scale, axis=alt.Axis(tickCount=8)
    )
    tips = [alt.Tooltip("system:N"), alt.Tooltip("set:N"), chart.number("auc", "AUC"),
            chart.number("low", "95 % from"), chart.number("high", "to")]  # fmt: skip
    layers = [
        base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=3, opacity=0.45)
        .encode(x=alt.X("low:Q", scale=scale), x2="high:Q"),
        base.transform_filter("datum.set === 'test set' && isValid(datum.auc)")
        .mark_circle(size=80, opacity=1).encode(x=x, tooltip=tips),
        base.transform_filter("datum.set === 'perturbed' && isValid(datum.auc)")
        .mark_point(size=60, strokeWidth=2, opacity=1, fill=chart.PAPER).encode(x=x, tooltip=tips),
    ]  # fmt: skip
    if span[0] < CHANCE:
        layers.insert(0, _line(CHANCE, [4, 3], scale))
    if yardstick is not None and yardstick.probe.test["auc"] is not None:
        layers.insert(0, _line(yardstick.probe.test["auc"], [1, 3], scale))
    described = "; ".join(
        f"{r.name} {wording.number(r.test['auc'])} "
        f"({wording.interval(r.test['auc_low'], r.test['auc_high'])})"
        for r in results
    )
    whole = alt.layer(*layers).properties(
        name="aucs", width="container", height=ROW * len(results) + 40
    )
    return Drawing("aucs", f"Test AUC and interval: {described}.", whole, [table])


def _aucs(results: Sequence[Result]) -> pd.DataFrame:
    rows = [
        {
            "system": result.name,
            "set": name,
            "auc": found["auc"],
            "low": found["auc_low"],
            "high": found["auc_high"],
        }
        for result in results
        for name, found in zip(SETS, (result.test, result.perturbed), strict=True)
    ]
    return pd.DataFrame(rows).astype({"auc": float, "low": float, "high": float})


def _line(auc: float, dash: list[int], scale: alt.Scale) -> alt.Chart:
    rule = alt.Chart(alt.Data(values=[{}])).mark_rule(strokeDash=dash, color=MUTED, aria=False)
    return rule.encode(x=alt.XDatum(auc, scale=scale))
