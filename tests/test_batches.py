"""Batches: every image where it belongs, with its label, in an order that the seed decides."""

import numpy as np
import pandas as pd
import pytest

from cxr import batches
from cxr.errors import InputError
from tests.small import AUGMENTATION

COUNT = 23
# Each X-ray is filled with its row's number, each label follows from it.
IMAGES = np.broadcast_to(np.arange(COUNT, dtype="uint8")[:, None, None], (COUNT, 6, 6)).copy()
LABELS = np.arange(COUNT) % 3 // 2
TRAIN = np.array([row for row in range(COUNT) if row % 4])  # 17 rows; the rest is val or test


def shuffled(augmentation=None, seed=0, phase="train", epoch=0, size=5, rows=TRAIN):
    return batches.Shuffled(IMAGES, LABELS, rows, size, augmentation, seed, phase, epoch)


def rows_in(batch) -> list[int]:
    """Read from the pixels which rows a batch holds."""
    inputs, _ = batch
    images = inputs[0] if isinstance(inputs, tuple) else inputs
    assert (images == images[:, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def order_of(dataset) -> list[int]:
    return [row for step in range(len(dataset)) for row in rows_in(dataset[step])]


class TestOrdered:
    def test_gives_every_row_once_in_order(self):
        dataset = batches.Ordered(IMAGES, LABELS, TRAIN, 5)
        assert len(dataset) == 4  # 5 + 5 + 5 + 2
        assert order_of(dataset) == TRAIN.tolist()

    def test_gives_uint8_images_and_float_labels(self):
        images, labels = batches.Ordered(IMAGES, LABELS, TRAIN, 5)[3]
        assert (images.dtype, images.shape) == (np.uint8, (2, 6, 6, 1))
        assert (labels.dtype, labels.shape) == (np.float32, (2, 1))

    def test_gives_identity_maps_to_a_model_that_augments(self):
        (images, transforms), labels = batches.Ordered(IMAGES, LABELS, TRAIN, 5, True)[3]
        assert images.shape == (2, 6, 6, 1)
        assert labels[:, 0].tolist() == LABELS[TRAIN[-2:]].tolist()
        assert transforms.dtype == np.float32
        assert transforms.tolist() == [[1, 0, 0, 0, 1, 0, 0, 0]] * 2

    def test_is_empty_without_rows(self):
        assert len(batches.Ordered(IMAGES, LABELS, TRAIN[:0], 5)) == 0

    def test_reads_a_memory_mapped_cache(self, tmp_path):
        np.save(tmp_path / "images.npy", IMAGES)
        mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
        images, _ = batches.Ordered(mapped, LABELS, TRAIN, 5)[0]
        assert type(images) is np.ndarray  # a copy of five images, no window on the file
        assert images[:, 0, 0, 0].tolist() == TRAIN[:5].tolist()


class TestShuffled:
    @pytest.mark.parametrize(("size", "steps"), [(1, 17), (5, 3), (16, 1), (17, 1)])
    def test_gives_whole_batches_alone(self, size, steps):
        dataset = shuffled(size=size)
        assert len(dataset) == steps
        assert [len(dataset[step][1]) for step in range(steps)] == [size] * steps

    def test_gives_no_row_twice_in_an_epoch_and_none_of_other_splits(self):
        for epoch in range(5):
            order = order_of(shuffled(epoch=epoch))
            assert len(set(order)) == len(order) == 15
            assert set(order) <= set(TRAIN.tolist())

    def test_leaves_out_other_images_each_epoch(self):
        left = {frozenset(TRAIN) - frozenset(order_of(shuffled(epoch=e))) for e in range(8)}
        assert len(left) > 4

    @pytest.mark.parametrize("augmentation", [None, AUGMENTATION], ids=["plain", "augmented"])
    def test_labels_stay_with_their_images(self, augmentation):
        dataset = shuffled(augmentation)
        for step in range(len(dataset)):
            labels = dataset[step][1]
            assert labels.dtype == np.float32
            assert labels[:, 0].tolist() == LABELS[rows_in(dataset[step])].tolist()

    def test_gives_images_alone_where_there_is_no_augmentation(self):
        images, _ = shuffled()[0]
        assert (images.dtype, images.shape) == (np.uint8, (5, 6, 6, 1))

    def test_gives_each_image_a_map_of_its_own(self):
        (images, transforms), _ = shuffled(AUGMENTATION)[0]
        assert (images.dtype, images.shape) == (np.uint8, (5, 6, 6, 1))
        assert (transforms.dtype, transforms.shape) == (np.float32, (5, 8))
        assert len(np.unique(transforms[:, 0])) == 5
        (_, next_batch), _ = shuffled(AUGMENTATION)[1]
        assert not np.any(next_batch[:, :2] == transforms[:, :2])

    def test_takes_a_new_order_each_epoch_and_comes_back_to_the_old_one(self):
        dataset = shuffled(AUGMENTATION)
        first, maps = order_of(dataset), dataset.matrices(0, 5)
        dataset.on_epoch_end()
        assert order_of(dataset) != first
        assert not np.any(dataset.matrices(0, 5)[:, :2] == maps[:, :2])
        began_later = shuffled(AUGMENTATION, epoch=1)
        assert order_of(began_later) == order_of(dataset)
        np.testing.assert_array_equal(began_later.matrices(0, 5), dataset.matrices(0, 5))

    def test_gives_the_same_whatever_order_it_is_asked_in(self):
        forwards, backwards = shuffled(AUGMENTATION), shuffled(AUGMENTATION)
        wanted = [forwards[step] for step in range(3)]
        for step in (2, 0, 1, 1):
            (images, transforms), labels = backwards[step]
            np.testing.assert_array_equal(images, wanted[step][0][0])
            np.testing.assert_array_equal(transforms, wanted[step][0][1])
            np.testing.assert_array_equal(labels, wanted[step][1])

    @pytest.mark.parametrize(
        "change", [{"seed": 1}, {"phase": "finetune"}], ids=["another seed", "another phase"]
    )
    def test_takes_another_order_for(self, change):
        assert order_of(shuffled(**change)) != order_of(shuffled())

    def test_refuses_fewer_images_than_a_batch(self):
        with pytest.raises(InputError, match=r"batch_size is 18.*only 17.*at most 17"):
            shuffled(size=18)


class TestOpenCache:
    @pytest.fixture
    def cache(self, tmp_path):
        """tensors/6, whose ids and patients would be numbers if they were let."""
        folder = tmp_path / "6"
        folder.mkdir()
        np.save(folder / "images.npy", IMAGES)
        index = pd.DataFrame({"id": [f"{row:03d}" for row in range(COUNT)], "label": LABELS})
        index["split"], index["patient"] = "train", "007"
        index.to_csv(folder / "index.csv", index=False)
        return folder

    def test_gives_images_and_the_index_row_by_row(self, cache):
        images, index = batches.open_cache(cache)
        assert isinstance(images, np.memmap)
        np.testing.assert_array_equal(images, IMAGES)
        assert index["label"].tolist() == LABELS.tolist()
        assert index["id"][7] == "007"
        assert index["patient"][0] == "007"

    @pytest.mark.parametrize("name", ["images.npy", "index.csv"])
    def test_says_what_is_missing_and_how_to_make_it(self, cache, name):
        (cache / name).unlink()
        with pytest.raises(InputError, match=f"{name} is missing: run `dvc repro preprocess@6`"):
            batches.open_cache(cache)

    def test_refuses_files_that_do_not_belong_together(self, cache):
        np.save(cache / "images.npy", IMAGES[1:])
        with pytest.raises(InputError, match=r"has 22 X-rays, index.csv 23 rows: run"):
            batches.open_cache(cache)
