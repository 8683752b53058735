"""Cache every X-ray at one size: raw/xrays.zip and splits/manifest.csv -> tensors/<size>/."""

from cxr import params
from cxr.data import manifest, preprocess
from cxr.tracking import client as tracking
from stages import RAW, SPLITS, TENSORS, parser, run


def work(settings: params.Params, size: int) -> None:
    folder = TENSORS / str(size)
    divided = manifest.read(SPLITS / "manifest.csv")
    preprocess.build(RAW / "xrays.zip", divided, size, settings.tensors, folder)
    tracking.write(settings.tracking, tracking.preprocess(folder, settings, RAW, SPLITS))


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("size", type=int, help="side of the squares in pixels")
    run(work, arguments)
