"""The model card: what to hand on with a model, from the same values as the page.

Its headings are those of Mitchell and others 2019, "Model Cards for Model Reporting".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cxr.report import robustness, template, wording
from cxr.report.answer import Verdict
from cxr.report.checks import Check
from cxr.report.columns import METRICS
from cxr.report.results import Context, Result

NOT_FOR = "For research. Not a medical device, and not for diagnosis or any other clinical use."
USE = (
    "To study whether networks that were trained on ImageNet are worth it on chest X-rays, and how "
    "far published figures can be trusted."
)
UNSUITABLE = (
    "Clinical use, screening or triage; and patients, machines and diseases that the data do not "
    "have, for which nothing was tested."
)
REBUILD = ["make setup", ".venv/bin/dvc repro"]
_TESTED = ("test", "perturbed")


def card(
    results: Sequence[Result], shared: Context, answer: Verdict, checks: Sequence[Check]
) -> dict[str, Any]:
    """Return the card as JSON has it.

    Args:
        results: from :func:`cxr.report.results.collect`.
        shared: from :func:`cxr.report.results.context`.
        answer: from :func:`cxr.report.answer.verdict`.
        checks: those of the page; the ones with a warning become limits.
    """
    warned = [
        "; ".join(filter(None, [f"{c.label}: {c.value}", c.note]))
        for c in checks
        if c.good is False
    ]
    source = shared.source
    return {
        "question": "Is transfer worth it?",
        "answer": answer.headline,
        "intended_use": USE,
        "not_for": [NOT_FOR, UNSUITABLE],
        "data": {
            **{key: source[key] for key in ("origin", "licence", "doi", "citation", "sha256")},
            "protocol": shared.protocol,
            "images": shared.summary["images"],
            "patients": int(shared.manifest["patient"].nunique()),
            "rejected": shared.summary["rejected"],
        },
        "limits": [*answer.warnings, *warned],
        "systems": [_system(result) for result in results],
        "seed": shared.seed,
        "rebuild": REBUILD,
    }


def text(described: Mapping[str, Any]) -> str:
    """Return a card from :func:`card` as Markdown."""
    tested = [system["metrics"]["test"] for system in described["systems"]]
    labels = {"auc": "AUC"} | {key: label for key, (label, _) in METRICS.items()}
    keys = [key for key in labels if any(key in figures for figures in tested)]
    values = {**described, "labels": labels, "keys": keys, "figure": _words}
    return template.render("model_card.md.j2", values, escape=False)


def _words(found: Mapping[str, float | None] | None) -> str:
    """Return a figure and its interval."""
    if found is None:
        return wording.DASH
    value, low, high = wording.number(found["value"]), found["low"], found["high"]
    return value if wording.unknown(low) else f"{value} ({wording.interval(low, high)})"


def _system(result: Result) -> dict[str, Any]:
    """Return a system's network, training and figures; an unknown figure is None."""
    measured = {name: _figures(result.metrics[name]) for name in _TESTED if name in result.metrics}
    other = {
        condition: cells[result.name].order
        for condition, cells in robustness.conditions([result]).items()
        if result.name in cells
    }
    return {
        "name": result.name,
        "backbone": result.weights["backbone"],
        "initial_weights": result.start,
        "weights_sha256": result.record["weights_sha256"],
        "commit": result.provenance["git"]["commit"],
        "image_size": result.record["system"]["image_size"],
        "threshold": result.metrics["threshold"],
        "threshold_rule": result.metrics.get("threshold_rule"),
        "prevalence": result.metrics.get("prevalence"),
        "metrics": measured,
        "auc_elsewhere": other,
    }


def _figures(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that there are, each with the ends of its interval if it has one."""
    return {
        key: {
            "value": found[key],
            "low": found.get(f"{key}_low"),
            "high": found.get(f"{key}_high"),
        }
        for key in ("auc", *METRICS)
        if key in found
    }
