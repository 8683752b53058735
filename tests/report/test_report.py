"""The report: its numbers, its verdict in every case, and a page that stands by itself."""

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from cxr import params
from cxr.errors import InputError
from cxr.evaluation import intervals, metrics
from cxr.report import answer as answers
from cxr.report import checks, differences, figures, style
from cxr.report import page as pages
from cxr.report import tables as tabular
from cxr.report.results import Context, Result, collect, context

REPOSITORY = Path(__file__).resolve().parents[2]
SPLIT = "image-level random, 550 test images"
PNG = "data:image/png;base64,"  # a picture that is in the page itself


@dataclass(frozen=True)
class Folders:
    """A made-up project: what the stages before the report would have left."""

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
        shared = context(
            settings,
            self.root / "splits/manifest.csv",
            self.root / "splits/summary.json",
            self.root / "raw/source.json",
        )
        return replace(shared, protocol=protocol)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


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
                "width": 1600 if number % 3 else 1200,
                "height": 1000 + 7 * (number % 31),
                "bytes": 90_000 + 1000 * (number % 17),
                "pixel_hash": f"{number:08x}",
                "split": ("test", "val", "train")[patient % 3],
            }
        )
    manifest = pd.DataFrame(rows)
    (root / "splits").mkdir(parents=True, exist_ok=True)
    manifest.to_csv(root / "splits/manifest.csv", index=False)
    counts = {
        split: {
            name: int(((manifest["split"] == split) & (manifest["label"] == label)).sum())
            for label, name in enumerate(params.CLASSES)
        }
        for split in params.SPLITS
    }
    write_json(
        root / "splits/summary.json",
        {
            "images": counts,
            "patients": counts,
            "groups": counts,
            "total": len(manifest),
            "rejected": 3,
            "duplicates": {"groups": 30, "images": 62},
            "rgb_images": 283,
            "patients_on_two_sides": 0,
            "image_level_leak": 11,
        },
    )
    write_json(
        root / "raw/source.json",
        {
            "origin": "ChestXRay2017.zip",
            "licence": "CC BY 4.0",
            "doi": "10.17632/rscbjbr9sj",
            "citation": "Kermany D, Zhang K, Goldbaum M (2018)",
            "sha256": "13efc055629733dbab07877f8b3c9f81097840dbcdaa326a8542322c2281ce36",
            "bytes": 1_235_512_464,
            "counts": {"NORMAL": 1583, "PNEUMONIA": 4273},
        },
    )
    return manifest


def write_model(root: Path, name: str, weights: str | None, phases: dict[str, int]) -> None:
    """Write what the weights and train stages leave; ``phases``: the epochs of each."""
    rule: Any = "all" if weights is None else {"blocks": [5]}
    trainable = 27_593_153 if weights is None else 19_957_889
    system = {
        "backbone": "vgg16",
        "weights": weights,
        "image_size": 224,
        "batch_size": 16 if weights is None else 62,
        "augmentation": {"rotation": 40.0, "shear": 0.0, "horizontal_flip": True},
        "class_weights": "balanced",
        "head": {
            "pool": "flatten",
            "dropout": 0.0,
            "dense": [{"units": 512, "batch_norm": False, "dropout": 0.4}],
            "output": "sigmoid",
        },
        "loss": "binary_crossentropy",
        "phases": {
            phase: {
                "data": "clean",
                "trainable": rule,
                "learning_rate": 0.0001,
                "plateau": None,
                "epochs": 10000,
                "steps_per_epoch": None,
                "early_stopping": {"monitor": "val_loss", "patience": 10, "min_delta": 0.0},
                "keep": "val_loss",
            }
            for phase in phases
        },
    }
    record: dict[str, Any] = {"phases": {}}
    rows: list[dict[str, Any]] = []
    for phase, epochs in phases.items():
        for _ in range(epochs):
            step = len(rows)
            rise = 1 - np.exp(-step / 5)
            rows.append(
                {
                    "epoch": step + 1,
                    "phase": phase,
                    "learning_rate": 0.0001,
                    "loss": 0.6 - 0.4 * rise,
                    "auc": 0.7 + 0.28 * rise,
                    "val_loss": 0.55 - 0.42 * rise + 0.02 * np.sin(step),
                    "val_auc": 0.75 + 0.24 * rise,
                }
            )
        record["phases"][phase] = {
            "trainable_layers": ["block5_conv1", "block5_conv2", "head_dense_1"],
            "parameters": {
                "total": 27_593_153,
                "trainable": trainable,
                "frozen": 27_593_153 - trainable,
            },
            "steps_per_epoch": 76,
            "epochs": epochs,
            "kept_epoch": len(rows),
        }
    folder = root / "models" / name
    counts = {"NORMAL": 1283, "PNEUMONIA": 3473}
    write_json(
        folder / "train.json",
        record
        | {
            "system": system,
            "seed": 0,
            "images": {"train": counts, "val": {"NORMAL": 150, "PNEUMONIA": 400}},
            "class_weights": {"0": 1.853, "1": 0.685},
            "epochs": len(rows),
            "weights_sha256": ("ab" if weights else "cd") * 32,
        },
    )
    write_json(
        folder / "provenance.json",
        {
            "training": {
                "seconds": 12.5 * len(rows),
                "seconds_per_epoch": [40.0] + [12.0] * (len(rows) - 1),
                "policy": "mixed_bfloat16",
            },
            "device": "NVIDIA H100 80GB HBM3",
            "versions": {"python": "3.11.7", "keras": "3.15.0"},
        },
    )
    pd.DataFrame(rows).to_csv(folder / "history.csv", index=False)
    digest = "ef" * 32 if weights else None
    note = {"backbone": "vgg16", "weights": weights, "sha256": digest}
    write_json(root / "weights" / name / "weights.json", note)


def judge(rows: pd.DataFrame, column: str, patients: pd.Series) -> dict[str, Any]:
    """Compute what metrics.json says of a test set."""
    labels, scores = rows["label"].to_numpy(), rows[column].to_numpy()
    interval = intervals.auc_interval(labels, scores, patients[rows["id"]].to_numpy(), 0)
    low, high = interval or (None, None)
    return metrics.summarise(labels, scores, 0.5) | {"auc_low": low, "auc_high": high}


