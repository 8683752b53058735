"""Write the sample archive: ``python -m tools.phantom --out data/phantoms.zip --seed 0``."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from cxr.errors import InputError
from cxr.files import file_sha256
from tools.phantom.archive import write_archive
from tools.phantom.plan import IMAGES, MIN_IMAGES
from tools.phantom.view import SIZE_RANGE

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the sample archive from the command line.

    Args:
        argv: Arguments; the process's own where None.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.phantom",
        description="Draw synthetic chest X-rays into a zip with the layout of Kermany's data set.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("data/phantoms.zip"), help="zip to write")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other patients")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"files, at least {MIN_IMAGES}")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("SHORTEST", "LONGEST"),
        default=SIZE_RANGE,
        help="limits of an image's sides in pixels",
    )
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        files = write_archive(given.out, given.seed, given.images, tuple(given.size))
    except InputError as error:
        parser.error(str(error))
    normal = sum(file.patient.kind == "normal" for file in files)
    log.info(
        "%s: %d images (%d NORMAL, %d PNEUMONIA) of %d patients, %d bytes, sha256 %s",
        given.out,
        len(files),
        normal,
        len(files) - normal,
        len({file.patient for file in files}) + 1,  # the duplicate goes by a name of its own
        given.out.stat().st_size,
        file_sha256(given.out),
    )


if __name__ == "__main__":
    main()
