"""DICOM X-rays: shown as a viewer shows them, or rejected with a reason; and whose they are."""

import re

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLosslessSV1, RLELossless

from cxr.data import dicom as reader
from cxr.data import image, manifest
from cxr.errors import InputError
from tests.dicoms import dicom

SLOPE = np.linspace(0, 255, 6 * 4).round().astype("uint8").reshape(6, 4)  # from black to white
DEEP = np.array([[0, 1000, 2000, 3000, 4095]], dtype="uint16")


def shown(pixels: np.ndarray, **elements: object) -> list[list[int]]:
    decoded, _ = image.decode(dicom(pixels, **elements))
    assert decoded.dtype == np.uint8
    return decoded.tolist()


class TestDecode:
    def test_pixels_of_8_bits_stay_as_they_are(self):
        decoded, mode = image.decode(dicom(SLOPE))
        np.testing.assert_array_equal(decoded, SLOPE)
        assert mode == "DICOM 8"

    def test_monochrome1_is_inverted(self):
        expected = 255 - SLOPE.astype(int)
        assert shown(SLOPE, PhotometricInterpretation="MONOCHROME1") == expected.tolist()

    def test_without_a_window_the_range_of_the_image_is_shown(self):
        deep = np.array([[1000, 2000, 3000]], dtype="uint16")
        assert shown(deep, BitsStored=12, HighBit=11) == [[0, 128, 255]]

    def test_a_window_is_shown_with_its_own_ends(self):
        """PS3.3 C.11.2.1.2: of 2,001 values about 2000.5, 1000 is black and 3000 is white."""
        window = {"WindowCenter": 2000.5, "WindowWidth": 2001, "BitsStored": 12, "HighBit": 11}
        assert shown(DEEP, **window) == [[0, 0, 128, 255, 255]]
        # An image that does not reach the ends is not stretched to them.
        assert shown(DEEP[:, 2:3], **window) == [[128]]

    def test_a_window_is_in_units_after_the_rescale(self):
        window = {"WindowCenter": 0.5, "WindowWidth": 2001, "BitsStored": 12, "HighBit": 11}
        rescale = {"RescaleSlope": 1, "RescaleIntercept": -2000}
        assert shown(DEEP, **window, **rescale) == [[0, 0, 128, 255, 255]]

    def test_of_several_windows_the_first_is_shown(self):
        window = {"WindowCenter": [2000.5, 100], "WindowWidth": [2001, 20], "BitsStored": 12}
        assert shown(DEEP, **window, HighBit=11) == [[0, 0, 128, 255, 255]]

    def test_a_lookup_table_is_shown_with_its_own_ends(self):
        table = Dataset()
        table.LUTDescriptor, table.LUTData = [4, 0, 16], [0, 10, 30, 40]
        table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
        stored = np.array([[1, 2]], dtype="uint8")
        assert shown(stored, VOILUTSequence=[table]) == [[64, 191]]  # 10 and 30 of 40

    def test_one_grey_value_is_black(self):
        assert shown(np.full((2, 2), 7, "uint8")) == [[0, 0], [0, 0]]

    def test_negative_values(self):
        signed = np.array([[-32768, 0, 32767]], dtype="int16")
        assert shown(signed, PixelRepresentation=1) == [[0, 128, 255]]

    def test_a_jpeg_within_is_decoded_as_a_jpeg(self, jpeg):
        compressed = jpeg(SLOPE)
        decoded, _ = image.decode(dicom(SLOPE, jpeg=compressed, WindowCenter=128, WindowWidth=256))
        np.testing.assert_array_equal(decoded, image.decode(compressed)[0])


class TestRejected:
    @pytest.mark.parametrize(
        ("elements", "said"),
        [
            ({"NumberOfFrames": 2}, "has several frames"),
            ({"PhotometricInterpretation": "RGB"}, "DICOM in RGB: an X-ray is in MONOCHROME1 or"),
            ({"SamplesPerPixel": 3}, "an X-ray is in MONOCHROME1"),
            ({"BitsAllocated": 32}, "DICOM with 32 bits allocated"),
            ({"PixelData": None}, "a DICOM file without an image"),
            ({"Rows": 20_000, "Columns": 20_000}, "20000 x 20000 pixels: an X-ray has at most 40,"),
            ({"Rows": 60}, "cannot be decoded: "),  # fewer bytes than pixels
            ({"Rows": None}, "cannot be decoded: "),
            ({"syntax": RLELossless, "jpeg": b"rle"}, "compressed as RLE Lossless: decompress it"),
            ({"syntax": JPEGLosslessSV1, "jpeg": b"lossless"}, "decompress it (gdcmconv --raw)"),
            ({"syntax": DeflatedExplicitVRLittleEndian}, "a deflated DICOM file: save it"),
        ],
    )
    def test_with_the_reason(self, elements, said):
        with pytest.raises(InputError, match=re.escape(said)):
            image.decode(dicom(SLOPE, **elements))

    def test_if_the_jpeg_within_has_another_size(self, jpeg):
        with pytest.raises(InputError, match="says 4 x 6 pixels, but the image has 6 x 4: export"):
            image.decode(dicom(SLOPE, jpeg=jpeg(SLOPE.T.copy())))


class TestPatient:
    def test_is_a_pseudonym_of_the_id_and_its_issuer(self):
        one, same, other, elsewhere = (
            reader.patient(dicom(SLOPE, PatientID=identity, IssuerOfPatientID=issuer))
            for identity, issuer in (("123", "A"), ("123 ", "A"), ("124", "A"), ("123", "B"))
        )
        assert one == same and len({one, other, elsewhere}) == 3
        assert re.fullmatch("dicom-[0-9a-f]{16}", one) and "123" not in one.removeprefix("dicom-")

    @pytest.mark.parametrize("elements", [{}, {"PatientID": ""}, {"PatientID": "  "}])
    def test_is_unknown_without_an_id(self, elements):
        assert reader.patient(dicom(SLOPE, **elements)) is None

    def test_stands_in_the_manifest_in_place_of_the_name(self, make_archive, jpeg):
        """Viewers export IM-0001-0001.dcm, which looks like one of Kermany's patients."""
        files = {
            "NORMAL/IM-0001-0001.dcm": dicom(SLOPE, PatientID="7"),
            "NORMAL/IM-0001-0002.dcm": dicom(SLOPE[::-1]),
            "PNEUMONIA/x.png": jpeg(SLOPE, kind="PNG"),
        }
        rows, rejected = manifest.build(make_archive("a.zip", files), 0)
        assert rejected.empty
        assert list(rows["patient_known"]) == [True, False, False]
        assert rows["patient"][0] == reader.patient(files["NORMAL/IM-0001-0001.dcm"])
        assert list(rows["mode"]) == ["DICOM 8", "DICOM 8", "L"]
        assert rows["pixel_hash"][0] == rows["pixel_hash"][2]  # of the pixels, not the file