def write_evaluation(
    root: Path, name: str, manifest: pd.DataFrame, skill: float, phases: Sequence[str]
) -> None:
    """Write what the evaluate stage leaves.

    ``skill`` is the distance of the classes after the last phase, 0 is guessing; the phases before
    have half of that of the next, and damage takes a third.
    """
    draws = np.random.default_rng(sum(name.encode()))
    label, noise, damage = manifest["label"] - 0.5, *draws.normal(size=(2, len(manifest)))
    tested = manifest["split"] == "test"
    tables = []
    for place, phase in enumerate(reversed(phases)):
        distance = skill / 2**place * label
        every = manifest[["id", "split", "label"]].assign(
            probability=1 / (1 + np.exp(-distance - noise)),
            perturbed_probability=1 / (1 + np.exp(-2 / 3 * distance - noise - 0.1 * damage)),
        )
        if place == 0:
            predictions = every.drop(columns="perturbed_probability")
        tables.append(every[tested].drop(columns="split").assign(phase=phase))
    columns = ["phase", "id", "label", "probability", "perturbed_probability"]
    after = pd.concat(reversed(tables))[columns]
    patients = manifest.set_index("id")["patient"]
    judged = {
        phase: {
            "test": judge(rows, "probability", patients),
            "perturbed": judge(rows, "perturbed_probability", patients),
        }
        for phase, rows in after.groupby("phase", sort=False)
    }
    found: dict[str, Any] = {"threshold": 0.5}
    for split in ("train", "val"):
        rows = predictions[predictions["split"] == split]
        found[split] = metrics.summarise(
            rows["label"].to_numpy(), rows["probability"].to_numpy(), 0.5
        )
    folder = root / "evaluations" / name
    write_json(folder / "metrics.json", found | judged[phases[-1]] | {"phases": judged})
    predictions.to_csv(folder / "predictions.csv", index=False)
    after.to_csv(folder / "phases.csv", index=False)
    (folder / "perturbed.png").write_bytes(b"\x89PNG of " + name.encode())
    rows = predictions[tested]
    labels, scores = rows["label"].to_numpy(), rows["probability"].to_numpy()
    metrics.roc_points(labels, scores).to_csv(folder / "roc.csv", index=False)
    tradeoff = metrics.precision_recall_points(labels, scores)
    tradeoff.to_csv(folder / "precision_recall.csv", index=False)


def write_project(root: Path, patients: int = 40, **skills: float) -> Folders:
    """Write a whole project: systems named scratch... start from random weights."""
    manifest = write_manifest(root, patients)
    for name, skill in skills.items():
        scratch = "scratch" in name
        phases = {"train": 12} if scratch else {"features": 5, "finetune": 6}
        write_model(root, name, None if scratch else "imagenet", phases)
        write_evaluation(root, name, manifest, skill, list(phases))
    figures = {"auc": 0.9895, "precision": 0.9891, "recall": 0.9050, "tp": 362}
    entry = {"title": "An article", "split": SPLIT, "test": figures, "epochs": 19}
    (root / "published.yaml").write_text(yaml.safe_dump({"vgg16_transfer": entry}))
    return Folders(root)


def edit(path: Path, change: Any) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.fixture(scope="module", autouse=True)
def fewer_resamples() -> Iterator[None]:
    """Seconds less, and no case here is so close that 1,000 resamples would say otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", 200)
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Transfer that is better than its control; not to be changed by a test."""
    root = tmp_path_factory.mktemp("project")
    return write_project(root, 120, vgg16_transfer=4.0, vgg16_scratch=1.2)


@pytest.fixture(scope="module")
def results(project: Folders) -> list[Result]:
    return project.collect("vgg16_transfer", "vgg16_scratch")


@pytest.fixture(scope="module")
def page(project: Folders, results: list[Result]) -> str:
    return page_of(results, project.context())


def answer(results: list[Result], shared: Context) -> answers.Verdict:
    return answers.verdict(results, shared, differences.phase_results(results, shared))


def of(project: Folders, *systems: str) -> answers.Verdict:
    return answer(project.collect(*systems), project.context())


def page_of(results: list[Result], shared: Context) -> str:
    return pages.page(results, shared, differences.phase_results(results, shared))


def tables(results: list[Result], shared: Context) -> tuple[pd.DataFrame, ...]:
    phases = tabular.phase_table(differences.phase_results(results, shared))
    return tabular.comparison(results), phases


def with_phase(result: Result, phase: str, **asked: Any) -> Result:
    """Change the settings of one of a system's phases."""
    system = result.record["system"]
    phases = system["phases"] | {phase: system["phases"][phase] | asked}
    return replace(result, record=dict(result.record) | {"system": system | {"phases": phases}})


class TestComparison:
    def test_a_row_says_what_a_system_is_what_it_cost_and_what_it_reached(
        self, project: Folders, results: list[Result]
    ) -> None:
        row = tabular.comparison(results).iloc[0]
        test = json.loads((project.root / "evaluations/vgg16_transfer/metrics.json").read_text())[
            "test"
        ]
        assert (row["system"], row["backbone"]) == ("vgg16_transfer", "vgg16")
        assert row["initial_weights"] == "imagenet"
        assert (row["parameters"], row["trainable"]) == (27_593_153, 19_957_889)
        assert row["epochs"] == 11
        assert row["seconds_per_epoch"] == 12.0  # the median: 40 s with the compilation is not it
        for key in ("auc", "auc_low", "auc_high", *tabular.METRICS, *tabular.COUNTS):
            assert row[key] == test[key]
        published = row[["published_auc", "published_precision", "published_recall"]]
        assert list(published) == [0.9895, 0.9891, 0.9050]
        assert pd.isna(row["published_accuracy"])
        assert row["published_split"] == SPLIT

    def test_a_row_has_the_perturbed_test_set_too(
        self, project: Folders, results: list[Result]
    ) -> None:
        rows = tabular.comparison(results).set_index("system")
        for name in rows.index:
            found = json.loads((project.root / f"evaluations/{name}/metrics.json").read_text())
            for key in ("auc", "auc_low", "auc_high", "accuracy"):
                assert rows.loc[name, f"perturbed_{key}"] == found["perturbed"][key]
            assert rows.loc[name, "perturbed_auc"] < rows.loc[name, "auc"]  # it is not the other

    def test_an_accuracy_may_be_all_that_is_published(self, results: list[Result]) -> None:
        told = replace(results[1], published={"split": "Kaggle's", "test": {"accuracy": 0.825}})
        row = tabular.comparison([told]).iloc[0]
        assert row["published_accuracy"] == 0.825
        assert pd.isna(row["published_auc"])

    def test_random_weights_and_nothing_published_are_said_to_be_so(
        self, results: list[Result]
    ) -> None:
        row = tabular.comparison(results).iloc[1]
        assert row["initial_weights"] == "random"
        assert pd.isna(row["published_auc"])
        assert pd.isna(row["published_split"])

    def test_the_terminal_table_fits_120_columns_and_has_phases_and_published_under_ours(
        self, project: Folders, results: list[Result]
    ) -> None:
        lines = tabular.table(*tables(results, project.context())).splitlines()
        assert max(map(len, lines)) <= 120
        ours, features, published, scratch, note = lines[2:7]
        assert ours.startswith("vgg16_transfer")
        assert "20.0/27.6" in ours
        before = results[0].metrics["phases"]["features"]
        assert features.startswith("- after features")
        for found, judged in ((ours, results[0].metrics), (features, before)):
            assert found.index(f"{judged['test']['auc']:.3f}") == published.index("0.9895")
            place = lines[0].index("perturbed")
            assert found[place:].startswith(f"{judged['perturbed']['auc']:.3f}")
        assert features.split()[4] == "5"  # epochs
        assert published.startswith("- published")
        assert scratch.startswith("vgg16_scratch")  # one phase, nothing published: no other line
        assert note == "perturbed: AUC on the same films, damaged"
        assert lines[-1] == f"published, vgg16_transfer: {SPLIT}"

    def test_long_names_do_not_widen_the_table(
        self, project: Folders, results: list[Result]
    ) -> None:
        rows, phases = tables(results, project.context())
        rows["initial_weights"] = "mobilenet_v2_imagenet_no_top.weights.h5"
        names = {"vgg16_transfer": "mobilenet_v2_scratch"}
        phases["phase"] = phases["phase"].replace("features", "features_that_are_frozen")
        text = tabular.table(rows.replace(names), phases.replace(names))
        assert "mobilenet_v2_scratch" in text
        assert "- after features_th" in text
        assert max(map(len, text.splitlines())) <= 120

    def test_a_head_of_few_parameters_is_not_none(
        self, project: Folders, results: list[Result]
    ) -> None:
        rows, phases = tables(results, project.context())
        assert "<0.1/27.6" in tabular.table(rows.assign(trainable=1281), phases)


