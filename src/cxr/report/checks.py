"""Can it be believed? What the split, the judging and the origin say for it and against it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from cxr.evaluation import intervals, metrics
from cxr.report import wording
from cxr.report.results import GUESSING, Context, Result

SHORTCUT = 0.75  # from this AUC on, facts about the file are a worry

_PROTOCOLS = {
    "grouped": "whole patients and pixel-equal images stay on one side",
    "image": "single images, as the original article did: patients leak into the test set",
    "official": "the archive's own test folder; validation from the rest, by patient",
}


@dataclass(frozen=True)
class Check:
    """One line of "Can I believe it?".

    Attributes:
        label: what is looked at.
        value: what was found.
        note: what it means.
        good: True or False where there is a right answer, None where there is none.
    """

    label: str
    value: str
    note: str = ""
    good: bool | None = None


def checks(results: Sequence[Result], shared: Context) -> list[Check]:
    """Answer "Can I believe it?", line by line, from the files rather than from what was meant."""
    return [
        *_split_checks(shared),
        *_judging_checks(results, shared),
        *_origin_checks(results, shared),
    ]


def shortcut(manifest: pd.DataFrame) -> tuple[str, float | None]:
    """Find the fact about a file that tells the classes apart best, without any pixel.

    Which fact, and whether more or less of it means PNEUMONIA, is chosen on the training images.

    Returns:
        Its name, and its AUC on the test images, 0 to 1; None where a class is missing.
    """
    pixels = manifest["width"] * manifest["height"]
    facts = {
        "width": manifest["width"],
        "height": manifest["height"],
        "aspect ratio": manifest["width"] / manifest["height"],
        "bytes a pixel": manifest["bytes"] / pixels,
    }
    train, test = (manifest["split"] == split for split in ("train", "test"))
    labels = manifest["label"]
    known = {
        name: metrics.auc(labels[train].to_numpy(), fact[train].to_numpy())
        for name, fact in facts.items()
    }
    aucs = {name: GUESSING if auc is None else auc for name, auc in known.items()}
    name = max(aucs, key=lambda fact: abs(aucs[fact] - GUESSING))
    sign = -1 if aucs[name] < GUESSING else 1
    return name, metrics.auc(labels[test].to_numpy(), sign * facts[name][test].to_numpy())


def on_both_sides(manifest: pd.DataFrame, column: str) -> tuple[int, int]:
    """Count what is both in the test set and in the rest: values, and the test images with them."""
    tested = manifest["split"] == "test"
    shared = manifest[column].isin(manifest.loc[~tested, column]) & tested
    return int(manifest.loc[shared, column].nunique()), int(shared.sum())


def _split_checks(shared: Context) -> list[Check]:
    """Look at how the images were divided."""
    summary, test = shared.summary, shared.manifest[shared.manifest["split"] == "test"]
    patients, images = on_both_sides(shared.manifest, "patient")
    copies, _ = on_both_sides(shared.manifest, "pixel_hash")
    classes = ", ".join(f"{n:,} {name}" for name, n in summary["images"]["test"].items())
    return [
        Check("Split", shared.protocol, _PROTOCOLS[shared.protocol], shared.protocol != "image"),
        Check(
            "Patients on both sides",
            f"{patients:,}",
            "counted in the manifest: tested on, and trained or validated on"
            + (f"; {images:,} test images" if images else ""),
            patients == 0,
        ),
        Check(
            "Equal pixels on both sides",
            f"{copies:,}",
            f"pixel-equal groups in all: {summary['duplicates']['groups']:,}, "
            f"with {summary['duplicates']['images']:,} files",
            copies == 0,
        ),
        Check(
            "Under an image-level split",
            f"{summary['image_level_leak']:,} of {len(test):,} test images",
            "would share a patient with training, had single images been drawn in these numbers",
        ),
        Check(
            "Test set", f"{len(test):,} images of {test['patient'].nunique():,} patients", classes
        ),
        Check(
            "Files left out",
            f"{summary['rejected']:,}",
            f"each with its reason in splits/rejected.csv; {summary['total']:,} images were used",
        ),
    ]


def _judging_checks(results: Sequence[Result], shared: Context) -> list[Check]:
    """Look at how the systems were judged."""
    thresholds = sorted({result.metrics["threshold"] for result in results})
    seeds = sorted({result.record["seed"] for result in results})
    fact, auc = shortcut(shared.manifest)
    return [
        Check(
            "Threshold",
            ", ".join(f"{threshold:g}" for threshold in thresholds),
            "evaluate.threshold in params.yaml, set beforehand and not chosen on the test set",
            thresholds == [shared.threshold],
        ),
        Check(
            "Intervals",
            f"95 %, {intervals.RESAMPLES:,} resamples",
            "of whole patients, the same ones for both sides of a comparison. They hold the luck "
            "of who was tested, not that of training: each system was trained once",
        ),
        Check(
            "Seed", ", ".join(map(str, seeds)), "for the split, the initial weights and all draws"
        ),
        Check(
            "Without a single pixel",
            f"AUC {wording.number(auc)}",
            f"from {fact} of the file alone, the most telling of width, height, aspect ratio and "
            "bytes a pixel. The nearer to 1, the more a network could owe to how the films were "
            "made rather than to the lungs",
            None if auc is None else auc < SHORTCUT,
        ),
    ]


def _origin_checks(results: Sequence[Result], shared: Context) -> list[Check]:
    """Say what the figures were made from, and on what."""
    source = shared.source
    rights = [source["licence"], source["doi"] and f"doi:{source['doi']}", source["citation"]]
    machines = {
        f"{result.timing['device']}, {result.timing['policy']}": ", ".join(
            f"{package} {version}" for package, version in result.timing["versions"].items()
        )
        for result in results
    }
    return [
        Check("Data", source["origin"], ". ".join(filter(None, rights)) or "licence not stated"),
        Check("SHA-256 of the data", source["sha256"], f"{source['bytes']:,} bytes"),
        *(
            Check(f"SHA-256 of {result.name}", result.record["weights_sha256"], "trained weights")
            for result in results
        ),
        *(Check("Trained on", machine, versions) for machine, versions in machines.items()),
    ]
