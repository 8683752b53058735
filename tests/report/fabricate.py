"""A fabricated project: the files that the stages before the report would have written."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import ensemble, files, params
from cxr.evaluation import evaluation
from cxr.evaluation.predictions import Predictions
from cxr.labels import CLASSES, SPLITS
from cxr.report import differences, page
from cxr.report.answer import Verdict, verdict
from cxr.report.results import Context, Result, collect, context
from cxr.report.states import EVALUATED, NOT_RUN, unevaluated
from cxr.report.tables import comparison, phase_table, text
from tests.report.evidence import ARCHIVE, png

REPOSITORY = Path(__file__).resolve().parents[2]
SPLIT = "image-level random, 550 test images"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DEVICE = "NVIDIA H100 80GB HBM3"


@dataclass(frozen=True)
class Project:
    """The folder of a fabricated project."""

    root: Path

    def collect(self, *systems: str) -> list[Result]:
        return collect(
            systems,
            self.root / "models",
            self.root / "weights",
            self.root / "evaluations",
            self.root / "published.yaml",
        )

    def context(self, protocol: str = "grouped") -> Context:
        settings = params.load(REPOSITORY / "params.yaml")
        evaluated = {path.name for path in (self.root / "evaluations").glob("*")}
        shared = context(
            settings,
            {name: EVALUATED if name in evaluated else NOT_RUN for name in settings.systems},
            self.root / "splits/manifest.csv",
            self.root / "splits/summary.json",
            self.root / "raw/source.json",
            self.root / "audits",
            self.root / "seeds.csv",
            self.root / "ensembles",
        )
        path = self.root / "reports/comparisons.csv"
        versus = files.read_csv(path) if path.is_file() else None
        return replace(shared, protocol=protocol, comparisons=versus)

    def verdict(self, *systems: str) -> Verdict:
        return verdict(self.collect(*systems), self.context())


def shown(page: str) -> str:
    """Return a page without its pictures, data and scripts."""
    whole = re.sub("<script.*?</script>", "", page, flags=re.DOTALL)
    return re.sub('src="[^"]*"', "", whole)


def data_of(page: str) -> str:
    """Return the JSON of a page's charts."""
    return page.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]


def render(results: list[Result], shared: Context) -> str:
    """Return the HTML page."""
    phases = differences.phase_results(results, shared)
    return page.page(results, shared, verdict(results, shared), phases)


def tables(results: list[Result], shared: Context) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the comparison and the table of phases."""
    rows = comparison(results, differences.yardstick(results, shared))
    return rows, phase_table(differences.phase_results(results, shared))


def terminal(results: list[Result], shared: Context) -> list[str]:
    """Return the lines of comparison.txt."""
    found = text(verdict(results, shared), *tables(results, shared), unevaluated(shared.systems))
    return found.splitlines()


def with_settings(result: Result, **changes: Any) -> Result:
    """Change settings of a system."""
    system = result.record["system"] | changes
    return replace(result, record=dict(result.record) | {"system": system})


def with_phase(result: Result, phase: str, **changes: Any) -> Result:
    """Change settings of one of a system's phases."""
    phases = result.record["system"]["phases"]
    return with_settings(result, phases=phases | {phase: phases[phase] | changes})


def with_auc(result: Result, auc: float, low: float, high: float) -> Result:
    """Change the test AUC and its interval."""
    test = dict(result.test) | {"auc": auc, "auc_low": low, "auc_high": high}
    return replace(result, metrics=dict(result.metrics) | {"test": test})


def with_leak(shared: Context) -> Context:
    """Give two training patients the names of two test patients."""
    manifest = shared.manifest.copy()
    tested = manifest.loc[manifest["split"] == "test", "patient"].unique()[:2]
    trained = manifest.loc[manifest["split"] == "train", "patient"].unique()[:2]
    names = dict(zip(trained, tested, strict=True))
    return replace(shared, manifest=manifest.assign(patient=manifest["patient"].replace(names)))


def with_unknown_patients(shared: Context, count: int) -> Context:
    """Mark the patients of the first images as unknown."""
    manifest = shared.manifest
    return replace(shared, manifest=manifest.assign(patient_known=manifest.index >= count))


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    files.write_json(path, value)


def write_project(root: Path, patients: int = 40, **skills: float) -> Project:
    """Write a project of VGG16 systems.

    Systems with ``scratch`` in their name are randomly initialised, the others pretrained; all have
    one phase, and those with ``phases`` in their name have two. Systems with ``probe`` in their
    name are linear probes. A skill is the distance of the
    classes, see :func:`write_evaluation`.
    """
    manifest = write_manifest(root, patients)
    for name, skill in skills.items():
        phases = {"features": 5, "finetune": 6} if "phases" in name else {"train": 12}
        write_model(root, name, None if "scratch" in name else "imagenet", phases)
        if "probe" in name:
            phases = {"probe": 1}
            write_probe(root, name)
        write_evaluation(root, name, manifest, skill, list(phases))
    figures = {"auc": 0.9895, "precision": 0.9891, "recall": 0.9050, "tp": 362}
    entry = {"title": "An article", "split": SPLIT, "test": figures, "epochs": 19}
    files.write_json(root / "published.yaml", {"vgg16_transfer": entry})  # JSON is YAML too
    return Project(root)


