"""Reading the files that the report is made from, and the published figures."""

from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cxr import files, params
from cxr.errors import InputError
from cxr.evaluation import metrics
from cxr.report.results import Result, published_of
from cxr.report.tables import COUNTS, METRICS
from tests.report.fabricate import REPOSITORY, Project, with_auc, write_project

PUBLISHED = REPOSITORY / "sources/published.yaml"


class TestResult:
    def test_the_time_of_an_epoch_is_the_median(self, results: list[Result]) -> None:
        assert results[0].training["seconds_per_epoch"][0] == 40.0  # with compilation
        assert results[0].seconds_per_epoch == 12.0

    def test_initial_weights(self, results: list[Result]) -> None:
        assert [(r.start, r.pretrained) for r in results] == [("imagenet", True), ("random", False)]

    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [(0.4, 0.6, True), (0.5, 0.7, True), (0.51, 0.7, False), (0.1, 0.49, False)],
    )
    def test_at_chance_where_the_interval_includes_one_half(
        self, results: list[Result], low: float, high: float, expected: bool
    ) -> None:
        assert with_auc(results[0], 0.5, low, high).at_chance is expected


class TestFiles:
    @pytest.mark.parametrize(
        "missing",
        [
            "models/vgg16_transfer/train.json",
            "models/vgg16_transfer/provenance.json",
            "models/vgg16_transfer/history.csv",
            "weights/vgg16_transfer/initial/weights.json",
            "evaluations/vgg16_transfer/metrics.json",
            "evaluations/vgg16_transfer/roc.csv",
            "evaluations/vgg16_transfer/phases.csv",
            "evaluations/vgg16_transfer/perturbed.png",
        ],
    )
    def test_a_missing_file_of_a_system_is_named(self, tmp_path: Path, missing: str) -> None:
        project = write_project(tmp_path, 12, vgg16_transfer=2.0)
        (tmp_path / missing).unlink()
        with pytest.raises(InputError, match=f"{missing} is missing: make it with `dvc repro`"):
            project.collect("vgg16_transfer")

    @pytest.mark.parametrize(
        "missing", ["splits/manifest.csv", "splits/summary.json", "raw/source.json"]
    )
    def test_a_missing_file_that_all_share_is_named(self, tmp_path: Path, missing: str) -> None:
        project = write_project(tmp_path, 12)
        (tmp_path / missing).unlink()
        with pytest.raises(InputError, match=f"{missing} is missing: make it with `dvc repro`"):
            project.context()

    def test_without_a_system_there_is_nothing_to_compare(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 12)
        with pytest.raises(InputError, match="no system has been evaluated"):
            project.collect()

    def test_a_truncated_file_is_named(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 12, vgg16_transfer=2.0)
        (tmp_path / "models/vgg16_transfer/train.json").write_text('{"seed": ')
        with pytest.raises(InputError, match=r"train\.json is not a JSON object"):
            project.collect("vgg16_transfer")

    def test_patients_that_look_like_numbers_or_missing_values_stay_text(
        self, tmp_path: Path
    ) -> None:
        project = write_project(tmp_path, 12)
        manifest = files.read_csv(tmp_path / "splits/manifest.csv")
        manifest.loc[0, "patient"], manifest.loc[1, "patient"] = "0012", "NA"
        files.write_csv(tmp_path / "splits/manifest.csv", manifest)
        assert project.context().manifest["patient"].tolist()[:2] == ["0012", "NA"]


class TestPublishedFigures:
    def test_a_missing_file_is_restored_from_git(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 12, vgg16_transfer=2.0)
        (tmp_path / "published.yaml").unlink()
        with pytest.raises(InputError, match=r"published\.yaml is missing: .*git checkout"):
            project.collect("vgg16_transfer")

    def test_a_file_that_is_not_yaml_is_named(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 12, vgg16_transfer=2.0)
        (tmp_path / "published.yaml").write_text("a: [1")
        with pytest.raises(InputError, match=r"published\.yaml is not YAML"):
            project.collect("vgg16_transfer")

    def test_an_empty_file_has_no_figures(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 12, vgg16_transfer=2.0)
        (tmp_path / "published.yaml").write_text("")
        assert project.collect("vgg16_transfer")[0].published == {}

    def test_figures_of_the_whole_entry_belong_to_the_last_phase(self, phased: Result) -> None:
        entry = {"test": {"auc": 0.9}, "phases": {"features": {"test": {"auc": 0.8}}}}
        changed = replace(phased, published=entry)
        assert published_of(changed, "features")["test"] == {"auc": 0.8}
        assert published_of(changed, "finetune") == {"test": {"auc": 0.9}, "perturbed": {}}

    def test_the_repository_file_can_be_read(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, 12, vgg16_transfer=2.0)
        (tmp_path / "published.yaml").write_text(PUBLISHED.read_text())
        (result,) = project.collect("vgg16_transfer")
        test = result.published["test"]
        assert (test["auc"], test["precision"], test["recall"]) == (0.9895, 0.9891, 0.9050)
        rates = metrics.rates(**{key: test[key] for key in COUNTS})
        assert rates["precision"] == pytest.approx(test["precision"], abs=1e-4)
        assert rates["recall"] == pytest.approx(test["recall"], abs=1e-4)
        assert "image-level" in result.published["split"]

    def test_the_repository_file_names_systems_and_phases_of_params_yaml(self) -> None:
        own = YAML(typ="safe", pure=True).load(PUBLISHED.read_text())
        systems = params.load(REPOSITORY / "params.yaml").systems
        figures = {*METRICS, *COUNTS}
        for name, entry in own.items():
            assert set(entry) <= {
                "title", "split", "train", "val", "test", "phases", "epochs", "seconds_per_epoch",
                "note",
            }  # fmt: skip
            assert set(entry.get("phases", {})) <= set(systems[name].phases)
            for found in (entry, *entry.get("phases", {}).values()):
                for split in ("train", "val", "test"):
                    assert set(found.get(split, {})) <= figures
                assert set(found.get("perturbed", {})) <= {"accuracy"}
        assert own["cnn"]["phases"]["clean"]["test"] == {"accuracy": 0.7825}
        assert own["cnn"]["phases"]["perturbed"]["perturbed"] == {"accuracy": 0.7348}
        assert own["resnet18_fc"]["test"] == {"accuracy": 0.825}


def test_systems_are_collected_in_order_and_with_their_own_colours(project: Project) -> None:
    found = project.collect("vgg16_scratch", "vgg16_transfer")
    assert [result.name for result in found] == ["vgg16_scratch", "vgg16_transfer"]
    assert found[0].colour != found[1].colour
