"""Read the files behind the report: those of each system, and those that all systems share."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cxr import files, params, sweep
from cxr.errors import InputError
from cxr.evaluation import metrics
from cxr.report import style

CHANCE = 0.5  # the AUC of a model that has learned nothing


@dataclass(frozen=True)
class Result:
    """One system, trained and evaluated.

    Attributes:
        name: of the system in params.yaml.
        colour: the system's colour in every figure.
        weights: weights.json: backbone, weights (None for random weights), sha256.
        record: train.json.
        provenance: provenance.json of the training.
        history: one row per epoch.
        metrics: metrics.json: the threshold and its rule, and the metrics of each split, of the
            perturbed test set and of each phase. An undefined metric is None.
        predictions: id, split, label, probability.
        phase_predictions: phase, id, label, probability, perturbed_probability of the test set.
        samples: perturbed.png, clean and perturbed test images.
        roc: fpr and tpr on the test set.
        precision_recall: recall and precision on the test set.
        published: the system's entry in published.yaml; empty if it has none.
        reliability: method, low, high, mean_probability, frequency, count; None where the
            evaluation has none, as for the three that follow.
        decision: threshold, net_benefit, treat_all, treat_none.
        shift: set, kind, strength, n, auc, auc_low, auc_high, brier, ece, accuracy.
        gallery: id, label, cell, probability of the images in the picture that follows.
        gallery_picture: a PNG.
    """

    name: str
    colour: str
    weights: Mapping[str, Any]
    record: Mapping[str, Any]
    provenance: Mapping[str, Any]
    history: pd.DataFrame
    metrics: Mapping[str, Any]
    predictions: pd.DataFrame
    phase_predictions: pd.DataFrame
    samples: bytes
    roc: pd.DataFrame
    precision_recall: pd.DataFrame
    published: Mapping[str, Any]
    reliability: pd.DataFrame | None = None
    decision: pd.DataFrame | None = None
    shift: pd.DataFrame | None = None
    gallery: pd.DataFrame | None = None
    gallery_picture: bytes | None = None

    @property
    def test(self) -> Mapping[str, Any]:
        """The metrics on the test set, with auc_low and auc_high."""
        return self.metrics["test"]

    @property
    def perturbed(self) -> Mapping[str, Any]:
        """The metrics on the perturbed test set, with auc_low and auc_high."""
        return self.metrics["perturbed"]

    @property
    def phases(self) -> Mapping[str, Any]:
        """The record of each phase, in order."""
        return self.record["phases"]

    @property
    def pretrained(self) -> bool:
        """Whether the backbone started from trained weights."""
        return self.weights["weights"] is not None

    @property
    def is_probe(self) -> bool:
        """Whether it is a linear probe: logistic regressions are all of its phases."""
        phases = self.record["system"]["phases"].values()
        return all("logistic_regression" in phase for phase in phases)

    @property
    def start(self) -> str:
        """The initial weights of the backbone: imagenet, a file, or random."""
        return self.weights["weights"] or "random"

    @property
    def training(self) -> Mapping[str, Any]:
        """The training's policy, seconds and seconds_per_epoch."""
        return self.provenance["training"]

    @property
    def seconds_per_epoch(self) -> float:
        """The median time of an epoch; a mean would include compilation in the first one."""
        return statistics.median(self.training["seconds_per_epoch"])

    @property
    def at_chance(self) -> bool:
        """Whether the interval of the test AUC includes chance level."""
        low, high = self.test["auc_low"], self.test["auc_high"]
        return low is not None and low <= CHANCE <= high


@dataclass(frozen=True)
class Ensemble:
    """The mean of several systems, evaluated.

    Attributes:
        name: of the ensemble in params.yaml.
        metrics: metrics.json, as of a system; and ``members``, the names of its systems.
        predictions: id, split, label, probability.
    """

    name: str
    metrics: Mapping[str, Any]
    predictions: pd.DataFrame

    @property
    def members(self) -> Sequence[str]:
        """The names of its systems."""
        return self.metrics["members"]


@dataclass(frozen=True)
class Context:
    """The settings and files that all systems of a run share.

    Attributes:
        systems: how far each system of params.yaml got, from :func:`cxr.report.states.states`.
        protocol: ``split.protocol`` of params.yaml.
        threshold: ``evaluate.threshold`` of params.yaml: a number or a rule.
        stakes: ``evaluate.prevalence`` and ``evaluate.false_alarms_per_miss`` of params.yaml.
        seed: ``seed`` of params.yaml.
        perturbation: ``perturbation`` of params.yaml.
        manifest: one row per image, see :mod:`cxr.data.manifest`.
        summary: splits/summary.json.
        source: raw/source.json.
        audit: audits/audit.json; None without an audit, as for the four that follow.
        shortcuts: audits/shortcuts.csv.
        suspects: audits/suspects.csv.
        suspects_picture: audits/suspects.png.
        markers: audits/markers.csv.
        comparisons: from :func:`cxr.report.comparisons.table`; None until it is computed.
        subtypes: from :func:`cxr.report.subtypes.table`; None until it is computed.
        marked: from :func:`cxr.report.markers.table`; None until it is computed.
        seeds: from :func:`cxr.sweep.summary`; no rows if no system has two seeds.
        ensembles: those of params.yaml that have been evaluated.
    """

    systems: Mapping[str, str]
    protocol: str
    threshold: float | str | params.Sensitivity
    stakes: metrics.Stakes
    seed: int
    perturbation: Mapping[str, Any]
    manifest: pd.DataFrame
    summary: Mapping[str, Any]
    source: Mapping[str, Any]
    audit: Mapping[str, Any] | None = None
    shortcuts: pd.DataFrame | None = None
    suspects: pd.DataFrame | None = None
    suspects_picture: bytes | None = None
    markers: pd.DataFrame | None = None
    comparisons: pd.DataFrame | None = None
    subtypes: pd.DataFrame | None = None
    marked: pd.DataFrame | None = None
    seeds: pd.DataFrame = field(default_factory=pd.DataFrame)
    ensembles: Sequence[Ensemble] = ()