def write_manifest(root: Path, patients: int = 40) -> pd.DataFrame:
    """Write a manifest: two images a patient, a quarter NORMAL, a third of them for test."""
    rows = []
    for number in range(2 * patients):
        patient = number // 2
        normal = patient % 4 == 0
        rows.append(
            {
                "id": f"train/{'NORMAL' if normal else 'PNEUMONIA'}/{number:05d}",
                "label": 0 if normal else 1,
                "patient": f"p-{patient:04d}",
                "patient_known": True,
                "subtype": "" if normal else ("bacteria", "virus")[number % 2],
                "width": 1600 if number % 3 else 1200,
                "height": 1000 + 7 * (number % 31),
                "bytes": 90_000 + 1000 * (number % 17),
                "pixel_hash": f"{number:08x}",
                "split": ("test", "val", "train")[patient % 3],
            }
        )
    manifest = pd.DataFrame(rows)
    files.write_csv(root / "splits/manifest.csv", manifest)
    counts = {
        split: {
            name: int(((manifest["split"] == split) & (manifest["label"] == label)).sum())
            for label, name in enumerate(CLASSES)
        }
        for split in SPLITS
    }
    summary = {
        "images": counts,
        "patients": counts,
        "groups": counts,
        "total": len(manifest),
        "rejected": 3,
        "duplicates": {"groups": 30, "images": 62},
        "rgb_images": 283,
        "patients_known": len(manifest),
        "patients_in_two_splits": 0,
        "image_level_leak": 11,
    }
    source = {
        "origin": "ChestXRay2017.zip",
        "licence": "CC BY 4.0",
        "doi": "10.17632/rscbjbr9sj",
        "citation": "Kermany D, Zhang K, Goldbaum M (2018)",
        "sha256": ARCHIVE,
        "bytes": 1_235_512_464,
        "counts": {"NORMAL": 1583, "PNEUMONIA": 4273},
    }
    files.write_json(root / "splits/summary.json", summary)
    files.write_json(root / "raw/source.json", source)
    return manifest


def write_model(root: Path, name: str, weights: str | None, phases: Mapping[str, int]) -> None:
    """Write the outputs of the weights and train stages; ``phases`` gives the epochs of each.

    A pretrained system trains block 5 with batches of 62, another all layers with batches of 16;
    nothing else differs.
    """
    trainable = 27_593_153 if weights is None else 19_957_889
    parameters = {
        "total": 27_593_153, "trainable": trainable, "frozen": 27_593_153 - trainable
    }  # fmt: skip
    settings = {
        "data": "clean",
        "trainable": "all" if weights is None else {"blocks": [5]},
        "learning_rate": 0.0001,
        "plateau": None,
        "epochs": 10000,
        "steps_per_epoch": None,
        "early_stopping": {"monitor": "val_loss", "patience": 10, "min_delta": 0.0},
        "restore": "val_loss",
    }
    system = {
        "backbone": "vgg16",
        "weights": weights,
        "image_size": 224,
        "batch_size": 16 if weights is None else 62,
        "augmentation": {"rotation": 40.0, "shear": 0.0, "horizontal_flip": True},
        "class_weights": "balanced",
        "head": {
            "pool": "flatten",
            "layers": None,
            "dropout": 0.0,
            "dense": [{"units": 512, "batch_norm": False, "dropout": 0.4}],
            "output": "sigmoid",
        },
        "phases": {phase: dict(settings) for phase in phases},
    }
    ends = np.cumsum(list(phases.values())).tolist()
    records = {
        phase: {
            "trainable_layers": ["block5_conv1", "block5_conv2", "head_dense_1"],
            "parameters": parameters,
            "frozen_features": {"layer": "block4_pool", "views": 0, "policy": "float32"},
            "steps_per_epoch": 76,
            "epochs": epochs,
            "best_epoch": end,
        }
        for (phase, epochs), end in zip(phases.items(), ends, strict=True)
    }
    counts = {"NORMAL": 1283, "PNEUMONIA": 3473}
    record = {
        "phases": records,
        "system": system,
        "seed": 0,
        "images": {"train": counts, "val": {"NORMAL": 150, "PNEUMONIA": 400}},
        "class_weights": {"0": 1.853, "1": 0.685},
        "epochs": ends[-1],
        "weights_sha256": ("ab" if weights else "cd") * 32,
    }
    provenance = {
        "id": "0" * 32,
        "stage": "train",
        "item": name,
        "git": {"commit": COMMIT, "changed": []},
        "dvc": {"experiment": None, "baseline": None},
        "device": DEVICE,
        "versions": {"python": "3.11.7", "keras": "3.15.0"},
        "training": {
            "policy": "mixed_bfloat16",
            "seconds": 12.5 * ends[-1],
            "seconds_per_epoch": [40.0] + [12.0] * (ends[-1] - 1),
        },
    }
    folder = root / "models" / name
    files.write_json(folder / "train.json", record)
    files.write_json(folder / "provenance.json", provenance)
    step = np.arange(ends[-1])
    rise = 1 - np.exp(-step / 5)
    history = pd.DataFrame(
        {
            "epoch": step + 1,
            "phase": np.repeat(list(phases), list(phases.values())),
            "learning_rate": 0.0001,
            "loss": 0.6 - 0.4 * rise,
            "auc": 0.7 + 0.28 * rise,
            "val_loss": 0.55 - 0.42 * rise + 0.02 * np.sin(step),
            "val_auc": 0.75 + 0.24 * rise,
        }
    )
    files.write_csv(folder / "history.csv", history)
    digest = "ef" * 32 if weights else None
    note = {"backbone": "vgg16", "weights": weights, "sha256": digest}
    files.write_json(root / "weights" / name / "initial" / "weights.json", note)


