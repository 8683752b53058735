"""The findings of the audits in a few lines, for the log."""

from collections.abc import Iterator, Mapping
from typing import Any

from cxr.labels import CLASSES


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line for each finding of ``audit.json``."""
    patients, copies, leak = result["patients"], result["duplicates"], result["leak"]
    twice = patients["in_two_splits"]
    yield f"{patients['patients']} patients, {'?' if twice is None else twice} in two splits"
    for kind in ("exact", "near"):
        found = copies[kind]
        yield (
            f"{kind} duplicates: {found['groups']} groups of {found['images']} images, "
            f"{found['across_splits']} groups across splits"
        )
    if leak:
        yield (
            f"an image-level split would put {leak['low']} to {leak['high']} (mean "
            f"{leak['mean']:.0f}) of {leak['test_images']} test images beside their patient"
        )
    marked, whole = result["large_markers"]["train"], result["balance"]["train"]
    shares = ", ".join(f"{marked[name]} of {whole[name]} {name}" for name in CLASSES)
    yield f"large markers in training: {shares}"
    doubted = result["suspects"]
    yield f"suspect labels: {doubted['suspects'] if doubted['assessable'] else doubted['reason']}"
    for name, found in result["shortcuts"]["sets"].items():
        told = f"not assessable: {found['reason']}"
        if found["assessable"]:
            told = ", ".join(_auc(split, found[split]) for split in ("val", "test"))
        yield f"shortcuts, {name}: {told}"


def _auc(split: str, rates: Mapping[str, float | None]) -> str:
    auc, low, high = (rates[name] for name in ("auc", "auc_low", "auc_high"))
    if auc is None or low is None or high is None:
        return f"{split} AUC undefined"
    return f"{split} AUC {auc:.3f} ({low:.3f} to {high:.3f})"
