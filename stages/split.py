"""Read every X-ray once and divide them: raw/xrays.zip -> splits/."""

import json
import logging

import pandas as pd

from cxr import files, params
from cxr.data import manifest, split
from cxr.tracking import provenance
from stages import RAW, SPLITS, finish, parser, run

log = logging.getLogger(__name__)


def work(settings: params.Params) -> None:
    used = provenance.chosen(settings, "seed", "split")
    started = provenance.start("split", settings, used, [RAW / "xrays.zip"])
    images, rejected = manifest.build(RAW / "xrays.zip", settings.split.max_rejected)
    divided, left_out = split.assign(images, settings.split, settings.seed)
    rejected = pd.concat([rejected, left_out], ignore_index=True)
    counts = split.summary(divided, len(rejected), settings.seed)
    manifest.write(divided, SPLITS / "manifest.csv")
    manifest.write(rejected, SPLITS / "rejected.csv")
    files.write_text(SPLITS / "summary.json", json.dumps(counts, indent=2) + "\n")
    for name, numbers in counts["images"].items():
        log.info("%-5s %s", name, ", ".join(f"{n} {c}" for c, n in numbers.items()))
    log.info(
        "%d rejected; %d patients on two sides; single images would have put %d test images beside "
        "their patient",
        counts["rejected"], counts["patients_on_two_sides"], counts["image_level_leak"],
    )  # fmt: skip
    finish(started, SPLITS)


if __name__ == "__main__":
    run(work, parser(__doc__))
