"""The tables: rows of systems and phases, and the text for the terminal."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from cxr import files
from cxr.report import states
from cxr.report.answer import verdict
from cxr.report.results import Context, Result
from cxr.report.tables import COUNTS, METRICS, comparison, text
from tests.report.fabricate import (
    SPLIT,
    Project,
    tables,
    terminal,
    with_phase,
    with_settings,
    with_unknown_patients,
)


class TestComparison:
    def test_a_row_has_the_network_and_the_test_metrics(
        self, project: Project, results: list[Result]
    ) -> None:
        row = comparison(results, None).iloc[0]
        test = files.read_json(project.root / "evaluations/vgg16_transfer/metrics.json")["test"]
        assert (row["system"], row["backbone"]) == ("vgg16_transfer", "vgg16")
        assert row["initial_weights"] == "imagenet"
        assert (row["parameters"], row["trainable"]) == (27_593_153, 19_957_889)
        assert row["epochs"] == 12
        for key in ("auc", "auc_low", "auc_high", *METRICS, *COUNTS):
            assert row[key] == test[key]
        published = row[["published_auc", "published_precision", "published_recall"]]
        assert list(published) == [0.9895, 0.9891, 0.9050]
        assert pd.isna(row["published_accuracy"])
        assert row["published_split"] == SPLIT

    def test_durations_are_not_in_it(self, results: list[Result], shared: Context) -> None:
        slower = [
            replace(r, provenance={**r.provenance, "training": {"seconds_per_epoch": [99.0]}})
            for r in results
        ]
        assert terminal(slower, shared) == terminal(results, shared)
        pd.testing.assert_frame_equal(comparison(slower, None), comparison(results, None))

    def test_a_row_has_the_perturbed_metrics(self, project: Project, results: list[Result]) -> None:
        rows = comparison(results, None).set_index("system")
        for name in rows.index:
            found = files.read_json(project.root / f"evaluations/{name}/metrics.json")
            for key in ("auc", "auc_low", "auc_high", "accuracy"):
                assert rows.loc[name, f"perturbed_{key}"] == found["perturbed"][key]
            assert rows.loc[name, "perturbed_auc"] < rows.loc[name, "auc"]  # not the same column

    def test_a_published_accuracy_alone(self, results: list[Result]) -> None:
        changed = replace(results[1], published={"split": "Kaggle's", "test": {"accuracy": 0.825}})
        row = comparison([changed], None).iloc[0]
        assert row["published_accuracy"] == 0.825
        assert pd.isna(row["published_auc"])

    def test_random_weights_and_nothing_published(self, results: list[Result]) -> None:
        row = comparison(results, None).iloc[1]
        assert row["initial_weights"] == "random"
        assert pd.isna(row["published_auc"])
        assert pd.isna(row["published_split"])


class TestPhaseTable:
    def test_a_row_has_the_layers_trained_and_the_metrics(
        self, phased: Result, results: list[Result], shared: Context
    ) -> None:
        _, table = tables([phased, results[1]], shared)
        assert list(zip(table["system"], table["phase"], strict=True)) == [
            ("vgg16_gap_phases", "features"),
            ("vgg16_gap_phases", "finetune"),
            ("vgg16_scratch", "train"),
        ]
        row = table.iloc[1]
        assert (row["data"], row["trainable"]) == ("clean", "block 5 and head")
        assert row["trainable_parameters"] == 19_957_889
        assert (row["epochs"], row["best_epoch"]) == (6, 11)  # the latter in the whole history
        assert row["learning_rate"] == 0.0001
        for place, phase in enumerate(("features", "finetune")):
            found, row = phased.metrics["phases"][phase], table.iloc[place]
            for key in ("auc", "auc_low", "auc_high", "accuracy"):
                assert row[key] == found["test"][key]
                assert row[f"perturbed_{key}"] == found["perturbed"][key]
        assert table["gain"].isna().tolist() == [True, False, True]
        assert table.loc[1, "gain"] == pytest.approx(table.loc[1, "auc"] - table.loc[0, "auc"])
        assert table.loc[1, "gain_low"] <= table.loc[1, "gain"] <= table.loc[1, "gain_high"]

    def test_a_gain_of_zero_is_not_missing(self, phased: Result, shared: Context) -> None:
        rows = phased.phase_predictions
        last = rows[rows["phase"] == "finetune"]
        same = pd.concat([last.assign(phase="features"), last])
        _, table = tables([replace(phased, phase_predictions=same)], shared)
        assert table.loc[1, ["gain", "gain_low", "gain_high"]].tolist() == [0, 0, 0]

    def test_one_class_has_no_gain(self, phased: Result, shared: Context) -> None:
        sick = phased.phase_predictions.assign(label=1)
        _, table = tables([replace(phased, phase_predictions=sick)], shared)
        assert table[["gain", "gain_low", "gain_high"]].isna().all(axis=None)


class TestText:
    def test_the_answer_comes_first(self, results: list[Result], shared: Context) -> None:
        lines = terminal(results, shared)
        assert lines[0] == "Yes: pretrained weights give the higher test AUC."
        assert lines[1].startswith("  vgg16_transfer against vgg16_scratch: +0.")
        assert lines[1].endswith(" AUC, pretrained better")
        assert lines[2] == ""

    def test_obstacles_and_cautions_follow(self, results: list[Result], shared: Context) -> None:
        other = [results[0], with_settings(results[1], class_weights=None)]
        found = " ".join(terminal(other, with_unknown_patients(shared, 3)))
        assert "differ in class weights (balanced against none)" in " ".join(found.split())
        assert "Caution: 3 of 240 images have no known patient" in found
        assert "pretrained better (not a controlled comparison)" in found

    def test_earlier_phases_and_published_figures_stand_under_their_system(
        self, phased: Result, results: list[Result], shared: Context
    ) -> None:
        changed = replace(phased, published=results[0].published)
        lines = terminal([changed, results[1]], shared)
        start = next(n for n, line in enumerate(lines) if line.startswith("system"))
        header, ours, features, published, scratch = [lines[start], *lines[start + 2 : start + 6]]
        assert ours.startswith("vgg16_gap_phases")
        assert "20.0/27.6" in ours
        assert features.startswith("- after features")
        before = phased.metrics["phases"]["features"]
        for line, found in ((ours, phased.metrics), (features, before)):
            assert line.index(f"{found['test']['auc']:.3f}") == published.index("0.9895")
            place = header.index("perturbed")
            assert line[place:].startswith(f"{found['perturbed']['auc']:.3f}")
        assert features.split()[4] == "5"  # epochs
        assert published.startswith("- published")
        assert scratch.startswith("vgg16_scratch")  # one phase and nothing published: one line
        assert lines[-1] == f"published, vgg16_gap_phases: {SPLIT}"

    def test_it_fits_120_columns_whatever_the_names(
        self, phased: Result, results: list[Result], shared: Context
    ) -> None:
        long = "a_system_with_quite_a_long_name_for_a_folder"
        changed = replace(
            phased, name=long, published={"split": "words " * 40, "test": {"auc": 0.98765}}
        )
        rows, phases = tables([changed, results[1]], shared)
        rows["initial_weights"] = "mobilenet_v2_imagenet_no_top.weights.h5"
        phases["phase"] = phases["phase"].replace("features", "features_that_are_frozen")
        found = text(verdict([changed, results[1]], shared), rows, phases, {})
        assert "- after features_th" in found
        assert max(map(len, found.splitlines())) <= 120

    def test_systems_without_an_evaluation_come_last(
        self, results: list[Result], shared: Context
    ) -> None:
        systems = {**shared.systems, "cnn": states.NO_MODEL, "probe": states.NOT_RUN}
        lines = terminal(results, replace(shared, systems=systems))
        row = next(place for place, line in enumerate(lines) if line.startswith("cnn"))
        assert lines[row].split() == ["cnn", *["\N{EN DASH}"] * 10]
        assert lines[row - 1].startswith("vgg16_scratch")
        assert lines[row + 1] == ""
        assert f"cnn is not evaluated: {states.NO_MODEL}" in lines
        assert not any("probe" in line for line in lines)

    def test_a_head_of_few_parameters_does_not_read_as_none(
        self, results: list[Result], shared: Context
    ) -> None:
        rows, phases = tables(results, shared)
        found = text(verdict(results, shared), rows.assign(trainable=1281), phases, {})
        assert "<0.1/27.6" in found

    def test_published_accuracy_on_perturbed_images(self, phased: Result, shared: Context) -> None:
        entry: dict[str, Any] = {
            "features": {"test": {"accuracy": 0.7825}},
            "finetune": {"perturbed": {"accuracy": 0.7348}},
        }
        changed = replace(phased, published={"split": "none", "phases": entry})
        lines = terminal([changed], shared)
        assert lines[-1] == (
            "published, vgg16_gap_phases: accuracy 0.7348 on its own perturbed images, ours "
            f"{changed.perturbed['accuracy']:.3f}"
        )
        (published,) = [line for line in lines if line.startswith("- published")]
        header = next(line for line in lines if line.startswith("system"))
        assert published.index("0.7825") == header.index("at 0.5")


def test_the_rule_of_a_phase_is_in_words(results: list[Result], shared: Context) -> None:
    _, table = tables([with_phase(results[1], "train", trainable={"last": 5})], shared)
    assert list(table["trainable"]) == ["last 5 layers"]