class TestPhases:
    def by_hand(self, results: list[Result], shared: Context) -> Result:
        """Two phases whose AUCs can be told: 0.5 then 1 on the test set, 1 then 0 perturbed."""
        test = shared.manifest[shared.manifest["split"] == "test"]
        label = test["label"]
        rows = [
            test.assign(phase="features", probability=0.5, perturbed_probability=label),
            test.assign(phase="finetune", probability=label, perturbed_probability=1 - label),
        ]
        shuffled = pd.concat(rows).sample(frac=1, random_state=0)
        columns = ["phase", "id", "label", "probability", "perturbed_probability"]
        return replace(results[0], phase_predictions=shuffled[columns])

    def test_a_phase_s_gain_is_its_auc_less_that_of_the_one_before(
        self, project: Folders, results: list[Result]
    ) -> None:
        shared = project.context()
        found = differences.phase_results([self.by_hand(results, shared)], shared)
        features, finetune = found["vgg16_transfer"]
        assert features.gain is None
        assert features.perturbed_gain is None
        assert finetune.gain == differences.Difference(0.5, (0.5, 0.5))
        assert finetune.perturbed_gain == differences.Difference(-1.0, (-1.0, -1.0))
        row = tabular.phase_table(found).iloc[1]
        assert tuple(row[["gain", "gain_low", "gain_high"]]) == (0.5, 0.5, 0.5)
        loss = row[["perturbed_gain", "perturbed_gain_low", "perturbed_gain_high"]]
        assert tuple(loss) == (-1, -1, -1)

    def test_a_row_says_what_a_phase_trained_and_what_it_reached(
        self, project: Folders, results: list[Result]
    ) -> None:
        _, table = tables(results, project.context())
        assert list(zip(table["system"], table["phase"], strict=True)) == [
            ("vgg16_transfer", "features"),
            ("vgg16_transfer", "finetune"),
            ("vgg16_scratch", "train"),
        ]
        row = table.iloc[1]
        assert (row["data"], row["trainable"]) == ("clean", "block 5 and head")
        assert row["trainable_parameters"] == 19_957_889
        assert (row["epochs"], row["kept_epoch"]) == (6, 11)  # the latter in the whole history
        assert row["learning_rate"] == 0.0001
        for place, phase in enumerate(("features", "finetune")):
            judged, row = results[0].metrics["phases"][phase], table.iloc[place]
            for key in ("auc", "auc_low", "auc_high", "accuracy"):
                assert row[key] == judged["test"][key]
                assert row[f"perturbed_{key}"] == judged["perturbed"][key]
        assert table["gain"].isna().tolist() == [True, False, True]
        assert table.loc[1, "gain"] == pytest.approx(table.loc[1, "auc"] - table.loc[0, "auc"])

    def test_the_interval_of_a_gain_is_the_paired_one_over_patients(
        self, project: Folders, results: list[Result]
    ) -> None:
        shared = project.context()
        (_, after), _ = differences.phase_results(results, shared).values()
        rows = results[0].phase_predictions
        one, other = (rows[rows["phase"] == name] for name in ("finetune", "features"))
        patients = shared.manifest.set_index("id")["patient"][one["id"]]
        for column, gain in (
            ("probability", after.gain),
            ("perturbed_probability", after.perturbed_gain),
        ):
            assert gain is not None
            assert gain.interval == intervals.auc_difference_interval(
                one["label"].to_numpy(), one[column].to_numpy(), other[column].to_numpy(),
                patients.to_numpy(), shared.seed,
            )  # fmt: skip

    @pytest.mark.parametrize(
        ("rule", "words"),
        [
            ("all", "all layers"),
            ("backbone", "backbone without batch norms, and head"),
            ("head", "head"),
            ({"blocks": []}, "head"),
            ({"blocks": [4, 5]}, "blocks 4, 5 and head"),
            ({"from_layer": 100}, "layers from 100 on and head"),
            ({"last": 5}, "last 5 layers"),
            ({"last": 1}, "last layer"),
        ],
    )
    def test_what_it_trains_is_said_in_words(
        self, project: Folders, results: list[Result], rule: Any, words: str
    ) -> None:
        changed = with_phase(results[1], "train", trainable=rule)
        _, table = tables([changed], project.context())
        assert list(table["trainable"]) == [words]

    def test_one_class_has_no_gain(self, project: Folders, results: list[Result]) -> None:
        shared = project.context()
        sick = results[0].phase_predictions.assign(label=1)
        _, table = tables([replace(results[0], phase_predictions=sick)], shared)
        assert table[["gain", "gain_low", "gain_high"]].isna().all(axis=None)

    def test_a_stale_phase_is_refused(self, project: Folders, results: list[Result]) -> None:
        rows = results[0].phase_predictions
        stale = replace(results[0], phase_predictions=rows[rows["phase"] != "features"])
        with pytest.raises(InputError, match=r"tested on 0 images.*80 test images.*dvc repro"):
            differences.phase_results([stale], project.context())


