"""The systems on shifted, masked and external images."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from cxr.report import chart, wording
from cxr.report.chart import MUTED, SMALL, Drawing, Table
from cxr.report.columns import Cell, figure
from cxr.report.results import Result

MEASURES = {"auc": "AUC", "accuracy": "accuracy at the threshold", "brier": "Brier score",
            "ece": "expected calibration error"}  # fmt: skip
# Of each kind of shift, the unit of its strength, and the strength that changes nothing.
STRENGTHS = {
    "rotation": ("degrees", 0), "brightness": ("factor", 1), "contrast": ("factor", 1),
    "gamma": ("exponent", 1), "blur": ("% of the side", 0), "noise": ("grey values", 0),
    "jpeg": ("quality", 100), "resolution": ("fraction of the side", 1),
}  # fmt: skip
UNSHIFTED = "none"  # the kind of images as they are
MASKED = {"centre": "Lungs masked", "outside": "All but lungs masked"}


def drawings(results: Sequence[Result]) -> list[Drawing]:
    """Return a chart per kind of shift: a chosen measure of the test set over the strength."""
    frames = {result.name: _curve(result.shift) for result in results if result.shift is not None}
    whole = chart.stacked(results, frames) if frames else pd.DataFrame(columns=["kind"])
    table = Table("shift", whole)
    return [
        Drawing(
            f"shift-{place}",
            f"A measure of each system on the test set over the strength of {kind}.",
            _chart(kind, table, results).properties(name=f"shift_{place}"),
            [table],
        )
        for place, kind in enumerate(whole["kind"].unique())
    ]


def conditions(results: Sequence[Result]) -> dict[str, dict[str, Cell]]:
    """Return the AUC on validation, shifted, masked and external images, by column and system.

    Nothing if no system was evaluated under shift.
    """
    found: dict[str, dict[str, Cell]] = {}
    for result in results:
        shift = result.metrics.get("shift")
        if shift is None:
            continue
        validation = shift["validation"]
        cells = {
            "Test": figure(result.test, "auc"),
            "Validation": figure(result.metrics["val"], "auc"),
            "Validation under shift": figure(
                {"auc": validation["shifted_auc"]}, "auc"
            ),
            "Test under shift": figure({"auc": shift["curve"]["shifted_auc"]}, "auc"),
        }  # fmt: skip
        cells |= {
            label: figure(shift["masked"][kind], "auc")
            for kind, label in MASKED.items()
            if kind in shift["masked"]
        }
        cells |= {name: _external(rates) for name, rates in shift["external"].items()}
        for label, cell in cells.items():
            found.setdefault(label, {})[result.name] = cell
    return found


def _external(rates: dict[str, float | None]) -> Cell:
    """Return the AUC of an external archive, its images, and accuracy at the locked threshold."""
    cell = figure(rates, "auc")
    notes = [f"accuracy {wording.number(rates['accuracy'])}", f"{rates['n']:,} images"]
    return Cell(cell.text, [*cell.notes, *notes], cell.order)


def _curve(shift: pd.DataFrame) -> pd.DataFrame:
    """Return the test set over strengths; each kind starts from the images as they are."""
    rows = shift[shift["set"] == "curve"]
    plain = rows[rows["kind"] == UNSHIFTED]
    kinds = [kind for kind in rows["kind"].unique() if kind != UNSHIFTED]
    parts = [
        part
        for kind in kinds
        for part in (
            plain.assign(kind=kind, strength=float(STRENGTHS.get(kind, ("", 0))[1])),
            rows[rows["kind"] == kind],
        )
    ]
    columns = ["kind", "strength", "n", *MEASURES]
    return (pd.concat(parts) if parts else rows)[columns].sort_values(["kind", "strength"])


def _chart(kind: str, table: Table, results: Sequence[Result]) -> alt.LayerChart:
    unit, neutral = STRENGTHS.get(kind, ("strength", 0))
    measure = alt.param(name="measure", value=next(iter(MEASURES)))
    base = (
        alt.Chart(table.data)
        .transform_filter(alt.datum.kind == kind)
        .transform_calculate(value="datum[measure]")
        .transform_filter("isValid(datum.value)")
        .encode(
            x=alt.X("strength:Q", title=unit, scale=alt.Scale(zero=False)),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 1]),
                    axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2~f")),
            color=chart.system_colours(results, legend=None),
        )
    )  # fmt: skip
    tips = [alt.Tooltip("system:N"), alt.Tooltip("strength:Q"), *(
        chart.number(key, words) for key, words in MEASURES.items()
    )]  # fmt: skip
    rule = alt.Chart(alt.Data(values=[{}])).mark_rule(strokeDash=[4, 3], color=MUTED, aria=False)
    return alt.layer(
        rule.encode(x=alt.datum(neutral)),
        base.mark_line(point={"size": 18}, clip=False),
        base.mark_circle(size=120, opacity=0, aria=False).encode(tooltip=tips),
    ).properties(width="container", height=SMALL, title=kind).add_params(measure)  # fmt: skip
