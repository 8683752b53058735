"""The audits: duplicates, leaks, label suspects, and the shortcut alarm."""

from collections.abc import Iterator, Mapping
from typing import Any

import altair as alt
import pandas as pd

from cxr.report import chart, picture, wording
from cxr.report.chart import MUTED, Drawing, Table
from cxr.report.checks import Check
from cxr.report.results import CHANCE, Context

ROW = 30  # pixels of a group
SCALE = alt.Scale(domain=[0.3, 1], clamp=True)
_SETS = {"all": "everything", "file": "the file", "picture": "the picture"}


def checks(audit: Mapping[str, Any]) -> Iterator[Check]:
    """Yield a line for each audit that the split's own checks do not cover."""
    copies, leak, suspects = audit["duplicates"], audit["leak"], audit["suspects"]
    near = copies["near"]
    yield Check(
        "Near duplicates in the test set and in the rest",
        f"{copies['in_test_and_rest']:,} test images",
        f"{copies['exact']['groups']:,} groups of equal and {near['groups']:,} of nearly equal "
        f"images; {near['across_splits']:,} groups of nearly equal ones are in several splits. By "
        "perceptual hash, confirmed on pixels",
        copies["in_test_and_rest"] == 0,
    )
    if leak:
        yield Check(
            "Under image-level splits",
            f"{leak['low']:,} to {leak['high']:,} of {leak['test_images']:,} test images",
            f"would share a patient with training, over {leak['seeds']} seeds",
        )
    yield Check(
        "Labels to doubt",
        f"{suspects['suspects']:,} of {suspects['images']:,} images"
        if suspects["assessable"]
        else "not assessable",
        "contradicted by a linear probe that never saw their patient, with a probability of at "
        f"least {suspects['confident']:g}"
        if suspects["assessable"]
        else suspects["reason"],
    )
    yield _alarm(audit["shortcuts"])


def no_anatomy(audit: Mapping[str, Any] | None) -> Mapping[str, float] | None:
    """Return the test AUC of the baseline that sees all but anatomy, and its interval.

    None without an audit, or where an archive cannot show it.
    """
    found: Mapping[str, float] | None = audit and audit["shortcuts"]["sets"]["all"]["test"]
    return found


def shortcuts(shared: Context) -> Drawing | None:
    """Draw the AUC that each group of properties reaches alone; None without an audit."""
    if shared.audit is None:
        return None
    found = shared.audit["shortcuts"]
    table = Table("shortcuts", _rows({**found["sets"], **found["groups"]}))
    if table.frame.empty:
        return None
    names = list(dict.fromkeys(table.frame["feature"]))
    base = alt.Chart(table.data).encode(
        y=alt.Y("feature:N", sort=names, title=None, axis=alt.Axis(ticks=False, domain=False)),
        yOffset=alt.YOffset("split:N", sort=["test", "val"]),
        color=alt.Color(
            "split:N", scale=alt.Scale(domain=["test", "val"], range=["var(--system-1)", MUTED])
        ),
    )
    x = alt.X(
        "auc:Q", title="AUC, 95 % interval over patients", scale=SCALE, axis=alt.Axis(tickCount=8)
    )
    tips = [alt.Tooltip("feature:N"), alt.Tooltip("split:N"), chart.number("auc", "AUC")]
    rule = alt.Chart(alt.Data(values=[{}])).mark_rule(strokeDash=[4, 3], color=MUTED, aria=False)
    whole = alt.layer(
        rule.encode(x=alt.XDatum(CHANCE, scale=SCALE)),
        base.mark_rule(strokeWidth=3, opacity=0.5).encode(
            x=alt.X("low:Q", scale=SCALE), x2="high:Q"
        ),
        base.mark_circle(size=80, opacity=1).encode(x=x, tooltip=tips),
    ).properties(name="shortcuts", width="container", height=ROW * len(names) + 70)
    told = table.frame[table.frame["split"] == "test"]
    figures = "; ".join(
        f"{row['feature']} {wording.number(row['auc'])}" for _, row in told.iterrows()
    )
    return Drawing("shortcuts", f"Test AUC of what is not anatomy: {figures}.", whole, [table])


def suspects(shared: Context) -> dict[str, Any] | None:
    """Return the wall of suspect labels, and their number; None if there is none."""
    if shared.suspects is None or not len(shared.suspects) or shared.suspects_picture is None:
        return None
    return {"count": len(shared.suspects), "picture": picture.inline(shared.suspects_picture)}


def _alarm(found: Mapping[str, Any]) -> Check:
    """Return the line of the shortcut alarm."""
    label, whole = "Class from what is not anatomy", found["sets"]["all"]
    reasons = {
        reason: [name for name, group in found["groups"].items() if group["reason"] == reason]
        for reason in dict.fromkeys(group["reason"] for group in found["groups"].values())
        if reason
    }
    left_out = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    note = f". Not assessable: {left_out}" if left_out else ""
    if found["alarm"] is None:
        return Check(label, "not assessable", note.removeprefix(". "))
    told = [f"{split} {wording.number(whole[split]['auc'])}" for split in ("val", "test")]
    return Check(
        label,
        f"AUC {', '.join(told)}",
        "of a baseline that sees size, file, borders, markers and framing, and no lungs. The "
        f"higher it is, the more a network may rely on how the images were made{note}",
        False if found["alarm"] else None,
    )


def _rows(found: Mapping[str, Any]) -> pd.DataFrame:
    rows = [
        {
            "feature": _SETS.get(name, name),
            "split": split,
            "auc": rates[split]["auc"],
            "low": rates[split]["auc_low"],
            "high": rates[split]["auc_high"],
        }
        for name, rates in found.items()
        if rates["assessable"]
        for split in ("test", "val")
    ]
    columns = ["feature", "split", "auc", "low", "high"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], float))