class TestVerdict:
    def test_better(self, project: Folders, results: list[Result]) -> None:
        verdict = of(project, "vgg16_transfer", "vgg16_scratch")
        assert verdict.outcome == "better"
        assert verdict.headline == "Yes: pretrained weights give the higher test AUC."
        assert verdict.warnings == ()
        ((figures, circumstances),) = verdict.reasons
        difference = results[0].test["auc"] - results[1].test["auc"]
        assert f"a difference of {difference:+.3f}, 95\N{NO-BREAK SPACE}% interval +0." in figures
        assert figures.endswith("all of it above 0.")
        assert circumstances == (
            "Training took 138 s (11 epochs of about 12.0 s) against 150 s (12 epochs of about "
            "12.0 s). Initial weights are not all that differs: batch size (62 against 16), what "
            "the phases train and how (block 5 and head, then block 5 and head against all layers)."
        )

    def test_the_interval_is_the_paired_one_over_patients(
        self, project: Folders, results: list[Result]
    ) -> None:
        shared = project.context()
        (pair,) = differences.pairs(results, shared)
        rows = [r.predictions[r.predictions["split"] == "test"] for r in results]
        patients = shared.manifest.set_index("id")["patient"][rows[0]["id"]]
        assert pair.difference.interval == intervals.auc_difference_interval(
            rows[0]["label"].to_numpy(), rows[0]["probability"].to_numpy(),
            rows[1]["probability"].to_numpy(), patients.to_numpy(), shared.seed,
        )  # fmt: skip

    def test_the_order_of_the_predictions_does_not_matter(
        self, project: Folders, results: list[Result]
    ) -> None:
        shuffled = replace(
            results[1], predictions=results[1].predictions.sample(frac=1, random_state=1)
        )
        shared = project.context()
        (one,), (other,) = (
            differences.pairs(results, shared),
            differences.pairs([results[0], shuffled], shared),
        )
        assert one.difference == other.difference

    def test_worse(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 90, vgg16_transfer=0.8, vgg16_scratch=4.0)
        verdict = of(project, "vgg16_transfer", "vgg16_scratch")
        assert verdict.outcome == "worse"
        assert verdict.headline.startswith("No: pretrained weights give the lower test AUC")
        assert verdict.reasons[0][0].endswith("all of it below 0.")

    def test_no_difference(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, vgg16_transfer=2.5, vgg16_scratch=2.5)
        verdict = of(project, "vgg16_transfer", "vgg16_scratch")
        assert verdict.outcome == "open"
        assert verdict.headline.startswith("Not shown: this test set cannot tell")
        assert verdict.reasons[0][0].endswith("which contains 0.")

    def test_better_than_a_control_that_has_learnt_nothing_is_no_plain_yes(
        self, tmp_path: Path
    ) -> None:
        project = write_project(tmp_path, 90, vgg16_transfer=4.0, vgg16_scratch=0.0)
        verdict = of(project, "vgg16_transfer", "vgg16_scratch")
        assert verdict.outcome == "better"
        assert verdict.headline.endswith(", but a control has learnt nothing.")
        (warning,) = verdict.warnings
        assert warning.startswith("vgg16_scratch has learnt nothing that this test set can show")
        assert "includes 0.5, which is guessing" in warning

    def test_nothing_pretrained(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, vgg16_scratch=3.0, scratch_b=3.0)
        verdict = of(project, "vgg16_scratch", "scratch_b")
        assert verdict.outcome == "none"
        assert verdict.headline == (
            "This run says nothing about transfer: no system starts from pretrained weights."
        )
        assert verdict.reasons == ()

    def test_one_pretrained_system_alone(self, project: Folders) -> None:
        verdict = of(project, "vgg16_transfer")
        assert verdict.outcome == "none"
        assert "vgg16_transfer has nothing to be compared with" in verdict.headline

    def test_another_backbone_is_no_control(self, project: Folders, results: list[Result]) -> None:
        other = replace(results[1], weights=dict(results[1].weights) | {"backbone": "resnet18"})
        assert differences.pairs([results[0], other], project.context()) == []

    def test_several_pairs_that_disagree(self, tmp_path: Path) -> None:
        project = write_project(
            tmp_path, 90, vgg16_transfer=4.0, vgg16_scratch=0.8, vgg16_scratch_b=4.0
        )
        verdict = of(project, "vgg16_transfer", "vgg16_scratch", "vgg16_scratch_b")
        assert verdict.outcome == "mixed"
        assert verdict.headline == "It depends: of 2 comparisons, better in 1, undecided in 1."

    def test_several_pairs_that_agree(self, project: Folders, results: list[Result]) -> None:
        twin = replace(results[1], name="twin")
        verdict = answer([*results, twin], project.context())
        assert verdict.headline.endswith("the higher test AUC in all 2 comparisons.")

    def test_worse_than_guessing_is_said(self, project: Folders, results: list[Result]) -> None:
        test = dict(results[0].test) | {"auc": 0.2, "auc_low": 0.1, "auc_high": 0.3}
        upside_down = replace(results[0], metrics=dict(results[0].metrics) | {"test": test})
        (warning,) = answer([upside_down], project.context()).warnings
        assert warning.startswith("vgg16_transfer does worse than guessing")

    def test_patients_on_both_sides_are_warned_of(
        self, project: Folders, results: list[Result]
    ) -> None:
        verdict = answer(results, leak(project.context("image")))
        assert verdict.headline.endswith(", but patients leak into the test set.")
        (warning,) = verdict.warnings
        assert warning.startswith("4 test images show patients who were trained or validated on")

    def test_another_device_is_named_beside_the_time(
        self, project: Folders, results: list[Result]
    ) -> None:
        elsewhere = replace(results[1], timing=dict(results[1].timing) | {"device": "a CPU"})
        verdict = answer([results[0], elsewhere], project.context())
        assert ", on NVIDIA H100 80GB HBM3 and a CPU. " in verdict.reasons[0][1]

    def test_what_a_phase_gained_is_said(self, project: Folders, results: list[Result]) -> None:
        (sentence,) = of(project, "vgg16_transfer", "vgg16_scratch").gains  # the other has one
        before, after = (results[0].metrics["phases"][n] for n in ("features", "finetune"))
        gain = after["test"]["auc"] - before["test"]["auc"]
        assert sentence.startswith(
            f"vgg16_transfer: finetune brought the test AUC from {before['test']['auc']:.3f} to "
            f"{after['test']['auc']:.3f}, a gain of {gain:+.3f}, 95\N{NO-BREAK SPACE}% interval +0."
        )
        assert sentence.endswith(
            "all of it above 0; the perturbed AUC went from "
            f"{before['perturbed']['auc']:.3f} to {after['perturbed']['auc']:.3f}."
        )

    def test_a_phase_on_damaged_films_is_judged_on_those_first(
        self, project: Folders, results: list[Result]
    ) -> None:
        damaged = with_phase(results[0], "finetune", data="perturbed")
        (sentence,) = answer([damaged], project.context()).gains
        before, after = (damaged.metrics["phases"][n] for n in ("features", "finetune"))
        assert sentence.startswith(
            "vgg16_transfer: finetune, trained on damaged films, brought the perturbed AUC from "
            f"{before['perturbed']['auc']:.3f} to {after['perturbed']['auc']:.3f}, a gain of +"
        )
        assert f"the test AUC went from {before['test']['auc']:.3f} to" in sentence

    def test_a_phase_that_did_harm_is_no_gain(
        self, project: Folders, results: list[Result]
    ) -> None:
        rows = results[0].phase_predictions
        swapped = {"features": "finetune", "finetune": "features"}
        turned = replace(results[0], phase_predictions=rows.replace({"phase": swapped}))
        (sentence,) = answer([turned], project.context()).gains
        assert "a change of \N{MINUS SIGN}0." in sentence
        assert "all of it below 0; " in sentence

    def test_which_system_loses_most_to_damaged_films_is_said(
        self, project: Folders, results: list[Result]
    ) -> None:
        def fallen(result: Result, auc: float | None) -> Result:
            perturbed = dict(result.perturbed) | {"auc": auc}
            test = dict(result.test) | {"auc": 0.9}
            figures = dict(result.metrics) | {"test": test, "perturbed": perturbed}
            return replace(result, metrics=figures)

        one, other = fallen(results[0], 0.8), fallen(results[1], 0.89)
        shared = project.context()
        assert answer([one, other], shared).robustness == (
            "Damaged films cost vgg16_scratch least: its AUC goes from 0.900 to 0.890 "
            "(\N{MINUS SIGN}0.010). They cost vgg16_transfer most: from 0.900 to 0.800 "
            "(\N{MINUS SIGN}0.100)."
        )
        assert answer([fallen(results[0], 0.95)], shared).robustness == (
            "Damaged films bring the AUC of vgg16_transfer from 0.900 to 0.950 (+0.050)."
        )
        assert answer([fallen(results[0], None)], shared).robustness == ""

    def test_what_guesses_has_nothing_to_lose(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 90, vgg16_transfer=4.0, vgg16_scratch=0.0)
        assert "vgg16_scratch" not in of(project, "vgg16_transfer", "vgg16_scratch").robustness

    def test_two_transfers_are_compared_with_their_one_control(
        self, project: Folders, results: list[Result]
    ) -> None:
        other = replace(results[0], name="vgg16_gap")
        compared = differences.pairs([results[0], results[1], other], project.context())
        found = [(pair.transfer.name, pair.control.name) for pair in compared]
        assert found == [("vgg16_transfer", "vgg16_scratch"), ("vgg16_gap", "vgg16_scratch")]

    def test_a_stale_evaluation_is_refused(self, project: Folders, results: list[Result]) -> None:
        stale = replace(results[0], predictions=results[0].predictions.iloc[1:])
        with pytest.raises(InputError, match=r"vgg16_transfer was tested on 79 images.*dvc repro"):
            answer([stale], project.context())


