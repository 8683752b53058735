"""The cache of X-rays: images and index, which belong together."""

import numpy as np
import pandas as pd
import pytest

from cxr.data.cache import open_cache
from cxr.errors import InputError

COUNT = 23
IMAGES = np.broadcast_to(np.arange(COUNT, dtype="uint8")[:, None, None], (COUNT, 6, 6))
LABELS = np.arange(COUNT) % 2


@pytest.fixture
def cache(tmp_path):
    """tensors/6, with ids and patients that look like numbers."""
    folder = tmp_path / "6"
    folder.mkdir()
    np.save(folder / "images.npy", IMAGES)
    index = pd.DataFrame({"id": [f"{row:03d}" for row in range(COUNT)], "label": LABELS})
    index["split"], index["patient"] = "train", "007"
    index.to_csv(folder / "index.csv", index=False)
    return folder


def test_gives_images_and_the_index_row_by_row(cache):
    images, index = open_cache(cache)
    assert isinstance(images, np.memmap)
    np.testing.assert_array_equal(images, IMAGES)
    assert index["label"].tolist() == LABELS.tolist()
    assert index["id"][7] == "007"
    assert index["patient"][0] == "007"


@pytest.mark.parametrize("name", ["images.npy", "index.csv"])
def test_names_a_missing_file_and_the_stage_that_makes_it(cache, name):
    (cache / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing: run `dvc repro preprocess@6`"):
        open_cache(cache)


def test_refuses_files_that_do_not_belong_together(cache):
    np.save(cache / "images.npy", IMAGES[1:])
    with pytest.raises(InputError, match=r"has 22 X-rays, index.csv 23 rows: run"):
        open_cache(cache)


@pytest.mark.parametrize("left", [0, 5, 200])  # bytes: nothing, in the header, in the pixels
def test_names_a_damaged_file_and_how_to_make_it_again(cache, left):
    data = (cache / "images.npy").read_bytes()
    (cache / "images.npy").write_bytes(data[:left])
    with pytest.raises(InputError, match=r"images.npy cannot be read .*-f preprocess@6`"):
        open_cache(cache)