def collect(
    systems: Iterable[str], models: Path, weights: Path, evaluations: Path, published: Path
) -> list[Result]:
    """Read the files of each system.

    Args:
        systems: names, in the order of the report.
        models: folder of the trained models.
        weights: folder of the initial weights.
        evaluations: folder of the evaluations.
        published: path of published.yaml.

    Raises:
        InputError: there is no system, or a file is missing or cannot be read.
    """
    figures = _published_figures(published)
    results = []
    for name, colour in style.colours(systems).items():
        model, evaluation = models / name, evaluations / name
        results.append(
            Result(
                name=name,
                colour=colour,
                weights=files.read_json(weights / name / "initial" / "weights.json"),
                record=files.read_json(model / "train.json"),
                provenance=files.read_json(model / "provenance.json"),
                history=files.read_csv(model / "history.csv"),
                metrics=files.read_json(evaluation / "metrics.json"),
                predictions=files.read_csv(evaluation / "predictions.csv"),
                phase_predictions=files.read_csv(evaluation / "phases.csv"),
                samples=files.read_bytes(evaluation / "perturbed.png"),
                roc=files.read_csv(evaluation / "roc.csv"),
                precision_recall=files.read_csv(evaluation / "precision_recall.csv"),
                published=figures.get(name, {}),
                reliability=_table(evaluation / "reliability.csv"),
                decision=_table(evaluation / "decision.csv"),
                shift=_table(evaluation / "shift.csv"),
                gallery=_table(evaluation / "gallery.csv"),
                gallery_picture=_picture(evaluation / "gallery.png"),
            )
        )
    if not results:
        message = (
            "no system has been evaluated, so there is nothing to compare: run `dvc repro`, which "
            "says what fails"
        )
        raise InputError(message)
    return results


def context(
    settings: params.Params,
    systems: Mapping[str, str],
    manifest: Path,
    summary: Path,
    source: Path,
    audits: Path,
    seeds: Path,
    ensembles: Path,
) -> Context:
    """Read the files that all systems share.

    Args:
        settings: params.yaml.
        systems: from :func:`cxr.report.states.states`.
        manifest: splits/manifest.csv.
        summary: splits/summary.json.
        source: raw/source.json.
        audits: folder of the audits; it may lack any of them.
        seeds: sources/seeds.csv, which may be missing.
        ensembles: folder of the ensembles; it may lack any of them.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    origin = files.read_json(source)
    return Context(
        systems=systems,
        protocol=settings.split.protocol,
        threshold=settings.evaluate.threshold,
        stakes=metrics.Stakes(
            settings.evaluate.prevalence, settings.evaluate.false_alarms_per_miss
        ),
        seed=settings.seed,
        perturbation=settings.perturbation.model_dump(mode="json"),
        manifest=files.read_csv(manifest),
        summary=files.read_json(summary),
        source=origin,
        audit=files.read_json(audits / "audit.json") if (audits / "audit.json").is_file() else None,
        shortcuts=_table(audits / "shortcuts.csv"),
        suspects=_table(audits / "suspects.csv"),
        suspects_picture=_picture(audits / "suspects.png"),
        markers=_table(audits / "markers.csv"),
        seeds=sweep.summary(sweep.current(sweep.read(seeds), settings, origin["sha256"]))
        if seeds.is_file()
        else pd.DataFrame(),
        ensembles=[
            Ensemble(
                name,
                files.read_json(ensembles / name / "metrics.json"),
                files.read_csv(ensembles / name / "predictions.csv"),
            )
            for name in settings.ensembles
            if (ensembles / name / "metrics.json").is_file()
        ],
    )


def published_of(result: Result, phase: str) -> dict[str, Mapping[str, Any]]:
    """Return the figures published for a phase of a system: ``test`` and ``perturbed``.

    The entry's own ``test`` figures belong to the last phase.
    """
    entry = result.published
    final = {"test": entry.get("test", {})} if phase == list(result.phases)[-1] else {}
    return {"test": {}, "perturbed": {}} | final | entry.get("phases", {}).get(phase, {})


def _table(path: Path) -> pd.DataFrame | None:
    """Read a table that not every run has."""
    return files.read_csv(path) if path.is_file() else None


def _picture(path: Path) -> bytes | None:
    """Read a picture that not every run has."""
    return files.read_bytes(path) if path.is_file() else None


def _published_figures(path: Path) -> dict[str, Any]:
    """Read published.yaml."""
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        message = f"{path} is missing: restore it with `git checkout {path}`"
        raise InputError(message) from error
    except YAMLError as error:
        message = f"{path} is not YAML: {' '.join(str(error).split())}"
        raise InputError(message) from error
