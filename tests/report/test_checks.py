"""The checks: a tick for proven facts alone, a mark where there is something to worry about."""

from dataclasses import replace
from typing import Any

import pytest

from cxr import params
from cxr.report import checks
from cxr.report.results import Context, Result
from tests.report.fabricate import COMMIT, DEVICE, Project, with_leak, with_unknown_patients

PATIENTS = "Patients in the test set and in the rest"
PIXELS = "Images with equal pixels in the test set and in the rest"


def check(results: list[Result], shared: Context) -> dict[str, checks.Check]:
    return {found.label: found for found in checks.checks(results, shared)}


def origin(results: list[Result], shared: Context) -> dict[str, checks.Check]:
    return {found.label: found for found in checks.origins(results, shared)}


def with_provenance(result: Result, **changes: Any) -> Result:
    return replace(result, provenance=dict(result.provenance) | changes)


def test_only_facts_that_the_files_prove_get_a_tick(results: list[Result], shared: Context) -> None:
    found = check(results, shared)
    ticks = [label for label, line in found.items() if line.good]
    assert ticks == [PATIENTS, PIXELS, "Threshold"]
    assert [label for label, line in found.items() if line.good is False] == []


class TestSplit:
    def test_a_grouped_split(self, results: list[Result], shared: Context) -> None:
        found = check(results, shared)
        assert (found["Split"].value, found["Split"].good) == ("grouped", None)
        assert found["Test set"].value == "80 images of 40 patients"
        assert found["Rejected files"].value == "3"
        assert found["Seed"].value == "0"

    def test_an_image_level_split_is_marked(self, results: list[Result], project: Project) -> None:
        found = check(results, project.context("image"))
        assert (found["Split"].value, found["Split"].good) == ("image", False)

    def test_leaks_are_counted_in_the_manifest(
        self, results: list[Result], shared: Context
    ) -> None:
        leaking = with_leak(shared)
        manifest = leaking.manifest
        first = manifest.index[manifest["split"] == "train"][0]
        tested = manifest.index[manifest["split"] == "test"][0]
        manifest.loc[first, "pixel_hash"] = manifest.loc[tested, "pixel_hash"]
        found = check(results, leaking)
        assert (found[PATIENTS].value, found[PATIENTS].good) == ("2", False)
        assert "; 4 test images" in found[PATIENTS].note
        assert (found[PIXELS].value, found[PIXELS].good) == ("1", False)

    def test_all_patients_known(self, results: list[Result], shared: Context) -> None:
        found = check(results, shared)[PATIENTS]
        assert (found.value, found.good) == ("0", True)
        assert found.note.endswith("The patient of all 240 images is known")

    @pytest.mark.parametrize("count", [1, 240])
    def test_unknown_patients_get_a_warning_and_no_tick(
        self, results: list[Result], shared: Context, count: int
    ) -> None:
        found = check(results, with_unknown_patients(shared, count))
        assert (found[PATIENTS].value, found[PATIENTS].good) == ("0 known", False)
        assert found[PATIENTS].note.endswith(
            f"{count} of 240 images have no known patient: each counts as its own patient, so the "
            "same patient may be in the test set and in the rest. Give split.patients a CSV with "
            "the columns id and patient"
        )
        assert found["Test set"].value == "80 images of at most 40 patients"


class TestThreshold:
    def test_one_that_follows_from_validation_gets_a_tick(
        self, results: list[Result], shared: Context
    ) -> None:
        found = check(results, shared)["Threshold"]
        assert found.good is True
        assert found.note == "each system's own, chosen on validation: youden"
        locked = sorted({result.metrics["threshold"] for result in results})
        assert found.value == ", ".join(f"{cut:.3g}" for cut in locked)

    def test_the_origin_of_a_number_cannot_be_known(
        self, results: list[Result], shared: Context
    ) -> None:
        at = [replace(r, metrics={**r.metrics, "threshold": 0.5}) for r in results]
        found = check(at, replace(shared, threshold=0.5))["Threshold"]
        assert (found.value, found.good) == ("0.5", None)
        assert "cannot tell how it was chosen" in found.note

    @pytest.mark.parametrize("rule", [0.4, params.Sensitivity(sensitivity=0.6)], ids=str)
    def test_one_that_differs_from_the_rule_is_marked(
        self, results: list[Result], shared: Context, rule: Any
    ) -> None:
        found = check(results, replace(shared, threshold=rule))["Threshold"]
        assert found.good is False

    def test_one_from_validation_under_shift_is_neither_proven_nor_marked(
        self, results: list[Result], shared: Context
    ) -> None:
        shifted = {"threshold": 0.123, "threshold_from": "shifted"}
        changed = [replace(r, metrics={**r.metrics, **shifted}) for r in results]
        found = check(changed, shared)["Threshold"]
        assert (found.value, found.good) == ("0.123", None)
        assert found.note.endswith("chosen on validation under shift: youden")


class TestOrigin:
    def test_data_models_and_machine(self, results: list[Result], shared: Context) -> None:
        found = origin(results, shared)
        assert found["Data"].value == "ChestXRay2017.zip"
        assert found["Data"].note.startswith("CC BY 4.0. doi:10.17632/rscbjbr9sj. Kermany")
        assert found["SHA-256 of the data"].value.startswith("13efc0556297")
        assert found["Model vgg16_transfer"].value == f"commit {COMMIT[:12]}"
        assert found["Model vgg16_transfer"].note == "weights SHA-256 " + "ab" * 32
        assert found["Trained on"].value == f"{DEVICE}, mixed_bfloat16"

    def test_a_source_without_a_licence(self, results: list[Result], shared: Context) -> None:
        bare = dict(shared.source) | {"licence": None, "doi": None, "citation": None}
        found = origin(results, replace(shared, source=bare))
        assert found["Data"].note == "licence not stated"

    def test_the_experiment_and_changed_files_of_a_model(
        self, results: list[Result], shared: Context
    ) -> None:
        changed = [f"src/cxr/{letter}.py" for letter in "abcdefg"]
        result = with_provenance(
            results[0],
            git={"commit": COMMIT, "changed": changed},
            dvc={"experiment": "warm-lamp", "baseline": None},
        )
        found = origin([result], shared)["Model vgg16_transfer"]
        assert found.value == f"commit {COMMIT[:12]}, experiment warm-lamp"
        assert found.note.endswith("src/cxr/d.py, src/cxr/e.py and 2 more")
        assert found.good is None

    def test_a_model_of_no_known_commit(self, results: list[Result], shared: Context) -> None:
        result = with_provenance(results[0], git={"commit": None, "changed": []})
        assert origin([result], shared)["Model vgg16_transfer"].value == "commit unknown"

    def test_two_machines(self, results: list[Result], shared: Context) -> None:
        other = with_provenance(results[1], device="a CPU")
        machines = [
            c for c in checks.origins([results[0], other], shared) if c.label == "Trained on"
        ]
        assert [c.value for c in machines] == [
            f"{DEVICE}, mixed_bfloat16", "a CPU, mixed_bfloat16",
        ]  # fmt: skip
