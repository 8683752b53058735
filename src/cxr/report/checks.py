"""Checks of the split and the evaluation, and the origin of data, code and models.

A check gets a tick only if the files prove it. Other facts are stated without one: no file shows
how a threshold was chosen that is given as a number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cxr import params
from cxr.errors import InputError
from cxr.evaluation import intervals, threshold
from cxr.report.leaks import in_test_and_rest, unknown_patients
from cxr.report.results import Context, Result

_PROTOCOLS = {
    "grouped": "all images of a patient, and images with equal pixels, are in one split",
    "image": "single images are drawn, as in the original article: patients leak into the test set",
    "official": "the test set is the archive's own test folder; validation is drawn by patient",
}


@dataclass(frozen=True)
class Check:
    """One line of the section.

    Attributes:
        label: the subject.
        value: the finding.
        note: its meaning.
        good: True for a tick, False for a warning mark, None for no mark.
    """

    label: str
    value: str
    note: str = ""
    good: bool | None = None


def checks(results: Sequence[Result], shared: Context) -> list[Check]:
    """Return the checks of split and evaluation, in the order of the page."""
    return [*_split_checks(shared), *_evaluation_checks(results, shared)]


def _split_checks(shared: Context) -> list[Check]:
    """Check how the images were split."""
    summary, test = shared.summary, shared.manifest[shared.manifest["split"] == "test"]
    unknown = unknown_patients(shared.manifest)
    copies, _ = in_test_and_rest(shared.manifest, "pixel_hash")
    classes = ", ".join(f"{n:,} {name}" for name, n in summary["images"]["test"].items())
    duplicates = summary["duplicates"]
    return [
        Check(
            "Split",
            shared.protocol,
            f"split.protocol: {_PROTOCOLS[shared.protocol]}",
            False if shared.protocol == "image" else None,
        ),
        _patients_check(shared.manifest, unknown),
        Check(
            "Images with equal pixels in the test set and in the rest",
            f"{copies:,}",
            f"of {duplicates['groups']:,} groups, with {duplicates['images']:,} images in total. "
            "Resized or re-encoded copies are not detected",
            copies == 0,
        ),
        Check(
            "Test set",
            f"{len(test):,} images of {'at most ' if unknown else ''}"
            f"{test['patient'].nunique():,} patients",
            classes,
        ),
        Check(
            "Rejected files",
            f"{summary['rejected']:,}",
            f"splits/rejected.csv gives each reason; {summary['total']:,} images were used",
        ),
    ]


def _patients_check(manifest: pd.DataFrame, unknown: int) -> Check:
    """Check that no patient is in both the test set and the rest."""
    patients, images = in_test_and_rest(manifest, "patient")
    note = "counted in splits/manifest.csv" + (f"; {images:,} test images" if images else "")
    if unknown:
        note += (
            f". {unknown:,} of {len(manifest):,} images have no known patient: each counts as its "
            "own patient, so the same patient may be in the test set and in the rest. Give "
            "split.patients a CSV with the columns id and patient"
        )
    else:
        note += f". The patient of all {len(manifest):,} images is known"
    value = f"{patients:,} known" if unknown else f"{patients:,}"
    return Check(
        "Patients in the test set and in the rest", value, note, not unknown and patients == 0
    )


def _evaluation_checks(results: Sequence[Result], shared: Context) -> list[Check]:
    """Check how the systems were evaluated."""
    seeds = sorted({result.record["seed"] for result in results})
    return [
        _threshold_check(results, shared),
        Check(
            "Intervals",
            f"95 %, {intervals.RESAMPLES:,} resamples",
            "of patients, the same for both systems of a comparison. They cover the choice of test "
            "patients but not the randomness of training, because each system was trained once",
        ),
        Check(
            "Seed", ", ".join(map(str, seeds)), "of the split, the initial weights and all draws"
        ),
    ]


def _threshold_check(results: Sequence[Result], shared: Context) -> Check:
    """Check that each threshold is the one that the rule gives on the validation predictions."""
    rule, locked = shared.threshold, [result.metrics["threshold"] for result in results]
    value = ", ".join(f"{cut:.3g}" for cut in sorted(set(locked)))
    if isinstance(rule, int | float):
        note = (
            "evaluate.threshold of params.yaml, a number. This report cannot tell how it was "
            "chosen: one chosen on the test set makes every figure but the AUC too high"
        )
        return Check("Threshold", value, note, None if set(locked) == {rule} else False)
    how = rule if isinstance(rule, str) else f"a sensitivity of {rule.sensitivity:g}"
    if any(result.metrics.get("threshold_from") == "shifted" for result in results):
        note = f"each system's own, chosen on validation under shift: {how}"
        return Check("Threshold", value, note)  # no file here has those predictions
    if [_chosen(result, rule) for result in results] == locked:
        return Check("Threshold", value, f"each system's own, chosen on validation: {how}", True)
    note = f"not what evaluate.threshold ({how}) gives on validation: run `dvc repro`"
    return Check("Threshold", value, note, False)


def _chosen(result: Result, rule: str | params.Sensitivity) -> float | None:
    """Return the threshold that a rule gives on validation; None if it gives none."""
    val = result.predictions[result.predictions["split"] == "val"]
    try:
        return threshold.choose(val["label"].to_numpy(), val["probability"].to_numpy(), rule)
    except InputError:
        return None


def origins(results: Sequence[Result], shared: Context) -> list[Check]:
    """Return the data, the code and the machines behind the figures."""
    source = shared.source
    rights = [source["licence"], source["doi"] and f"doi:{source['doi']}", source["citation"]]
    machines = {
        f"{result.provenance['device']}, {result.training['policy']}": ", ".join(
            f"{package} {version}" for package, version in result.provenance["versions"].items()
        )
        for result in results
    }
    return [
        Check("Data", source["origin"], ". ".join(filter(None, rights)) or "licence not stated"),
        Check("SHA-256 of the data", source["sha256"], f"{source['bytes']:,} bytes"),
        *(_model_check(result) for result in results),
        *(Check("Trained on", machine, versions) for machine, versions in machines.items()),
    ]


def _model_check(result: Result) -> Check:
    """List the commit, the experiment and the weights of a trained model."""
    commit, experiment = result.provenance["git"]["commit"], result.provenance["dvc"]["experiment"]
    value = f"commit {commit[:12]}" if commit else "commit unknown"
    if experiment:
        value += f", experiment {experiment}"
    note = f"weights SHA-256 {result.record['weights_sha256']}"
    return Check(f"Model {result.name}", value, note + _changed(result.provenance["git"]))


def _changed(git: Mapping[str, Any]) -> str:
    """List the first files that differed from the commit and count the rest."""
    changed = git["changed"]
    if not changed:
        return ""
    more = f" and {len(changed) - 5:,} more" if len(changed) > 5 else ""
    return f". Changed since that commit: {', '.join(changed[:5])}{more}"