def leak(shared: Context) -> Context:
    """Give two training patients the names of two that are tested on."""
    manifest = shared.manifest.copy()
    tested = manifest.loc[manifest["split"] == "test", "patient"].unique()[:2]
    trained = manifest.loc[manifest["split"] == "train", "patient"].unique()[:2]
    names = dict(zip(trained, tested, strict=True))
    return replace(shared, manifest=manifest.assign(patient=manifest["patient"].replace(names)))


class TestChecks:
    def found(self, results: list[Result], shared: Context) -> dict[str, checks.Check]:
        return {check.label: check for check in checks.checks(results, shared)}

    def test_all_is_well(self, project: Folders, results: list[Result]) -> None:
        found = self.found(results, project.context())
        assert (found["Patients on both sides"].value, found["Split"].good) == ("0", True)
        assert found["Patients on both sides"].good is True
        assert found["Under an image-level split"].value == "11 of 80 test images"
        assert found["Test set"].value == "80 images of 40 patients"
        assert (found["Threshold"].value, found["Threshold"].good) == ("0.5", True)
        assert found["Files left out"].value == "3"
        assert found["Data"].value == "ChestXRay2017.zip"
        assert found["Data"].note.startswith("CC BY 4.0. doi:10.17632/rscbjbr9sj. Kermany")
        assert found["SHA-256 of the data"].value.startswith("13efc0556297")
        assert found["SHA-256 of vgg16_transfer"].value == "ab" * 32
        assert found["Trained on"].value == "NVIDIA H100 80GB HBM3, mixed_bfloat16"
        assert found["Seed"].value == "0"

    def test_leaking_patients_and_equal_pixels_are_counted_in_the_manifest(
        self, project: Folders, results: list[Result]
    ) -> None:
        shared = leak(project.context("image"))
        manifest = shared.manifest
        first = manifest.index[manifest["split"] == "train"][0]
        tested = manifest.index[manifest["split"] == "test"][0]
        manifest.loc[first, "pixel_hash"] = manifest.loc[tested, "pixel_hash"]
        found = self.found(results, shared)
        assert (found["Split"].value, found["Split"].good) == ("image", False)
        assert found["Patients on both sides"].value == "2"
        assert found["Patients on both sides"].good is False
        assert found["Patients on both sides"].note.endswith("; 4 test images")
        assert found["Equal pixels on both sides"].value == "1"
        assert found["Equal pixels on both sides"].good is False

    def test_a_source_without_a_licence_is_said_to_have_none(
        self, project: Folders, results: list[Result]
    ) -> None:
        shared = project.context()
        bare = dict(shared.source) | {"licence": None, "doi": None, "citation": None}
        found = self.found(results, replace(shared, source=bare))
        assert found["Data"].note == "licence not stated"

    def test_another_threshold_than_that_of_the_parameters_is_flagged(
        self, project: Folders, results: list[Result]
    ) -> None:
        found = self.found(results, replace(project.context(), threshold=0.4))
        assert found["Threshold"].good is False

    def test_a_fact_about_the_files_that_names_the_class_is_found_out(
        self, project: Folders, results: list[Result]
    ) -> None:
        shared = project.context()
        sick = shared.manifest["label"] == 1
        told = shared.manifest.assign(height=np.where(sick, 800, 1300), width=1000)
        told["bytes"] = told["width"] * told["height"]  # one byte a pixel: says nothing
        assert checks.shortcut(told) == ("height", 1.0)  # lower is sicker: the sign is found
        check = self.found(results, replace(shared, manifest=told))["Without a single pixel"]
        assert (check.value, check.good) == ("AUC 1.000", False)

    def test_a_test_set_of_one_class_has_no_shortcut_figure(self, project: Folders) -> None:
        manifest = project.context().manifest
        sick = manifest[(manifest["split"] != "test") | (manifest["label"] == 1)]
        assert checks.shortcut(sick)[1] is None


