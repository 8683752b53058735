"""The archive: every image drawn, compressed and stored in one zip."""

import io
import os
import zipfile

from PIL import Image
from tqdm import tqdm

from cxr.errors import InputError
from cxr.files import replacing
from tools.phantom import drawing, plan
from tools.phantom.plan import IMAGES, ImageFile
from tools.phantom.view import SIZE_RANGE

MIN_SIDE = 32
JPEG_QUALITY = 75  # the same for every file: in Kermany's set the quality names the class


def write_archive(
    path: str | os.PathLike[str],
    seed: int = 0,
    images: int = IMAGES,
    size_range: tuple[int, int] = SIZE_RANGE,
) -> list[ImageFile]:
    """Draw all images and write them as one stored zip.

    The same arguments give the same bytes with the same NumPy and Pillow on the same kind of CPU;
    elsewhere a grey value may differ by one where a sum is rounded the other way.

    Args:
        path: Where to write; an archive that stands there is replaced once the new one is whole.
        seed: 0 or more.
        images: Number of files, MIN_IMAGES or more.
        size_range: Shortest and longest side in pixels, MIN_SIDE or more.

    Returns:
        What `plan.files` gives, in the archive's order.

    Raises:
        InputError: Where an argument is outside its range or the path cannot be written.
    """
    short, long = size_range
    if not MIN_SIDE <= short <= long:
        message = f"size_range must be {MIN_SIDE} <= shortest <= longest, got {short} and {long}"
        raise InputError(message)
    planned = plan.files(seed, images)
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        for file in tqdm(planned, desc="drawing phantoms", unit="image", disable=None):
            entry = zipfile.ZipInfo(file.path, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, encode(file, size_range))
    return planned


def encode(file: ImageFile, size_range: tuple[int, int] = SIZE_RANGE) -> bytes:
    """Draw an image and compress it.

    Args:
        file: What to draw, and whether as grey or as RGB.
        size_range: Shortest and longest side in pixels.

    Returns:
        The JPEG file's bytes.
    """
    image = Image.fromarray(drawing.draw(file.patient, file.image, size_range=size_range))
    stream = io.BytesIO()
    image.convert(file.mode).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()
