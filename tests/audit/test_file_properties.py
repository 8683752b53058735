"""File properties: read from headers, without pixels."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.audit import file_properties
from cxr.errors import InputError
from tests.dicoms import dicom

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8)).astype("uint8")


def encoded(kind: str = "JPEG", mode: str = "L", **settings) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(stream, kind, **settings)
    return stream.getvalue()


def listed(files: dict[str, bytes], mode: str = "L") -> pd.DataFrame:
    rows = [(name, 8, 6, mode, len(data)) for name, data in files.items()]
    return pd.DataFrame(rows, columns=["path", "width", "height", "mode", "bytes"])


class TestRead:
    def test_has_size_bytes_encoding_and_tables(self, make_archive):
        files = {"a.jpeg": encoded(quality=95), "b.jpeg": encoded(mode="RGB", quality=75),
                 "c.png": encoded("PNG")}  # fmt: skip
        table = listed(files).assign(mode=["L", "RGB", "L"])
        found = file_properties.read(make_archive("a.zip", files), table)
        assert list(found["width"]) == [8, 8, 8] and list(found["height"]) == [6, 6, 6]
        assert found["aspect"].iloc[0] == pytest.approx(8 / 6)
        assert found["bytes_per_pixel"].iloc[0] == len(files["a.jpeg"]) / 48
        assert list(found["mode"]) == [0, 1, 0]
        assert list(found["format"]) == [0, 0, 1]
        assert found["jpeg_quality"].iloc[0] == pytest.approx(95, abs=1)
        assert found["jpeg_quality"].iloc[1] == pytest.approx(75, abs=1)
        assert np.isnan(found.loc[2, list(file_properties.JPEG)].astype(float)).all()
        assert list(np.isnan(found["jpeg_chroma"])) == [True, False, True]

    def test_of_files_that_are_no_jpegs_have_no_tables(self, make_archive):
        pixels = np.zeros((8, 8), "uint8")
        files = {"a.png": encoded("PNG"), "b.bmp": encoded("BMP"), "c.dcm": dicom(pixels)}
        found = file_properties.read(make_archive("a.zip", files), listed(files))
        assert found[list(file_properties.JPEG)].isna().all(axis=None)
        assert found[["width", "bytes_per_pixel", "mode", "format"]].notna().all(axis=None)

    def test_follows_the_rows_whatever_their_index(self, make_archive):
        files = {"a.jpeg": encoded(quality=95), "b.jpeg": encoded(quality=50)}
        table = listed(files).iloc[::-1]
        found = file_properties.read(make_archive("a.zip", files), table)
        assert list(found.index) == [1, 0]
        assert found["jpeg_quality"].round().tolist() == [50, 95]

    @pytest.mark.parametrize(
        ("name", "said"), [("b.png", "not in the zip"), ("a.png", "cannot identify image")]
    )
    def test_another_archive_names_the_image_and_what_to_do(self, make_archive, name, said):
        files = {"a.png": b"no image"}
        with pytest.raises(InputError, match=rf"{name} in .*{said}.*dvc repro -s -f split"):
            file_properties.read(make_archive("a.zip", files), listed({name: b""}))


class TestQuality:
    @pytest.mark.parametrize("quality", [25, 50, 75, 90, 100])
    def test_is_that_which_pillow_saved_with(self, quality):
        """Libjpeg rounds the scaled entries to 1 to 255, which falsifies the lowest qualities."""
        table = Image.open(io.BytesIO(encoded(quality=quality))).quantization[0]
        assert file_properties.quality(float(sum(table))) == pytest.approx(quality, abs=1)

    def test_of_no_table_is_nan(self):
        assert math.isnan(file_properties.quality(math.nan))
