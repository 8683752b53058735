"""Hostile images: each is decoded to the pixels that it shows, or rejected with a reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from cxr.data import image
from cxr.errors import InputError
from tests.dicoms import dicom
from tests.hostile import tried

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

NOISE = np.random.default_rng(0).integers(0, 256, (29, 37), dtype="uint8")
# Smooth, so that JPEG changes it little; no two of its eight orientations are equal.
SLOPE = (np.add.outer(np.arange(24) * 7, np.arange(40) * 2) % 256).astype("uint8")


def encoded(pixels: np.ndarray, mode: str, kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **how)
    return stream.getvalue()


CORPUS = {
    "JPEG": encoded(NOISE, "L", "JPEG"),
    "JPEG RGB": encoded(NOISE, "RGB", "JPEG"),
    "JPEG CMYK": encoded(NOISE, "CMYK", "JPEG"),
    "JPEG progressive": encoded(NOISE, "RGB", "JPEG", progressive=True),
    "PNG": encoded(NOISE, "L", "PNG"),
    "PNG RGBA": encoded(NOISE, "RGBA", "PNG"),
    "PNG palette": encoded(NOISE, "P", "PNG"),
    "PNG 1 bit": encoded(NOISE, "1", "PNG"),
    "GIF": encoded(NOISE, "L", "GIF"),
    "BMP": encoded(NOISE, "L", "BMP"),
    "PPM": encoded(NOISE, "RGB", "PPM"),
    "TIFF": encoded(NOISE, "RGB", "TIFF"),
    "TIFF LZW": encoded(NOISE, "L", "TIFF", compression="tiff_lzw"),
    "TIFF deflate": encoded(NOISE, "RGB", "TIFF", compression="tiff_adobe_deflate"),
    "DICOM": dicom(NOISE, WindowCenter=128, WindowWidth=256),
    "DICOM 16 bits": dicom(NOISE.astype("uint16") * 16),
    "DICOM JPEG": dicom(NOISE, jpeg=encoded(NOISE, "L", "JPEG")),
}

OF_PILLOW = [name for name in CORPUS if not name.endswith("1 bit") and "DICOM" not in name]


def rejected(data: bytes) -> str:
    tried.count("images")
    with pytest.raises(InputError) as stop:
        image.decode(data)
    tried.assert_one_line(stop.value)
    return str(stop.value)


class TestDamaged:
    @pytest.mark.parametrize("name", CORPUS)
    def test_any_bytes_give_an_image_of_bounded_size_or_a_reason(self, name):
        for data in tried.damaged("images", CORPUS[name], 300):
            try:
                pixels, mode = image.decode(data)
            except InputError as error:
                tried.assert_one_line(error)
            else:
                assert pixels.dtype == np.uint8 and pixels.ndim == 2
                assert 0 < pixels.size <= image.MAX_PIXELS
                assert mode in image.GREY_8_BIT or mode.startswith("DICOM ")

    @pytest.mark.parametrize("name", [name for name in CORPUS if name.startswith("PNG")])
    def test_a_png_is_used_with_its_own_pixels_or_rejected(self, name):
        """Its checksums find every change, but Pillow does not check them while it decodes."""
        expected, _ = image.decode(CORPUS[name])
        for data in tried.damaged("images", CORPUS[name], 300):
            try:
                pixels, _ = image.decode(data)
            except InputError:
                continue
            np.testing.assert_array_equal(pixels, expected)

    @pytest.mark.parametrize("name", CORPUS)
    def test_cut_at_every_tenth_byte_is_rejected_or_whole(self, name):
        """What is missing may be a mark of the end, or the padding of a row."""
        whole = CORPUS[name]
        expected, _ = image.decode(whole)
        for end in range(0, len(whole), 10):
            tried.count("images")
            try:
                pixels, _ = image.decode(whole[:end])
            except InputError as error:
                tried.assert_one_line(error)
            else:
                np.testing.assert_array_equal(pixels, expected)

    @given(st.binary(max_size=200))
    def test_bytes_without_a_meaning_are_rejected(self, data):
        for head in (
            b"",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff",
            b"GIF89a",
            b"BM",
            b"P5 ",
            b"II*\0",
        ):
            rejected(head + data)


class TestKinds:
    @pytest.mark.parametrize(
        ("mode", "kind"),
        [
            ("grey", "PNG"), ("LA", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("grey", "PPM"),
            ("RGB", "PPM"), ("grey", "TIFF"), ("RGB", "TIFF"),
        ],
    )  # fmt: skip
    def test_of_16_bits_are_rejected(self, mode, kind):
        message = rejected(deep(mode, kind))
        assert "converting more than 8 bits per channel to 8 would distort it" in message

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF"])
    def test_animated_are_rejected(self, kind):
        frames = [Image.fromarray(NOISE), Image.fromarray(255 - NOISE)]
        stream = io.BytesIO()
        frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
        assert "has several frames: an X-ray has one" in rejected(stream.getvalue())

    def test_of_two_images_as_phones_write_them_are_rejected(self):
        stream = io.BytesIO()
        other = Image.fromarray(255 - NOISE)
        Image.fromarray(NOISE).save(stream, "MPO", save_all=True, append_images=[other])
        assert "has several frames" in rejected(stream.getvalue())

    @pytest.mark.parametrize("kind", ["WEBP", "ICO", "EPS", "JPEG2000", "TGA", "SGI", "DDS", "PDF"])
    def test_of_other_formats_are_rejected_by_name(self, kind):
        if kind == "EPS":  # Pillow would start Ghostscript to read it
            data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
        else:
            data = encoded(NOISE, "RGB", kind)
        assert rejected(data) == "not an image in BMP, GIF, JPEG, PNG, PPM, TIFF or DICOM format"

    def test_of_lab_colours_are_rejected(self):
        stream = io.BytesIO()
        Image.new("LAB", (4, 4)).save(stream, "TIFF")
        assert rejected(stream.getvalue()) == "mode LAB: save it as grey or RGB"

    @pytest.mark.parametrize("name", OF_PILLOW)
    def test_of_every_supported_kind_show_the_same(self, name):
        """JPEG loses a little; a GIF's or PNG's palette and CMYK must not change greys."""
        kind, _, rest = name.partition(" ")
        mode = {"": "L", "palette": "P", "progressive": "RGB", "LZW": "L", "deflate": "RGB"}
        tried.count("images")
        how = {"quality": 95} if kind == "JPEG" else {}
        pixels, _ = image.decode(encoded(SLOPE, mode.get(rest, rest), kind, **how))
        error = np.abs(pixels.astype(int) - SLOPE)
        assert np.median(error) <= (3 if kind == "JPEG" else 0)


def deep(mode: str, kind: str) -> bytes:
    """Return an image of 16 bits per channel, written by hand: Pillow writes only grey ones."""
    channels = {"RGB": 3, "RGBA": 4, "LA": 2, "grey": 1}[mode]
    values = np.full((3, 4, channels), 40_000, ">u2").tobytes()
    if kind == "PPM":
        return {1: b"P5", 3: b"P6"}[channels] + b" 4 3 65535\n" + values
    if kind == "PNG":
        colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
        row = 4 * channels * 2
        rows = b"".join(b"\0" + values[n : n + row] for n in range(0, len(values), row))
        head = struct.pack(">2L5B", 4, 3, 16, colour, 0, 0, 0)
        return png(("IHDR", head), ("IDAT", zlib.compress(rows)), ("IEND", b""))
    photometric = 1 if channels == 1 else 2
    tags = {256: [4], 257: [3], 258: [16] * channels, 259: [1], 262: [photometric], 273: [8]}
    return tiff(tags | {277: [channels], 278: [3], 279: [len(values)]}, values)


def tiff(tags: dict[int, list[int]], pixels: bytes) -> bytes:
    """Return a TIFF with these tags, as numbers of 32 bits; its pixels begin at byte 8."""
    entries, more, place = b"", b"", 8 + len(pixels)
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}L", *values)
        if len(values) > 1:
            more, packed = more + packed, struct.pack("<L", place + len(more))
        entries += struct.pack("<2HL", tag, 4, len(values)) + packed
    start = struct.pack("<4sL", b"II*\0", place + len(more))
    return start + pixels + more + struct.pack("<H", len(tags)) + entries + bytes(4)


def png(*chunks: tuple[str, bytes]) -> bytes:
    """Return a PNG of these chunks, with their right checksums."""
    written = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        body = name.encode() + data
        written += struct.pack(">L", len(data)) + body + struct.pack(">L", zlib.crc32(body))
    return written


class TestOrientation:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_is_turned_upright(self, orientation, kind):
        """The file holds what the camera saw; undoing the turn must give the upright image."""
        tried.count("images")
        undo = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
        turned = Image.fromarray(SLOPE)
        if undo in image.UPRIGHT:
            turned = turned.transpose(image.UPRIGHT[undo])
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        stream = io.BytesIO()
        turned.save(stream, kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {}))
        pixels, mode = image.decode(stream.getvalue())
        assert pixels.shape == SLOPE.shape and mode == "L"
        assert np.abs(pixels.astype(int) - SLOPE).max() <= (3 if kind == "JPEG" else 0)

    def test_six_is_a_quarter_to_the_right(self):
        """The standard: row 0 is the right-hand side of the scene, column 0 its top."""
        tried.count("images")
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        stream = io.BytesIO()
        Image.fromarray(np.array([[1, 2], [3, 4]], "uint8")).save(stream, "PNG", exif=exif)
        assert image.decode(stream.getvalue())[0].tolist() == [[3, 1], [4, 2]]

    @pytest.mark.parametrize("value", [0, 9, 65_535])
    def test_that_the_standard_does_not_know_changes_nothing(self, value):
        tried.count("images")
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = value
        data = encoded(SLOPE, "L", "PNG", exif=exif)
        np.testing.assert_array_equal(image.decode(data)[0], SLOPE)


class TestSizes:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 30_000), (30_000, 1), (2, 30_000)])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_of_one_pixel_or_30_000_in_a_row_are_used(self, shape, kind):
        tried.count("images")
        pixels, _ = image.decode(encoded(np.full(shape, 90, "uint8"), "L", kind))
        assert pixels.shape == shape and (pixels == 90).all()
        for square in (image.squash, image.letterbox, image.center_crop):
            assert square(pixels, 8).max() == 90

    def test_just_over_the_limit_are_rejected(self, monkeypatch):
        monkeypatch.setattr(image, "MAX_PIXELS", NOISE.size - 1)
        assert rejected(CORPUS["PNG"]) == "37 x 29 pixels: an X-ray has at most 1,072"
        monkeypatch.setattr(image, "MAX_PIXELS", NOISE.size)
        assert image.decode(CORPUS["PNG"])[0].shape == NOISE.shape


DECODE = """
from cxr.data import image
try:
    print("used", image.decode(Path(sys.argv[1]).read_bytes())[0].shape)
