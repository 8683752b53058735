"""Cache every X-ray at one size: raw/xrays.zip and splits/manifest.csv -> tensors/<size>/."""

from cxr import params
from cxr.data import manifest, preprocess
from cxr.tracking import provenance
from stages import RAW, SPLITS, TENSORS, finish, parser, run


def work(settings: params.Params, size: int) -> None:
    folder = TENSORS / str(size)
    used = provenance.chosen(settings, "tensors")
    inputs = [RAW / "xrays.zip", SPLITS / "manifest.csv"]
    started = provenance.start("preprocess", settings, used, inputs, str(size))
    divided = manifest.read(SPLITS / "manifest.csv")
    preprocess.build(RAW / "xrays.zip", divided, size, settings.tensors, folder)
    finish(started, folder)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("size", type=int, help="side of the squares in pixels")
    run(work, arguments)
