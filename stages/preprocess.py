"""Cache every X-ray at one size: raw/xrays.zip and splits/manifest.csv -> tensors/<size>/."""

from cxr import files, params
from cxr.data import tensors
from cxr.tracking import provenance
from stages import RAW, SPLITS, TENSORS, finish, parser, run


def work(settings: params.Params, size: int) -> None:
    folder = TENSORS / str(size)
    used = provenance.chosen(settings, "tensors")
    inputs = [RAW / "xrays.zip", SPLITS / "manifest.csv"]
    started = provenance.start("preprocess", settings, used, inputs, str(size))
    manifest = files.read_csv(SPLITS / "manifest.csv")
    tensors.build(RAW / "xrays.zip", manifest, size, settings.tensors, folder)
    finish(started, folder)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("size", type=int, help="side of the squares in pixels")
    run(work, arguments)