except InputError as error:
    print(error)
"""


def huge() -> dict[str, bytes]:
    """Return small files that declare many pixels."""
    wide = struct.pack(">2L5B", 60_000, 60_000, 8, 0, 0, 0, 0)
    most = struct.pack(">2L5B", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    inflating = zlib.compress(bytes(60_001 * 2000), 9)
    jpeg = CORPUS["JPEG progressive"]
    at = jpeg.index(b"\xff\xc2") + 5
    deflated = {256: [8], 257: [8], 258: [8], 259: [8], 262: [1], 277: [1]}
    tile = {322: [30_000], 323: [30_000], 324: [8], 325: [len(inflating)]}
    return {
        "PNG": png(("IHDR", wide), ("IDAT", inflating), ("IEND", b"")),
        "PNG of the largest size": png(("IHDR", most), ("IDAT", inflating), ("IEND", b"")),
        "JPEG": jpeg[:at] + struct.pack(">2H", 65_500, 65_500) + jpeg[at + 4 :],
        "GIF": b"GIF89a" + struct.pack("<2H", 65_535, 65_535) + CORPUS["GIF"][10:],
        "BMP": CORPUS["BMP"][:18] + struct.pack("<2l", 60_000, 60_000) + CORPUS["BMP"][26:],
        "PPM": b"P5 60000 60000 255\n" + bytes(100),
        "DICOM": dicom(NOISE, Rows=60_000, Columns=60_000),
        "TIFF of one tile": tiff(deflated | tile, inflating),
    }


class TestBombs:
    """Rejecting takes no more memory than Python and its libraries, about 40 MB."""

    @pytest.mark.parametrize("name", huge())
    def test_that_declare_a_huge_size_are_rejected_undecoded(self, name, out):
        tried.count("images")
        (out / "bomb").write_bytes(huge()[name])
        said, memory = tried.peak(DECODE, out / "bomb")
        assert "pixels: an X-ray has at most 40,000,000" in said or "exceeds limit" in said, said
        assert memory < 100

    def test_a_tiff_of_one_endless_strip_takes_no_more_than_its_pixels(self, out):
        tried.count("images")
        tags = {256: [8], 257: [8], 258: [8], 259: [8], 262: [1], 277: [1], 273: [8]}
        strip = zlib.compress(bytes(300_000_000), 9)
        (out / "bomb").write_bytes(tiff(tags | {278: [2**31 - 1], 279: [len(strip)]}, strip))
        said, memory = tried.peak(DECODE, out / "bomb")
        assert said == "used (8, 8)" and memory < 100

    def test_a_progressive_jpeg_of_many_scans_is_rejected(self):
        """Its last scan again and again, a pass over all pixels each time."""
        whole = CORPUS["JPEG progressive"]
        scan = whole[whole.rindex(b"\xff\xda") : -2]
        assert image.decode(whole[:-2] + scan + whole[-2:])[0].shape == NOISE.shape
        assert "more than 100 scans" in rejected(whole[:-2] + scan * 200 + whole[-2:])

    @pytest.mark.parametrize("name", ["PNG RGBA", "JPEG CMYK"])
    def test_the_largest_images_take_the_memory_that_the_limit_promises(self, name, out):
        """30,000 x 1,000 pixels, at most 16 bytes for each."""
        tried.count("images")
        kind, mode = name.split()
        pixels = np.resize(np.arange(251, dtype="uint8"), (1000, 30_000))
        how = {"progressive": True} if kind == "JPEG" else {"compress_level": 1}
        (out / "large").write_bytes(encoded(pixels, mode, kind, **how))
        said, memory = tried.peak(DECODE, out / "large")
        assert said == "used (1000, 30000)"
        assert memory < 100 + 16 * 30

    def test_so_do_the_largest_of_dicom(self, out):
        tried.count("images")
        pixels = np.resize(np.arange(65_536, dtype="uint16"), (1000, 30_000))
        (out / "large").write_bytes(dicom(pixels, WindowCenter=3e4, WindowWidth=6e4))
        said, memory = tried.peak(DECODE, out / "large")
        assert said == "used (1000, 30000)"
        assert memory < 100 + 16 * 30