class Page(HTMLParser):
    """Collects what a page would fetch, its ids, and the cells of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            if name in values and not str(values[name]).startswith(("#", PNG)):
                self.fetched.append(f"{tag} {name}={values[name]}")


class TestPage:
    def test_it_answers_at_the_top(self, page: str) -> None:
        answer = page.index("Yes: pretrained weights give the higher test AUC.")
        assert answer < page.index("The systems, side by side") < page.index("Can I believe it?")
        assert page.count("not for diagnosis") == 2

    def test_it_fetches_nothing(self, page: str) -> None:
        parsed = Page(page)
        assert parsed.fetched == []
        assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in parsed.tags}
        assert "@import" not in page
        assert re.findall(r"url\((?!#)", page) == []
        assert "http" not in re.sub(PNG + '[^"]*', "", page)

    def test_its_ids_are_unique_and_its_references_lead_somewhere(self, page: str) -> None:
        ids = Page(page).ids
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)

    def test_pictures_can_be_read_out_and_headers_have_a_scope(self, page: str) -> None:
        tags = Page(page).tags
        pictures_ = [values for tag, values in tags if tag == "svg"]
        assert len(pictures_) == 5
        assert all(v.get("role") == "img" and v.get("aria-label") for v in pictures_)
        assert all("scope" in values for tag, values in tags if tag == "th")

    def test_its_colours_follow_the_reader(self, page: str) -> None:
        drawing = page[page.index("<svg") :]
        assert "prefers-color-scheme: dark" in page
        assert re.findall(r"(?:fill|stroke): #", drawing) == []
        used = set(re.findall(r"var\(--([a-z0-9-]+)\)", page))
        defined = set(re.findall(r"--([a-z0-9-]+):", page))
        assert used <= defined

    def test_published_figures_stand_under_ours_with_their_split(self, page: str) -> None:
        row = page[page.index('<tr class="published">') :]
        row = row[: row.index("</tr>")]
        assert SPLIT in row
        assert "0.9895" in row
        assert "362" in row
        assert page.count('<tr class="published">') == 1  # there is one entry

    def test_earlier_phases_stand_under_their_system_and_others_have_none(
        self, project: Folders, results: list[Result], page: str
    ) -> None:
        row = page[page.index('<tr class="earlier">') :]
        row = row[: row.index("</tr>")]
        before = results[0].metrics["phases"]["features"]
        assert ">after features</th>" in row
        for figure in (before["test"]["auc"], before["perturbed"]["auc"], before["test"]["recall"]):
            assert f">{figure:.3f}" in row
        assert page.count('<tr class="earlier">') == 1  # of the one system that has two phases
        alone = page_of(results[1:], project.context())
        assert '<tr class="earlier">' not in alone
        assert ">Gain</th>" not in alone

    def test_each_system_has_its_perturbed_auc(self, results: list[Result], page: str) -> None:
        table = page[page.index("<caption>") : page.index("</table>")]
        assert "Perturbed<br>AUC</abbr></th>" in table
        assert "the same damage\nfor each system." in table
        for result in results:
            assert f">{result.perturbed['auc']:.3f}<br>" in table
            assert f"accuracy {result.perturbed['accuracy']:.3f}</span>" in table

    def test_films_of_the_largest_size_are_in_the_page_as_they_are_and_perturbed(
        self, project: Folders, results: list[Result]
    ) -> None:
        larger = dict(results[1].record)
        larger["system"] = larger["system"] | {"image_size": 225}
        text = page_of([results[0], replace(results[1], record=larger)], project.context())
        ((_, picture),) = [tag for tag in Page(text).tags if tag[0] == "img"]
        encoded = str(picture["src"]).removeprefix(PNG)
        assert base64.b64decode(encoded) == b"\x89PNG of vgg16_scratch"
        assert "below the same ones perturbed" in str(picture["alt"])
        ranges = "rotation 30, shear 0.2, zoom 0.2, horizontal flip, channel shift 0.9, brightness"
        assert f"{ranges} 0.5 to 1.5." in text

    def test_each_phase_has_its_layers_its_kept_epoch_and_its_gain(
        self, project: Folders, results: list[Result], page: str
    ) -> None:
        details = page[page.index('id="details"') :]
        assert details.count(">features</th>") == 1
        assert "5 of 10,000" in details
        assert "block5_conv1 block5_conv2 head_dense_1" in details
        assert "flatten, dense 512 with dropout 0.4, sigmoid" in details
        assert "rotation 40, horizontal flip" in details  # a shear of 0 is none
        (_, after), _ = differences.phase_results(results, project.context()).values()
        for gain in (after.gain, after.perturbed_gain):
            assert gain is not None
            assert gain.interval is not None
            low, high = gain.interval
            assert f">{gain.value:+.3f}<br>" in details
            assert f"({low:+.3f} to {high:+.3f})" in details

    def test_all_settings_are_said_in_words(self, project: Folders, results: list[Result]) -> None:
        plateau = {"factor": 0.2, "patience": 3, "min_learning_rate": 0.0001}
        stopping = {"monitor": "val_accuracy", "patience": 1, "min_delta": 0.001}
        first = with_phase(
            results[0], "features", plateau=plateau, steps_per_epoch=100, early_stopping=stopping,
            keep="val_accuracy",
        )  # fmt: skip
        both = with_phase(first, "finetune", early_stopping=None, keep="last", data="perturbed")
        head = {
            "pool": "average", "dropout": 0.2, "output": "log_softmax",
            "dense": [
                {"units": 256, "batch_norm": True, "dropout": 0.5},
                {"units": 64, "batch_norm": True, "dropout": 0.0},
            ],
        }  # fmt: skip
        system = both.record["system"] | {"head": head, "loss": "negative_log_likelihood"}
        changed = replace(both, record=dict(both.record) | {"system": system})
        text = page_of([changed], project.context())
        for words in (
            "Adam at 0.0001, times 0.2 when the validation loss has not fallen for 3 epochs, down "
            "to 0.0001; epochs of 100 batches; stops when the validation accuracy has not got "
            "better by more than 0.001 for 1 epoch; keeps the epoch of the highest validation "
            "accuracy<",
            "Adam at 0.0001; epochs of all training images; no early stopping; keeps the last "
            "epoch<",
            "average with dropout 0.2, dense 256 with batch norm and dropout 0.5, dense 64 with "
            "batch norm, log softmax<",
            "<dd>negative log likelihood<",
            "<td>perturbed</td>",
        ):
            assert words in text

    def test_what_is_published_of_a_phase_stands_under_it(
        self, project: Folders, results: list[Result]
    ) -> None:
        phases = {
            "features": {"test": {"accuracy": 0.7825}, "epochs": 25},
            "finetune": {"perturbed": {"accuracy": 0.7348}},
        }
        told = replace(results[0], published={"split": "none", "phases": phases})
        shared = project.context()
        text = page_of([told], shared)
        first, last = re.findall('<tr class="published">.*?</tr>', text, flags=re.DOTALL)
        assert "published, after features" in first
        assert "<td>0.7825</td>" in first
        assert ">25<" in first.replace("\n", "")
        assert "accuracy 0.7348</td>" in last
        assert "0.7825" not in last
        rows, table = tables([told], shared)
        assert rows.loc[0, "published_perturbed_accuracy"] == 0.7348
        assert table.loc[0, "published_accuracy"] == 0.7825
        assert table.loc[1, "published_perturbed_accuracy"] == 0.7348
        lines = tabular.table(rows, table).splitlines()
        assert lines[-1] == (
            "published, vgg16_transfer: accuracy 0.7348 on its own damaged films, ours "
            f"{told.perturbed['accuracy']:.3f}"
        )
        (published,) = [line for line in lines if line.startswith("- published")]
        assert published.split()[-1] == "0.7825"
        assert published.index("0.7825") == lines[0].index("accuracy")

    def test_names_are_escaped(self, project: Folders, results: list[Result]) -> None:
        evil = "<script>alert('$x$')</script>"
        source = {"origin": evil, "licence": evil}
        shared = project.context()
        shared = replace(shared, source=dict(shared.source) | source)
        phases = {evil: results[1].phases["train"] | {"trainable_layers": [evil]}}
        changed = {"data": evil, "trainable": evil}
        asked = {evil: results[1].record["system"]["phases"]["train"] | changed}
        record = dict(results[1].record) | {
            "phases": phases,
            "system": results[1].record["system"] | {"phases": asked},
        }
        hostile = replace(
            results[1],
            name=evil,
            weights=dict(results[1].weights) | {"weights": evil, "backbone": evil},
            record=record,
            metrics=dict(results[1].metrics) | {"phases": {evil: results[1].metrics}},
            phase_predictions=results[1].phase_predictions.assign(phase=evil),
            history=results[1].history.assign(phase=[evil] * 6 + ["b$"] * 6),
            timing=dict(results[1].timing) | {"device": evil},
            published={"title": evil, "split": evil, "note": evil},
        )
        text = page_of([hostile], shared)
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        assert "script" not in {tag for tag, _ in Page(text).tags}

    def test_metrics_that_are_undefined_are_dashes(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, vgg16_transfer=2.0, vgg16_scratch=2.0)

        def undefine(value: dict[str, Any]) -> None:
            judged = [j for phase in value["phases"].values() for j in phase.values()]
            for found in (*(value[n] for n in (*params.SPLITS, "perturbed")), *judged):
                found |= dict.fromkeys(tabular.METRICS)
                found |= {"tn": 0, "fp": 0, "auc_low": None, "auc_high": None}

        for name in ("vgg16_transfer", "vgg16_scratch"):
            folder = tmp_path / "evaluations" / name
            edit(folder / "metrics.json", undefine)
            for file in ("predictions.csv", "phases.csv"):
                pd.read_csv(folder / file).assign(label=1).to_csv(folder / file, index=False)
            for curve in ("roc", "precision_recall"):
                pd.read_csv(folder / f"{curve}.csv").iloc[:0].to_csv(
                    folder / f"{curve}.csv", index=False
                )
        results = project.collect("vgg16_transfer", "vgg16_scratch")
        verdict = answer(results, project.context())
        assert (verdict.outcome, verdict.warnings) == ("unknown", ())
        assert verdict.gains == ("vgg16_transfer: what finetune brought has no interval to go by.",)
        text = page_of(results, project.context())
        assert "nan" not in text.lower()
        assert "None" not in text
        rows, phases = tables(results, project.context())
        assert rows[["auc", "perturbed_auc"]].isna().all(axis=None)
        assert "nan" not in tabular.table(rows, phases)


class TestWrite:
    def test_two_writes_are_equal_byte_for_byte_and_name_no_folder(
        self, project: Folders, results: list[Result], tmp_path: Path
    ) -> None:
        shared = project.context()
        rows, phases = pages.write(results, shared, tmp_path / "one")
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "one/comparison.csv"), rows)
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "one/phases.csv"), phases)
        with style.mpl.rc_context({"font.size": 20, "axes.grid": False}):  # a matplotlibrc
            pages.write(results, shared, tmp_path / "two")
        names = sorted(path.name for path in (tmp_path / "one").iterdir())
        assert names == [
            "comparison.csv", "confusion.png", "index.html", "phases.csv", "roc.png",
            "training_curves.png",
        ]  # fmt: skip
        for name in names:
            written = (tmp_path / "one" / name).read_bytes()
            assert written == (tmp_path / "two" / name).read_bytes(), name
            for word in (str(tmp_path), str(project.root), "Matplotlib"):
                assert word.encode() not in written

    def test_one_system_of_one_epoch(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, vgg16_scratch=0.0)
        write_model(tmp_path, "vgg16_scratch", None, {"train": 1})
        text = page_of(project.collect("vgg16_scratch"), project.context())
        assert "1 epoch of about" in text


class TestErrors:
    @pytest.mark.parametrize(
        "missing",
        [
            "models/vgg16_transfer/train.json",
            "models/vgg16_transfer/provenance.json",
            "models/vgg16_transfer/history.csv",
            "weights/vgg16_transfer/weights.json",
            "evaluations/vgg16_transfer/metrics.json",
            "evaluations/vgg16_transfer/roc.csv",
            "evaluations/vgg16_transfer/phases.csv",
            "evaluations/vgg16_transfer/perturbed.png",
        ],
    )
    def test_a_missing_file_is_named_with_what_makes_it(self, tmp_path: Path, missing: str) -> None:
        project = write_project(tmp_path, 12, vgg16_transfer=2.0)
        (tmp_path / missing).unlink()
        with pytest.raises(InputError, match=f"{missing} is missing: `dvc repro`"):
            project.collect("vgg16_transfer")

    @pytest.mark.parametrize("missing", ["splits/manifest.csv", "raw/source.json"])
    def test_so_is_one_that_all_systems_share(self, tmp_path: Path, missing: str) -> None:
        project = write_project(tmp_path, 12)
        (tmp_path / missing).unlink()
        with pytest.raises(InputError, match=f"{missing} is missing: `dvc repro`"):
            project.context()

    def test_published_figures_come_back_from_git(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 12, vgg16_transfer=2.0)
        (tmp_path / "published.yaml").unlink()
        with pytest.raises(InputError, match=r"published\.yaml is missing: .*git checkout"):
            project.collect("vgg16_transfer")

    def test_half_a_file_is_named(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 12, vgg16_transfer=2.0)
        (tmp_path / "models/vgg16_transfer/train.json").write_text('{"seed": ')
        with pytest.raises(InputError, match=r"train\.json is not JSON"):
            project.collect("vgg16_transfer")


class TestPublishedFigures:
    def test_the_repository_s_own_can_be_read(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 12, vgg16_transfer=2.0)
        own = (REPOSITORY / "sources/published.yaml").read_text(encoding="utf-8")
        (tmp_path / "published.yaml").write_text(own, encoding="utf-8")
        (result,) = project.collect("vgg16_transfer")
        test = result.published["test"]
        assert (test["auc"], test["precision"], test["recall"]) == (0.9895, 0.9891, 0.9050)
        # The counts are those of the rates: TP / (TP + FP) and TP / (TP + FN).
        rates = metrics.rates(**{key: test[key] for key in tabular.COUNTS})
        assert rates["precision"] == pytest.approx(test["precision"], abs=1e-4)
        assert rates["recall"] == pytest.approx(test["recall"], abs=1e-4)
        assert "image-level" in result.published["split"]

    def test_the_repository_s_own_are_of_its_systems_and_their_phases(self) -> None:
        own = yaml.safe_load((REPOSITORY / "sources/published.yaml").read_text(encoding="utf-8"))
        systems = params.load(REPOSITORY / "params.yaml").systems
        figures = {*tabular.METRICS, *tabular.COUNTS}
        for name, entry in own.items():
            assert set(entry) <= {
                "title", "split", "test", "phases", "epochs", "seconds_per_epoch", "note",
            }  # fmt: skip
            assert set(entry.get("phases", {})) <= set(systems[name].phases)
            for found in (entry, *entry.get("phases", {}).values()):
                assert set(found.get("test", {})) <= figures
                assert set(found.get("perturbed", {})) <= {"accuracy"}
        assert own["cnn"]["phases"]["clean"]["test"] == {"accuracy": 0.7825}
        assert own["cnn"]["phases"]["perturbed"]["perturbed"] == {"accuracy": 0.7348}
        assert own["resnet18_fc"]["test"] == {"accuracy": 0.825}


class TestPictures:
    def test_of_one_system_they_are_drawn_from_its_evaluation(
        self, project: Folders, results: list[Result], tmp_path: Path
    ) -> None:
        folder = tmp_path / "vgg16_transfer"
        folder.mkdir()
        for name in ("roc", "precision_recall"):
            text = (project.root / f"evaluations/vgg16_transfer/{name}.csv").read_text()
            (folder / f"{name}.csv").write_text(text)
        figures.of_system("vgg16_transfer", results[0].metrics, results[0].history, folder)
        for name in ("training_curves", "roc", "precision_recall", "confusion"):
            assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    def test_more_systems_than_colours_go_round(self) -> None:
        names = [f"system_{n}" for n in range(10)]
        found = style.colours(names)
        assert list(found) == names
        assert found["system_8"] == found["system_0"] != found["system_1"]

    def test_a_system_keeps_its_colour_when_others_come_after_it(self) -> None:
        assert style.colours("ab")["b"] == style.colours("abc")["b"]

    @pytest.mark.parametrize("colour", (*style.COLOURS, style.INK, style.MUTED))
    def test_colours_have_the_contrast_of_text_in_light_and_dark(self, colour: str) -> None:
        assert contrast(colour, style.PAPER) >= 4.5
        assert contrast(style.DARK[colour], style.DARK[style.PAPER]) >= 4.5

    def test_every_colour_has_its_dark_one_and_its_variable(self) -> None:
        assert set(style.DARK) == set(style.VARIABLES)

    def test_the_legend_has_the_auc_and_the_matrix_the_counts(self, results: list[Result]) -> None:
        tested = [
            figures.Tested(r.name, r.colour, r.test, r.perturbed, r.roc, r.precision_recall)
            for r in results
        ]
        drawing = style.svg(figures.roc(tested), "roc", "")
        assert f"vgg16_transfer: AUC {results[0].test['auc']:.3f}" in drawing
        matrix = style.svg(figures.confusion(tested), "confusion", "")
        tp, fn = (results[0].test[key] for key in ("tp", "fn"))
        assert f">{tp}<" in matrix
        assert f">{100 * tp / (tp + fn):.1f} %<" in matrix

    def test_intervals_show_the_test_set_above_and_the_perturbed_one_below(
        self, results: list[Result]
    ) -> None:
        tested = [
            figures.Tested(r.name, r.colour, r.test, r.perturbed, r.roc, r.precision_recall)
            for r in results
        ]
        (axes,) = figures.intervals(tested, {"vgg16_scratch": 0.5}).axes
        drawn = [line for line in axes.lines if len(line.get_xdata())]  # not those for the legend
        points = {tuple(line.get_xdata()): line.get_ydata()[0] for line in drawn}
        for place, result in enumerate(results):
            high = points[(result.test["auc"],)]
            low = points[(result.perturbed["auc"],)]
            assert high > -place > low
            ends = (result.perturbed["auc_low"], result.perturbed["auc_high"])
            assert points[ends] == low
            assert axes.get_xlim()[0] < ends[0]

    def test_films_are_shown_above_what_became_of_them(self) -> None:
        clean = np.arange(3 * 4 * 4, dtype="uint8").reshape(3, 4, 4)
        panels = figures.films(clean, 255 - clean).axes
        shown = [panel.images[0].get_array() for panel in panels]
        np.testing.assert_array_equal(shown, np.concatenate([clean, 255 - clean]))
        assert (panels[0].get_title("left"), panels[3].get_title("left")) == ("clean", "perturbed")


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2, 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
