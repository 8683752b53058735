"""The tables of the documents, as Markdown, from recorded runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from cxr import sweep
from cxr.report import markers as by_marker
from cxr.report.differences import Difference
from tools.results.records import Record

Column = Callable[[Record], str]


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure; a dash if it is undefined."""
    return "-" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def interval(figures: Mapping[str, Any], name: str = "auc") -> str:
    """Return a metric with the ends of its 95 % interval."""
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    value = number(figures[name])
    return value if low is None else f"{value} ({number(low)} to {number(high)})"


def signed(found: Difference) -> str:
    """Return a difference with the ends of its interval; a dash if it is undefined."""
    if found.value is None or found.interval is None:
        return "-"
    low, high = found.interval
    return f"{found.value:+.3f} ({low:+.3f} to {high:+.3f})"


def duration(minutes: float) -> str:
    """Return a time: seconds below two minutes."""
    return f"{minutes * 60:.0f} s" if minutes < 2 else f"{minutes:.0f} min"


COUNTS = ("tp", "tn", "fp", "fn")
LINES = {  # what the article's figures are called here
    "auc": "AUC", "precision": "precision", "recall": "sensitivity (recall)",
    "tp": "true positives", "tn": "true negatives", "fp": "false positives",
    "fn": "false negatives",
}  # fmt: skip
COLUMNS: Mapping[str, Column] = {
    "system": lambda r: f"`{r.system}`" + (f", mean of {len(r.members)}" if r.members else ""),
    "frozen blocks": lambda r: str(r.train["freeze_blocks"]),
    "size": lambda r: str(r.image_size or "-"),
    "start": lambda r: "ImageNet" if r.pretrained else "random",
    "trained parameters": lambda r: f"{r.train['parameters']['trainable']:,}",
    "epochs (restored)": lambda r: _epochs(r.train),
    "time": lambda r: duration(r.minutes),
    "validation AUC": lambda r: number(r.metrics["val"]["auc"]),
    "validation AUC under shift": lambda r: number(_shifted(r)),
    "test AUC (95 % interval)": lambda r: interval(r.metrics["test"]),
    "accuracy": lambda r: number(r.metrics["test"]["accuracy"]),
    "accuracy at 0.5": lambda r: number(r.metrics["test_at_half"]["accuracy"]),
    "AUC on perturbed images": lambda r: interval(r.metrics["perturbed"]),
    "AUC with the lungs masked": lambda r: number(r.metrics["shift"]["masked"]["centre"]["auc"]),
    "run": lambda r: f"[{r.name}]({{results}}/{r.name}/record.json)",
}


COMPARISON = (
    "system", "size", "start", "validation AUC", "validation AUC under shift",
    "test AUC (95 % interval)", "accuracy", "accuracy at 0.5", "AUC on perturbed images",
    "AUC with the lungs masked", "epochs (restored)", "time", "run",
)  # fmt: skip
SWEEP = (
    "frozen blocks", "trained parameters", "validation AUC", "test AUC (95 % interval)",
    "accuracy", "AUC on perturbed images", "epochs (restored)", "time", "run",
)  # fmt: skip


def table(records: Iterable[Record], columns: Sequence[str], results: str) -> str:
    """Return a table with one row per record.

    Args:
        records: in the order of the rows.
        columns: names of :data:`COLUMNS`.
        results: path of ``results/`` from the document, for the links.
    """
    rows = [[COLUMNS[name](record) for name in columns] for record in records]
    rows = [[cell.replace("{results}", results) for cell in row] for row in rows]
    return str(tabulate(rows, columns, tablefmt="github", disable_numparse=True))


def seeds(groups: Iterable[Sequence[Record]]) -> str:
    """Return the table of the test AUC over seeds.

    Args:
        groups: of records that differ in their seed alone; see :func:`tools.results.records.seeds`.
    """
    rows = []
    for group in groups:
        tests = pd.DataFrame([record.metrics["test"] for record in group])
        tests = tests.assign(system="", settings="", seed=[record.seed for record in group])
        (found,) = sweep.summary(tests).to_dict("records")
        one = group[0]
        rows.append(
            [
                COLUMNS["system"](one), COLUMNS["size"](one), one.protocol,
                ", ".join(f"{number(r.metrics['test']['auc'])} ({r.seed})" for r in group),
                *(number(found[name]) for name in ("mean", "range", "interval")),
                found["larger"],
            ]
        )  # fmt: skip
    headers = (
        "system", "size", "split", "test AUC (seed)", "mean", "range over seeds",
        "width of the 95 % interval over patients", "larger",
    )  # fmt: skip
    return str(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def markers(records: Iterable[Record], marked: set[str]) -> str:
    """Return the table of the test AUC with and without a large marker.

    Args:
        records: in the order of the rows.
        marked: ids of the images with one.
    """
    rows, headers = [], ["system", "size"]
    for record in records:
        both = by_marker.groups(record.predictions, marked, record.seed)
        rows.append([COLUMNS["system"](record), COLUMNS["size"](record), *map(interval, both)])
        headers[2:] = [
            f"{word} one: {group['normal']} NORMAL, {group['pneumonia']} PNEUMONIA"
            for word, group in zip(("with", "without"), both, strict=True)
        ]
    return str(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def hashes(records: Iterable[Record]) -> str:
    """Return the table of the files that the runs were made from, with their SHA-256."""
    found = {}
    for record in records:
        for file in (record.about["archive"], *record.about["weights"].values()):
            found[file["name"]] = file["sha256"]
    rows = [[f"`{name}`", f"`{sha256}`"] for name, sha256 in sorted(found.items())]
    return str(tabulate(rows, ("file", "SHA-256"), tablefmt="github", disable_numparse=True))


def beside_article(published: Mapping[str, Any], ours: Mapping[str, Record]) -> str:
    """Return an article's figures at a threshold of 0.5 beside ours, line by line.

    Args:
        published: its entry in sources/published.yaml: train, val and test.
        ours: records, by the heading of their column.
    """
    rows = []
    for split in ("train", "val", "test"):
        for name, theirs in published[split].items():
            found = [record.about["at_half"][split][name] for record in ours.values()]
            cells = [
                f"{value:,}" if name in COUNTS else number(value, 4) for value in (theirs, *found)
            ]
            rows.append([split, LINES[name], *cells])
    headers = ("split", "figure", "article", *ours)
    return str(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def _epochs(train: Mapping[str, Any]) -> str:
    """Return the epochs of each phase that has any, and which one was restored."""
    said = []
    for name, phase in train.get("phases", {}).items():
        settings = train["system"]["phases"][name]
        if "logistic_regression" in settings:
            continue
        restored = f" ({phase['best_epoch']})" if settings["restore"] else ""
        said.append(f"{phase['epochs']}{restored}")
    return ", ".join(said) or "-"


def _shifted(record: Record) -> float | None:
    found = record.metrics["shift"]["validation"].get("shifted_auc")
    return None if found is None else float(found)
