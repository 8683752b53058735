"""Audit the archive and its split: raw/, splits/, tensors/<size>/, features/<system>/ -> audits/.

Patients in two splits, duplicates, leaks, balance, suspect labels, and how well the class is told
by what is not anatomy.
"""

import logging

from cxr import files, params
from cxr.audit import audit, wording
from cxr.data import cache
from cxr.tracking import provenance
from cxr.training import feature_files
from stages import AUDITS, FEATURES, RAW, SPLITS, TENSORS, add_system, finish, parser, run

log = logging.getLogger(__name__)


def work(settings: params.Params, system: str) -> None:
    tensors = TENSORS / str(settings.system(system).image_size)
    frozen = FEATURES / system / feature_files.FOLDER
    used = provenance.chosen(settings, "seed")
    inputs = [RAW / "xrays.zip", SPLITS / "manifest.csv"]
    inputs += [tensors / "images.npy", tensors / "index.csv", frozen]
    started = provenance.start("audit", settings, used, inputs)
    images, index = cache.open_cache(tensors)
    stored = next(iter(feature_files.opened(frozen).values()), None)
    manifest = files.read_csv(SPLITS / "manifest.csv")
    result = audit.run(RAW / "xrays.zip", manifest, images, index, stored, settings.seed, AUDITS)
    for line in wording.lines(result):
        log.info(line)
    finish(started, AUDITS)


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments).help = "system whose frozen features find suspect labels"
    run(work, arguments)
