"""Archives of other hospitals: read as the source is, with the images that are known marked."""

import numpy as np
import pandas as pd
import pytest

from cxr import files
from cxr.data import external, manifest
from cxr.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 8)).astype("uint8")


@pytest.fixture
def own(jpeg, make_archive) -> pd.DataFrame:
    """The pipeline's archive: an image in each split, and their patients."""
    path = make_archive(
        "own.zip",
        {
            "NORMAL/IM-0001-0001.png": jpeg(NOISE[0], kind="PNG"),
            "PNEUMONIA/person2_virus_1.png": jpeg(NOISE[1], kind="PNG"),
            "PNEUMONIA/person3_virus_1.png": jpeg(NOISE[2], kind="PNG"),
        },
    )
    return manifest.build(path, 0.0)[0].assign(split=["train", "val", "test"])


def test_images_are_listed_with_the_split_that_knows_them(tmp_path, own, jpeg, make_archive):
    given = make_archive(
        "clinic.zip",
        {
            "NORMAL/a.bmp": jpeg(NOISE[0], kind="BMP"),  # the pixels of train, in another file
            "NORMAL/b.png": jpeg(NOISE[3], kind="PNG"),  # a new image, of no known patient
            "PNEUMONIA/person2_virus_9.png": jpeg(NOISE[4], kind="PNG"),  # a patient of val
            "PNEUMONIA/person2_bacteria_9.png": jpeg(NOISE[5], kind="PNG"),  # another child
            "PNEUMONIA/z.png": jpeg(NOISE[2], kind="PNG"),  # the pixels of test
        },
    )
    about = external.build("clinic", str(given), 0.0, own, tmp_path / "out")
    listed = files.read_csv(tmp_path / "out/images.csv")
    assert list(listed.columns) == list(external.COLUMNS)
    assert dict(zip(listed["path"].str.rpartition("/")[2], listed["split"], strict=True)) == {
        "a.bmp": "train", "b.png": "external", "person2_virus_9.png": "val",
        "person2_bacteria_9.png": "external", "z.png": "test",
    }  # fmt: skip
    assert about["counts"] == {"NORMAL": 2, "PNEUMONIA": 3}
    assert about["splits"] == {"external": 2, "test": 1, "train": 1, "val": 1}
    assert about["rejected"] == 0 and about == files.read_json(tmp_path / "out/source.json")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"xrays.zip", "images.csv", "rejected.csv", "source.json"}


def test_train_comes_before_val_and_val_before_test(own):
    same = own.assign(patient="normal-IM-0001", patient_known=True)
    one = own.iloc[:1].assign(patient="normal-IM-0001")
    for splits, expected in (
        (["test", "val", "train"], "train"), (["test", "val", "test"], "val"),
        (["test", "test", "test"], "test"),
    ):  # fmt: skip
        assert external.splits(one, same.assign(split=splits)).tolist() == [expected]


def test_patients_that_are_not_known_are_nobodys(own):
    unknown = own.assign(patient_known=False)
    images = unknown.assign(pixel_hash="other")
    assert set(external.splits(images, own)) == set(external.splits(own.assign(
        pixel_hash="other"), unknown)) == {"external"}  # fmt: skip


def test_one_class_is_enough(tmp_path, own, jpeg, make_archive):
    given = make_archive("sick.zip", {"PNEUMONIA/a.png": jpeg(NOISE[4], kind="PNG")})
    about = external.build("sick", str(given), 0.0, own, tmp_path / "out")
    assert about["counts"] == {"NORMAL": 0, "PNEUMONIA": 1}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"does not exist: .* -S evaluate\.external\.clinic=/absolute/path"),
        ({"other/a.png": b"x"}, "has no image in a folder NORMAL"),
        ({"NORMAL/a.png": b"x"}, "1 of 1 images cannot be used"),
    ],
    ids=["missing", "no class", "damaged"],
)
def test_an_archive_that_cannot_be_used_is_refused(tmp_path, own, make_archive, content, says):
    given = tmp_path / "none.zip" if content is None else make_archive("bad.zip", content)
    with pytest.raises(InputError, match=says):
        external.build("clinic", str(given), 0.0, own, tmp_path / "out")
