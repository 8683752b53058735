"""Fabricated files that not every run has: calibration, decision, shift, gallery, audits, seeds."""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr import files, params, sweep

ARCHIVE = "13efc055629733dbab07877f8b3c9f81097840dbcdaa326a8542322c2281ce36"
STRENGTHS = {"rotation": (10, 20, 30), "brightness": (0.5, 1.5), "jpeg": (50, 20, 5)}
FACTS = {"centre_share": 0.625, "randomised_correlation": 0.125}
RATES = {"auc": 0.9, "auc_low": 0.85, "auc_high": 0.95}


def png(width: int, height: int, mode: str = "L") -> bytes:
    """Return a picture with a gradient."""
    grey = np.linspace(0, 255, width * height).reshape(height, width).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(grey).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def write_evidence(root: Path, names: Sequence[str], settings: params.Params) -> None:
    """Add to a project of :func:`tests.report.fabricate.write_project` what it does not have."""
    for place, name in enumerate(names):
        write_measures(root / "evaluations" / name, 0.95 - 0.05 * place)
    write_audits(root / "audits")
    manifest = files.read_csv(root / "splits/manifest.csv")
    test = manifest[manifest["split"] == "test"]
    marked = pd.concat([test[test["label"] == label].head(2 + label) for label in (0, 1)])
    files.write_csv(root / "audits/markers.csv", marked[["id", "split", "label"]])
    pairs = itertools.combinations(names, 2)
    outcomes = itertools.cycle(["better", "open", "worse"])
    rows = [
        [one, other, metric, 0.05 if outcome == "better" else -0.05, 0.0, 0.1, 0.0004, p, outcome]
        for (one, other), outcome in zip(pairs, outcomes, strict=False)
        for metric, p in (("auc", 0.0009), ("sensitivity", 0.0123), ("net_benefit", 0.04))
    ]
    columns = ["one", "other", "metric", "difference", "low", "high", "p", "p_holm", "outcome"]
    files.write_csv(root / "reports/comparisons.csv", pd.DataFrame(rows, columns=columns))
    write_seeds(root / "seeds.csv", settings)


def write_measures(folder: Path, auc: float) -> None:
    """Write what a full evaluation adds for one system whose AUC under no shift is given."""
    edges = np.linspace(0, 1, 11)
    middles = (edges[1:] + edges[:-1]) / 2
    reliability = pd.concat(
        pd.DataFrame(
            {
                "method": method, "low": edges[:-1], "high": edges[1:],
                "mean_probability": middles, "frequency": middles**power,
                "count": np.arange(10),
            }
        )
        for method, power in (("none", 2.0), ("temperature", 1.3), ("platt", 1.0))
    )  # fmt: skip
    cuts = np.arange(1, 100) / 100
    decision = pd.DataFrame(
        {
            "threshold": cuts,
            "net_benefit": 0.7 * auc - 0.2 * (1 - auc) * cuts / (1 - cuts),
            "treat_all": 0.75 - 0.25 * cuts / (1 - cuts),
            "treat_none": 0.0,
        }
    )
    files.write_csv(folder / "reliability.csv", reliability)
    files.write_csv(folder / "decision.csv", decision)
    files.write_csv(folder / "shift.csv", shifts(auc))
    cells = ["TP", "TN", "FP"]
    gallery = pd.DataFrame(
        {"id": list("abc"), "label": [1, 0, 0], "cell": cells, "probability": 0.5}
    )
    files.write_csv(folder / "gallery.csv", gallery)
    (folder / "gallery.png").write_bytes(png(1400, 300, "RGB"))
    metrics = files.read_json(folder / "metrics.json")
    external = RATES | {"accuracy": 0.8, "brier": 0.1, "ece": 0.05, "n": 624, "known": 3}
    metrics["shift"] = {
        "validation": {"auc": auc, "shifted_auc": auc - 0.06, "kinds": {}},
        "curve": {"auc": auc, "shifted_auc": auc - 0.08, "kinds": {}},
        "masked": {"centre": RATES, "outside": RATES},
        "external": {"clinic": external},
    }
    metrics["explanations"] = FACTS
    test: dict[str, Any] = metrics["test"]
    known = ("recall", "specificity", "accuracy", "brier", "net_benefit")
    more: dict[str, Any] = {"ppv": 0.91, "npv": 0.82, "brier": 0.1, "net_benefit": 0.5, "mcc": 0.7}
    metrics["test"] = more | test
    for key in (*known, "ppv", "npv", "mcc"):
        value = metrics["test"][key]
        ends = {f"{key}_low": max(0, value - 0.05), f"{key}_high": min(1, value + 0.05)}
        metrics["test"] |= ends
    good = {"slope": 1.0, "intercept": 0.0, "brier": 0.1, "log_loss": 0.3, "ece": 0.01}
    metrics["calibration"] = {"none": good | {"slope": 0.625}, "temperature": good, "platt": good}
    metrics["conformal"] = {
        "alpha": 0.05, "coverage": 0.9375, "coverage_low": 0.9, "coverage_high": 0.97,
        "undecided": 0.125, "accuracy_of_decided": 0.96,
    }  # fmt: skip
    metrics |= {"threshold_rule": 0.5, "prevalence": 0.3, "test_at_half": dict(test)}
    files.write_json(folder / "metrics.json", metrics)


