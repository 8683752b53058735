"""Decode every X-ray once and split them into train, val and test: raw/xrays.zip -> splits/."""

import logging
from pathlib import Path

import pandas as pd

from cxr import files, params
from cxr.data import manifest, patient, split
from cxr.tracking import provenance
from stages import RAW, SPLITS, finish, parser, run

log = logging.getLogger(__name__)


def work(settings: params.Params) -> None:
    used = provenance.chosen(settings, "seed", "split")
    inputs = [RAW / "xrays.zip", Path(settings.split.patients)]
    started = provenance.start("split", settings, used, inputs)
    patients = patient.from_csv(Path(settings.split.patients))
    images, rejected = manifest.build(RAW / "xrays.zip", settings.split.max_rejected, patients)
    images, excluded = split.assign(images, settings.split, settings.seed)
    rejected = pd.concat([rejected, excluded], ignore_index=True)
    counts = split.summary(images, len(rejected), settings.seed)
    files.write_csv(SPLITS / "manifest.csv", images)
    files.write_csv(SPLITS / "rejected.csv", rejected)
    files.write_json(SPLITS / "summary.json", counts)
    for name, numbers in counts["images"].items():
        log.info("%-5s %s", name, ", ".join(f"{n} {c}" for c, n in numbers.items()))
    log.info(
        "%d rejected; %d patients in two splits; with an image-level split, %d test images would "
        "share a patient with training",
        counts["rejected"], counts["patients_in_two_splits"], counts["image_level_leak"],
    )  # fmt: skip
    log.info("patient known for %d of %d images", counts["patients_known"], counts["total"])
    if counts["patients_known"] < counts["total"]:
        log.warning(
            "warning: each of the other images counts as its own patient, so a patient may have "
            "images in two splits; list the patients in %s (split.patients)",
            settings.split.patients,
        )
    finish(started, SPLITS)


if __name__ == "__main__":
    run(work, parser(__doc__))
