"""The files of shifted images: which systems want them, and what training reads."""

import numpy as np
import pandas as pd
import pytest

from cxr import files
from cxr.errors import InputError
from cxr.training import shifted_files
from tests.small import head, phase, regression, system


@pytest.mark.parametrize(
    ("phases", "wanted"),
    [
        ({"probe": regression()}, False),
        ({"train": phase(restore=None)}, False),
        ({"train": phase(restore="val_loss")}, False),
        ({"train": phase(restore="shifted_loss")}, True),
        ({"probe": regression(), "train": phase(restore="shifted_loss")}, True),
        ({"one": phase(restore="shifted_loss"), "two": phase(restore=None)}, True),
    ],
)
def test_a_system_wants_them_if_one_of_its_phases_restores_by_their_loss(phases, wanted):
    assert shifted_files.wanted(system(head=head(), phases=phases)) is wanted


def test_opens_images_labels_and_kinds_row_by_row(tmp_path):
    folder = tmp_path / "tiny" / shifted_files.FOLDER
    folder.mkdir(parents=True)
    images = np.arange(12, dtype="uint8").reshape(3, 2, 2)
    np.save(folder / "images.npy", images)
    index = {"id": list("abc"), "label": [0, 1, 1], "kind": ["blur", "jpeg", "blur"]}
    files.write_csv(folder / "index.csv", pd.DataFrame(index | {"strength": [1, 20, 1]}))
    found = shifted_files.opened(folder)
    assert isinstance(found.images, np.memmap)
    np.testing.assert_array_equal(found.images, images)
    assert found.labels.tolist() == [0, 1, 1]
    assert found.kinds.tolist() == ["blur", "jpeg", "blur"]


def test_without_images_it_says_which_stage_makes_them(tmp_path):
    folder = tmp_path / "tiny" / shifted_files.FOLDER
    shifted_files.write_none(folder)
    assert files.read_csv(folder / "index.csv").empty
    with pytest.raises(InputError, match=r"images.npy is missing: run `dvc repro shifted@tiny`"):
        shifted_files.opened(folder)