def shifts(auc: float) -> pd.DataFrame:
    """Return a table shift.csv: an AUC that falls with each further strength."""
    rows = [["curve", "none", 0.0, auc]]
    rows += [
        ["curve", kind, strength, auc - 0.05 * (place + 1)]
        for kind, values in STRENGTHS.items()
        for place, strength in enumerate(values)
    ]
    rows.append(["masked", "centre", 0.8, 0.6])
    table = pd.DataFrame(rows, columns=["set", "kind", "strength", "auc"])
    return table.assign(
        n=80, auc_low=table["auc"] - 0.05, auc_high=table["auc"] + 0.02, brier=0.1, ece=0.05,
        accuracy=table["auc"] - 0.1,
    )  # fmt: skip


def write_audits(folder: Path) -> None:
    """Write the audits of an archive whose images all have one size."""
    told = {"assessable": True, "reason": None, "val": RATES, "test": RATES}
    silent = {"assessable": False, "reason": "all images have one size", "val": None, "test": None}
    copies = {"groups": 30, "images": 62, "across_splits": 0, "across_patients": 1,
              "across_labels": 0}  # fmt: skip
    audit = {
        "patients": {"patients": 40, "images_without": 0, "in_two_splits": 0, "images": 0},
        "duplicates": {
            "exact": copies, "near": copies | {"groups": 2}, "in_test_and_rest": 0,
            "limits": {"distance": 10, "correlation": 0.975},
        },
        "balance": {"train": {"NORMAL": 28, "PNEUMONIA": 84}},
        "large_markers": {"train": {"NORMAL": 2, "PNEUMONIA": 12}},
        "leak": {"test_images": 26, "seeds": 20, "mean": 11.5, "low": 9, "high": 14},
        "suspects": {
            "assessable": True, "reason": None, "images": 54, "auc": 0.99, "suspects": 4,
            "confident": 0.9,
        },
        "shortcuts": {
            "alarm": True,
            "sets": {"file": silent, "picture": told, "all": told},
            "groups": {"size": silent, "border": told, "geometry": told},
        },
    }  # fmt: skip
    files.write_json(folder / "audit.json", audit)
    suspects = pd.DataFrame({"id": list("abcd"), "probability": 0.95})
    files.write_csv(folder / "suspects.csv", suspects)
    (folder / "suspects.png").write_bytes(png(600, 400))


def write_seeds(path: Path, settings: params.Params) -> None:
    """Write a sweep of three seeds over the first system of params.yaml."""
    name = next(iter(settings.systems))
    rows = [
        [name, seed, auc, auc - 0.02, auc + 0.01, 0.9, 0.9, 0.9,
         sweep.settings_hash(settings, name, ARCHIVE), "abc"]
        for seed, auc in enumerate((0.95, 0.96, 0.97))
    ]  # fmt: skip
    files.write_csv(path, pd.DataFrame(rows, columns=list(sweep.COLUMNS)))
