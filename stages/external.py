"""Read an archive of evaluate.external: a descriptor, a zip or a folder -> externals/<name>/."""

import logging
from pathlib import Path

from cxr import files, params
from cxr.data import external
from cxr.errors import InputError
from cxr.tracking import provenance
from stages import EXTERNALS, SPLITS, finish, parser, run

log = logging.getLogger(__name__)


def work(settings: params.Params, name: str) -> None:
    archives = settings.evaluate.external
    if name not in archives:
        message = (
            f"evaluate.external has no archive {name!r}: it has {', '.join(archives) or 'none'}"
        )
        raise InputError(message)
    used = provenance.chosen(settings, f"evaluate.external.{name}", "split.max_rejected")
    inputs = [Path(archives[name]), SPLITS / "manifest.csv"]
    started = provenance.start("external", settings, used, inputs, name)
    own = files.read_csv(SPLITS / "manifest.csv")
    about = external.build(name, archives[name], settings.split.max_rejected, own, EXTERNALS / name)
    counts = ", ".join(f"{n} {c}" for c, n in about["counts"].items())
    log.info("%s: %s; by split: %s", about["origin"], counts, about["splits"])
    finish(started, EXTERNALS / name)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("name", help="key in evaluate.external of params.yaml")
    run(work, arguments)
