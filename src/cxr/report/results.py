"""What the report is made from: the files of each system, and those that all of them share."""

import io
import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cxr import params
from cxr.errors import InputError
from cxr.report import style

GUESSING = 0.5  # the AUC of a coin


@dataclass(frozen=True)
class Result:
    """All that is known of one system once it has been trained and evaluated.

    Attributes:
        name: of the system in params.yaml.
        colour: the same one in all figures.
        weights: what weights.json says: backbone, weights (None for random ones), sha256.
        record: what train.json says.
        timing: what training's provenance.json says of precision, seconds, device and versions.
        history: a row an epoch.
        metrics: what metrics.json says: threshold, and the metrics, which may be None, of each
            split, of the perturbed test set and of each phase.
        predictions: id, split, label, probability.
        phase_predictions: phase, id, label, probability, perturbed_probability; the test set.
        films: perturbed.png, which shows films as they are and perturbed.
        roc: fpr and tpr on the test set.
        precision_recall: recall and precision on the test set.
        published: the system's entry in published.yaml; empty where it has none.
    """

    name: str
    colour: str
    weights: Mapping[str, Any]
    record: Mapping[str, Any]
    timing: Mapping[str, Any]
    history: pd.DataFrame
    metrics: Mapping[str, Any]
    predictions: pd.DataFrame
    phase_predictions: pd.DataFrame
    films: bytes
    roc: pd.DataFrame
    precision_recall: pd.DataFrame
    published: Mapping[str, Any]

    @property
    def test(self) -> Mapping[str, Any]:
        """Return the metrics on the test set, with auc_low and auc_high."""
        return self.metrics["test"]

    @property
    def perturbed(self) -> Mapping[str, Any]:
        """Return the metrics on the perturbed test set, with auc_low and auc_high."""
        return self.metrics["perturbed"]

    @property
    def phases(self) -> Mapping[str, Any]:
        """Return what was trained in each phase, in their order."""
        return self.record["phases"]

    @property
    def start(self) -> str:
        """Say what the backbone began with."""
        return self.weights["weights"] or "random"

    @property
    def seconds_per_epoch(self) -> float:
        """Return the median: the first epoch has the compilation in it."""
        return statistics.median(self.timing["seconds_per_epoch"])

    @property
    def learnt_nothing(self) -> bool:
        """Return whether the AUC's interval includes that of guessing."""
        low, high = self.test["auc_low"], self.test["auc_high"]
        return low is not None and low <= GUESSING <= high


@dataclass(frozen=True)
class Context:
    """What all systems of a run share.

    Attributes:
        protocol: ``split.protocol`` of params.yaml.
        threshold: ``evaluate.threshold`` of params.yaml.
        seed: ``seed`` of params.yaml.
        perturbation: ``perturbation`` of params.yaml, the ranges of the damage.
        manifest: a row an image, see :mod:`cxr.manifest`.
        summary: what splits/summary.json says.
        source: what raw/source.json says.
    """

    protocol: str
    threshold: float
    seed: int
    perturbation: Mapping[str, Any]
    manifest: pd.DataFrame
    summary: Mapping[str, Any]
    source: Mapping[str, Any]


def collect(
    systems: Iterable[str], models: Path, weights: Path, evaluations: Path, published: Path
) -> list[Result]:
    """Read what training and evaluation left of each system.

    Args:
        systems: names, in the order of the report.
        models: has a folder a system, from training.
        weights: has a folder a system, with its initial weights' note.
        evaluations: has a folder a system, from evaluation.
        published: published.yaml.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    figures = _published_figures(published)
    results = []
    for name, colour in style.colours(systems).items():
        model, evaluation = models / name, evaluations / name
        results.append(
            Result(
                name=name,
                colour=colour,
                weights=_json(weights / name / "weights.json"),
                record=_json(model / "train.json"),
                timing=_timing(model / "provenance.json"),
                history=_csv(model / "history.csv"),
                metrics=_json(evaluation / "metrics.json"),
                predictions=_csv(evaluation / "predictions.csv"),
                phase_predictions=_csv(evaluation / "phases.csv"),
                films=_bytes(evaluation / "perturbed.png"),
                roc=_csv(evaluation / "roc.csv"),
                precision_recall=_csv(evaluation / "precision_recall.csv"),
                published=figures.get(name, {}),
            )
        )
    return results


def context(settings: params.Params, manifest: Path, summary: Path, source: Path) -> Context:
    """Read what all systems share.

    Args:
        settings: params.yaml.
        manifest: splits/manifest.csv.
        summary: splits/summary.json.
        source: raw/source.json.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    return Context(
        protocol=settings.split.protocol,
        threshold=settings.evaluate.threshold,
        seed=settings.seed,
        perturbation=settings.perturbation.model_dump(mode="json"),
        manifest=_csv(manifest),
        summary=_json(summary),
        source=_json(source),
    )


def published_of(result: Result, phase: str) -> dict[str, Mapping[str, Any]]:
    """Return what is published of a system after a phase; ``test`` of all of it is its last's."""
    entry = result.published
    whole = {"test": entry.get("test", {})} if phase == list(result.phases)[-1] else {}
    return {"test": {}, "perturbed": {}} | whole | entry.get("phases", {}).get(phase, {})


def is_pretrained(result: Result) -> bool:
    """Return whether a system began with trained weights rather than random ones."""
    return result.weights["weights"] is not None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        message = f"{path} is missing: `dvc repro` makes it"
        raise InputError(message) from error


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8")


def _json(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        return dict(json.loads(text))
    except ValueError as error:
        message = f"{path} is not JSON ({error}): remove it, then `dvc repro` makes it anew"
        raise InputError(message) from error


def _csv(path: Path) -> pd.DataFrame:
    """Read a table; ids, patients, hashes and names stay text."""
    text = dict.fromkeys(("id", "patient", "pixel_hash", "split", "phase"), str)
    return pd.read_csv(io.StringIO(_text(path)), dtype=text)


def _timing(path: Path) -> dict[str, Any]:
    note = _json(path)
    return note["training"] | {"device": note["device"], "versions": note["versions"]}


def _published_figures(path: Path) -> dict[str, Any]:
    """Read published.yaml, which is written by hand and kept in git."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        message = f"{path} is missing: bring it back with `git checkout {path}`"
        raise InputError(message) from error
    except yaml.YAMLError as error:
        message = f"{path} is not YAML: {' '.join(str(error).split())}"
        raise InputError(message) from error
