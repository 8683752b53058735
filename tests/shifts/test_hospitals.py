"""Predictions of other archives: their images, prepared as the tensors are."""

import numpy as np
import pytest

from cxr import params
from cxr.data import external as archives
from cxr.data import image, manifest
from cxr.errors import InputError
from cxr.models import store
from cxr.shifts import hospitals, sets
from tests.evaluation.spot import write_model
from tests.small import SIZE

NOISE = np.random.default_rng(0).integers(0, 256, (3, 40, 24)).astype("uint8")


@pytest.fixture
def model(tmp_path):
    write_model(tmp_path / "model", {"train": 130})
    return store.load(tmp_path / "model")


@pytest.fixture
def read(tmp_path, jpeg, make_archive):
    """Read an archive of three images as ``externals/clinic``; return the folder above."""

    def make(*names: str):
        content = dict(zip(names, (jpeg(pixels, kind="PNG") for pixels in NOISE), strict=False))
        given = make_archive("clinic.zip", content)
        required = [name for name in ("NORMAL", "PNEUMONIA") if any(name in n for n in names)]
        own = manifest.build(given, 0.0, required=required)[0].assign(split="train").iloc[:0]
        archives.build("clinic", str(given), 0.0, own, tmp_path / "externals/clinic")
        return tmp_path / "externals"

    return make


@pytest.mark.parametrize("resize", ["squash", "letterbox", "center_crop"])
def test_images_are_brought_to_the_models_size_as_the_tensors_are(model, read, resize):
    folder = read("NORMAL/a.png", "PNEUMONIA/b.png", "PNEUMONIA/c.png")
    (found,) = hospitals.predict(model, folder, ["clinic"], params.Tensors(resize=resize), 2, 0)
    spots = [image.SQUARES[resize](pixels, SIZE)[5, 5].astype(float) for pixels in NOISE]
    expected = 1 / (1 + np.exp((130 - np.array(spots)) / 30))
    np.testing.assert_allclose(found["probability"], expected, atol=1e-6)
    assert list(found.columns) == [*sets.COLUMNS, "probability"]
    assert found["label"].tolist() == [0, 1, 1]
    assert set(found["set"]) == set(found["split"]) == {"external"}
    assert set(found["kind"]) == {"clinic"}


def test_of_one_class_and_one_image(model, read):
    folder = read("PNEUMONIA/b.png")
    (found,) = hospitals.predict(model, folder, ["clinic"], params.Tensors(resize="squash"), 64, 0)
    assert found["label"].tolist() == [1]


def test_no_archives_give_no_predictions(model, tmp_path):
    assert hospitals.predict(model, tmp_path, [], params.Tensors(resize="squash"), 64, 0) == []


def test_an_archive_that_was_not_read_is_named(model, tmp_path):
    with pytest.raises(InputError, match=r"clinic/images\.csv is missing"):
        hospitals.predict(model, tmp_path, ["clinic"], params.Tensors(resize="squash"), 64, 0)
