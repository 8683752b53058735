"""Write the X-rays to one checked zip: a descriptor's download, a zip or a folder -> raw/."""

import logging
from pathlib import Path

from cxr import files, params
from cxr.data import source
from cxr.tracking import provenance
from stages import RAW, finish, parser, run

log = logging.getLogger(__name__)


def work(settings: params.Params) -> None:
    used = provenance.chosen(settings, "source")
    started = provenance.start("download", settings, used, [Path(settings.source)])
    about = source.to_zip(settings.source, RAW / "xrays.zip")
    files.write_json(RAW / "source.json", about)
    log.info("%s: %s", about["origin"], ", ".join(f"{n} {c}" for c, n in about["counts"].items()))
    finish(started, RAW)


if __name__ == "__main__":
    run(work, parser(__doc__))
