"""Charts of the page: Vega-Lite specifications with shared data, and the colours of the page.

Each chart is drawn in the browser by Vega, which :func:`bundle` puts into the page. The data of all
charts are in the page once, as CSV; a chart names the tables that it draws.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from cxr.report.results import Result
from cxr.report.style import VARIABLES

HEIGHT = 380  # pixels of a chart
SMALL = 210  # of each of many
MUTED, INK, LINE, PAPER = "var(--muted)", "var(--ink)", "var(--line)", "var(--paper)"
_CONFIG: Any = {
    "background": "transparent",
    "font": "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, sans-serif",
    "autosize": {"type": "fit", "contains": "padding"},
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK, "titleColor": INK, "domainColor": MUTED, "tickColor": MUTED,
        "gridColor": LINE, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        "labelLimit": 160,
    },
    "legend": {
        "labelColor": INK, "titleColor": INK, "labelFontSize": 12, "orient": "bottom",
        "columns": 2, "title": None, "labelLimit": 150,
    },
    "title": {"color": INK, "anchor": "start", "fontSize": 13, "fontWeight": 600},
    "text": {"color": INK, "fontSize": 12},
    "rule": {"color": MUTED},
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table that charts draw.

    Attributes:
        name: unique in the page.
        frame: numbers and texts; NaN is left out of a chart.
    """

    name: str
    frame: pd.DataFrame

    @property
    def data(self) -> alt.NamedData:
        """The reference to it in a chart."""
        kinds = {
            column: "number" if pd.api.types.is_numeric_dtype(values) else "string"
            for column, values in self.frame.items()
        }
        return alt.NamedData(name=self.name, format={"type": "csv", "parse": kinds})

    @property
    def csv(self) -> str:
        """Its rows, with six digits: more than a plot can show."""
        return self.frame.to_csv(index=False, lineterminator="\n", float_format="%.6g")


@dataclass(frozen=True)
class Drawing:
    """A chart of the page.

    Attributes:
        name: unique in the page: a-z and -.
        description: what it shows, for screen readers.
        chart: the specification.
        tables: those that it draws.
    """

    name: str
    description: str
    chart: alt.Chart | alt.LayerChart
    tables: Sequence[Table]

    @property
    def spec(self) -> dict[str, Any]:
        """The specification as Vega-Lite has it."""
        found: dict[str, Any] = self.chart.properties(description=self.description).to_dict()
        return found | {"config": _CONFIG}


def page_data(drawings: Iterable[Drawing]) -> str:
    """Return specifications and tables as JSON that may stand in a ``<script>`` element."""
    drawings = list(drawings)
    content = {
        "specs": {drawing.name: drawing.spec for drawing in drawings},
        "datasets": {table.name: table.csv for drawing in drawings for table in drawing.tables},
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")  # so that no name in it can end the element


@functools.cache
def bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that loads nothing else."""
    # In a string, `<\/script` means `</script` and does not end the element.
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace(
        "</script", "<\\/script"
    )


def system_colours(results: Sequence[Result], **options: Any) -> alt.Color:
    """Return the colour of each system, the same as in the tables."""
    names = [result.name for result in results]
    variables = [f"var(--{VARIABLES[result.colour]})" for result in results]
    return alt.Color(
        "system:N", sort=names, scale=alt.Scale(domain=names, range=variables), **options
    )


def line_of(result: Result) -> str:
    """Return the colour of one system."""
    return f"var(--{VARIABLES[result.colour]})"


def stacked(results: Sequence[Result], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a table of all systems: their rows one below the other, after a column ``system``."""
    frames = [
        tables[result.name].assign(system=result.name)
        for result in results
        if result.name in tables
    ]
    whole = pd.concat(frames, ignore_index=True)
    return whole[["system", *whole.columns.drop("system")]]


def nearest(name: str, chart: alt.Chart, tooltip: Sequence[alt.Tooltip]) -> alt.Chart:
    """Return points that show themselves and their numbers when the pointer is near.

    Args:
        name: unique in the page, of a parameter: a-z and _.
        chart: with x, y and colour.
        tooltip: the numbers.
    """
    hover = alt.selection_point(
        name=name, on="pointermove", clear="pointerout", nearest=True, empty=False
    )
    # Written out, because Vega-Lite 6.4 looks for numbers in the nearest point, but for texts in
    # the cell around it, whose `datum` the point is.
    lines = []
    for line in (found.to_dict() for found in tooltip):
        value = f"(datum.datum || datum)[{line['field']!r}]"
        value = f"format({value}, {line['format']!r})" if "format" in line else value
        lines.append(f"{line.get('title', line['field'])!r}: {value}")
    told = alt.value(alt.expr(f"{{{', '.join(lines)}}}"))
    points = chart.mark_circle(size=70, aria=False)
    return points.encode(
        opacity=alt.condition(hover, alt.value(1), alt.value(0)), tooltip=told
    ).add_params(hover)


def number(field: str, title: str) -> alt.Tooltip:
    """Return a line of a tooltip with three decimals."""
    return alt.Tooltip(f"{field}:Q", title=title, format=".3f")