def write_probe(root: Path, name: str) -> None:
    """Write the outputs of the train stage of a linear probe."""
    write_model(root, name, "imagenet", {"probe": 1})
    folder = root / "models" / name

    def regress(record: dict[str, Any]) -> None:
        strengths = [100.0, 10000.0]
        record["system"]["head"] |= {"pool": "average", "layers": ["block4_pool", "block5_pool"]}
        record["system"]["phases"]["probe"] = {
            "data": "clean", "trainable": "head", "logistic_regression": {"strengths": strengths}
        }  # fmt: skip
        record["class_weights"] = None
        del record["phases"]["probe"]["steps_per_epoch"]
        record["phases"]["probe"] |= {
            "trainable_layers": ["head_output"], "strength": 100.0,
            "val_losses": [[10000.0, 0.25], [100.0, 0.125]],
        }  # fmt: skip

    edit(folder / "train.json", regress)
    history = files.read_csv(folder / "history.csv")
    files.write_csv(folder / "history.csv", history.assign(learning_rate=np.nan))


def write_evaluation(
    root: Path, name: str, manifest: pd.DataFrame, skill: float, phases: Sequence[str]
) -> None:
    """Write the outputs of the evaluate stage.

    ``skill`` is the distance of the classes after the last phase; 0 is chance level. Each earlier
    phase has half the skill of the next, and perturbation takes a third of it.
    """
    draws = np.random.default_rng(sum(name.encode()))
    label, noise, other = manifest["label"] - 0.5, *draws.normal(size=(2, len(manifest)))
    test = manifest["split"] == "test"
    tables = []
    for place, phase in enumerate(reversed(phases)):
        distance = skill / 2**place * label
        every = manifest[["id", "split", "label", "patient"]].assign(
            probability=1 / (1 + np.exp(-distance - noise)),
            perturbed_probability=1 / (1 + np.exp(-2 / 3 * distance - noise - 0.1 * other)),
        )
        if place == 0:
            last = every.drop(columns="perturbed_probability")
        tables.append(every[test].drop(columns="split").assign(phase=phase))
    columns = ["phase", "id", "label", "patient", "probability", "perturbed_probability"]
    predicted = Predictions(last, pd.concat(reversed(tables))[columns])
    settings = params.load(REPOSITORY / "params.yaml").evaluate
    folder = root / "evaluations" / name
    evaluation.write(predicted, evaluation.evaluate(predicted, pd.DataFrame(), settings, 0), folder)
    (folder / "perturbed.png").write_bytes(png(60 + len(name), 40))


def write_ensemble(root: Path, name: str, members: Sequence[str], shifted_auc: float) -> None:
    """Write the outputs of the ensemble stage, for systems of :func:`write_evaluation`."""
    manifest = files.read_csv(root / "splits/manifest.csv")
    nothing = pd.DataFrame(columns=[*ensemble.SHIFTED, "probability"])
    for member in members:
        files.write_csv(root / "shifts" / member / "predictions.csv", nothing)
    folders = root / "evaluations", root / "shifts"
    read = [ensemble.read(member, *folders, manifest) for member in members]
    predicted, shifted = ensemble.mean(read)
    settings = params.load(REPOSITORY / "params.yaml").evaluate
    result = evaluation.evaluate(predicted, shifted, settings, 0)
    result |= {"members": list(members), "shift": {"curve": {"shifted_auc": shifted_auc}}}
    evaluation.write(predicted, result, root / "ensembles" / name)
