"""Batches: images with their labels, in an order that depends on the seed."""

import tracemalloc

import keras
import numpy as np
import pandas as pd
import pytest

from cxr import appearance, augment, seeding
from cxr.errors import InputError
from cxr.training import batches
from tests.small import APPEARANCE, AUGMENTATION, PERTURBATION

COUNT = 23
# Each image is filled with its row's number, from which its label follows.
IMAGES = np.broadcast_to(np.arange(COUNT, dtype="uint8")[:, None, None], (COUNT, 6, 6)).copy()
LABELS = np.arange(COUNT) % 3 // 2
TRAIN = np.array([row for row in range(COUNT) if row % 4])  # 17 rows; the rest is val or test
INDEX = pd.DataFrame({"id": [f"image {row}" for row in range(COUNT)]})
PERTURBATIONS = batches.perturbations(PERTURBATION, IMAGES, INDEX, 0)


def shuffled(
    augmentation=None, seed=0, phase="train", epoch=0, size=5, perturbations=None, steps=None
) -> batches.Shuffled:
    dataset = batches.Shuffled(
        IMAGES, LABELS, TRAIN, size, perturbations, augmentation, steps, seed, phase
    )
    dataset.start_epoch(epoch)
    return dataset


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
        dataset = batches.Ordered(IMAGES, LABELS, TRAIN, 5, with_transforms=True)
        (images, transforms), labels = dataset[3]
        assert images.shape == (2, 6, 6, 1)
        assert labels[:, 0].tolist() == LABELS[TRAIN[-2:]].tolist()
        assert transforms.dtype == np.float32
        assert transforms.tolist() == [[1, 0, 0, 0, 1, 0, 0, 0, 0, 1]] * 2

    def test_is_empty_without_rows(self):
        assert len(batches.Ordered(IMAGES, LABELS, TRAIN[:0], 5)) == 0

    def test_reads_a_memory_mapped_cache(self, tmp_path):
        np.save(tmp_path / "images.npy", IMAGES)
        mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
        images, _ = batches.Ordered(mapped, LABELS, TRAIN, 5)[0]
        assert type(images) is np.ndarray  # a copy of five images, not a view of the file
        assert images[:, 0, 0, 0].tolist() == TRAIN[:5].tolist()


class TestShuffled:
    @pytest.mark.parametrize(("size", "steps"), [(1, 17), (5, 3), (16, 1), (17, 1)])
    def test_gives_only_whole_batches(self, size, steps):
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

    def test_gives_only_images_without_augmentation(self):
        images, _ = shuffled()[0]
        assert (images.dtype, images.shape) == (np.uint8, (5, 6, 6, 1))

    def test_gives_each_image_a_map_of_its_own(self):
        (images, transforms), _ = shuffled(AUGMENTATION)[0]
        assert (images.dtype, images.shape) == (np.uint8, (5, 6, 6, 1))
        assert (transforms.dtype, transforms.shape) == (np.float32, (5, 10))
        assert len(np.unique(transforms[:, 0])) == 5
        assert transforms[:, 8:].tolist() == [[0, 1]] * 5  # grey values stay as they are
        (_, next_batch), _ = shuffled(AUGMENTATION)[1]
        assert not np.any(next_batch[:, :2] == transforms[:, :2])

    def test_each_epoch_has_an_order_of_its_own_and_can_be_repeated(self):
        dataset = shuffled(AUGMENTATION)
        first, maps = order_of(dataset), dataset.matrices(0, 5)
        dataset.start_epoch(1)
        assert order_of(dataset) != first
        assert not np.any(dataset.matrices(0, 5)[:, :2] == maps[:, :2])
        dataset.start_epoch(0)
        assert order_of(dataset) == first
        np.testing.assert_array_equal(dataset.matrices(0, 5), maps)

    def test_shuffles_once_an_epoch(self, monkeypatch):
        drawn, real = [], seeding.generator

        def listen(*purpose):
            drawn.append(purpose)
            return real(*purpose)

        monkeypatch.setattr(seeding, "generator", listen)
        dataset = shuffled(epoch=7)
        order_of(dataset)
        assert drawn == [(0, "order", "train", 0), (0, "order", "train", 7)]

    def test_batches_do_not_depend_on_the_order_of_access(self):
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
    def test_has_another_order_for(self, change):
        assert order_of(shuffled(**change)) != order_of(shuffled())

    def test_refuses_fewer_images_than_a_batch(self):
        with pytest.raises(InputError, match=r"batch_size is 18.*only 17.*at most 17"):
            shuffled(size=18)

    @pytest.mark.parametrize("steps", [1, 2, 3])
    def test_with_fewer_steps_gives_the_start_of_the_epoch(self, steps):
        assert len(shuffled(steps=steps)) == steps
        assert order_of(shuffled(steps=steps)) == order_of(shuffled())[: 5 * steps]

    def test_with_fewer_steps_uses_every_image_in_time(self):
        seen = {row for epoch in range(40) for row in order_of(shuffled(steps=1, epoch=epoch))}
        assert seen == set(TRAIN.tolist())

    def test_refuses_more_steps_than_there_are_batches(self):
        expected = (
            "systems.<name>.phases.clean.steps_per_epoch is 4, but 17 images to train on make "
            "3 batches of 5: give at most 3, or null for all"
        )
        with pytest.raises(InputError) as stop:
            shuffled(steps=4, phase="clean")
        assert str(stop.value) == expected


class TestViews:
    """K maps per image, drawn once; each time an image is trained on, one of them is drawn."""

    RANGES = AUGMENTATION.model_copy(update={"views": 4})
    MAPS = batches.views(RANGES, (6, 6), INDEX["id"], 0)

    def test_belong_to_the_image_and_the_seed(self):
        assert self.MAPS.shape == (4, COUNT, 3, 3)
        assert len(np.unique(self.MAPS.reshape(-1, 9), axis=0)) == 4 * COUNT
        some = batches.views(self.RANGES, (6, 6), INDEX["id"][::-3], 0)
        np.testing.assert_array_equal(some, self.MAPS[:, ::-1][:, ::3])
        assert not np.allclose(batches.views(self.RANGES, (6, 6), INDEX["id"], 1), self.MAPS)

    def test_of_more_views_begin_with_the_same(self):
        fewer = self.RANGES.model_copy(update={"views": 2})
        maps = batches.views(fewer, (6, 6), INDEX["id"], 0)
        np.testing.assert_array_equal(maps, self.MAPS[:2])

    def shuffled(self, epoch: int, features: bool) -> batches.Shuffled:
        """Batches of images with maps; or of features, which hold the row that they stand in."""
        if features:
            rows = np.arange(4 * len(TRAIN) + 9, dtype="float16")[:, np.newaxis]
            labels = np.concatenate([*[LABELS[TRAIN]] * 4, np.ones(9, int)])
            places = np.arange(len(TRAIN))
            dataset = batches.Shuffled(
                rows, labels, places, 5, None, None, None, 0, "train", views=4
            )
        else:
            dataset = batches.Shuffled(
                IMAGES, LABELS, TRAIN, 5, None, self.RANGES, None, 0, "train", maps=self.MAPS
            )
        dataset.start_epoch(epoch)
        return dataset

    @pytest.mark.parametrize("epoch", [1, 2])
    def test_of_images_are_those_of_their_features(self, epoch):
        images, features = self.shuffled(epoch, False), self.shuffled(epoch, True)
        for step in (2, 0, 1):
            (pixels, transforms), labels = images[step]
            held, same_labels = features[step]
            assert held.dtype == np.float32
            view, place = np.divmod(held[:, 0].astype(int), len(TRAIN))
            assert pixels[:, 0, 0, 0].tolist() == TRAIN[place].tolist()
            np.testing.assert_array_equal(labels, same_labels)
            expected = augment.transforms(self.MAPS[view, TRAIN[place]])
            np.testing.assert_array_equal(transforms, expected)

    def test_are_all_used_in_time(self):
        seen = set()
        for epoch in range(60):
            dataset = self.shuffled(epoch, features=True)
            seen |= {row for step in range(3) for row in dataset[step][0][:, 0].tolist()}
        assert seen == set(range(4 * len(TRAIN)))


class TestAppearances:
    """What the augmentation's appearance and original add to a batch."""

    CHANGING = AUGMENTATION.model_copy(update={"appearance": APPEARANCE})
    KEEPING = CHANGING.model_copy(update={"original": 0.4})
    SEEDS = range(30)

    def test_are_six_more_numbers_and_change_no_other(self):
        with_appearance, without = shuffled(self.CHANGING, epoch=2), shuffled(AUGMENTATION, epoch=2)
        for step in (2, 0, 1):
            (images, transforms), labels = with_appearance[step]
            (same_images, same_transforms), same_labels = without[step]
            assert transforms.shape == (5, 16)
            np.testing.assert_array_equal(transforms[:, :10], same_transforms)
            np.testing.assert_array_equal(images, same_images)
            np.testing.assert_array_equal(labels, same_labels)
            drawn = appearance.draw(APPEARANCE, 5, 0, "train", 2, step)
            np.testing.assert_array_equal(transforms[:, 10:], drawn.astype("float32"))

    def test_leave_some_images_as_they_are(self):
        unchanged = [1, 0, 0, 0, 1, 0, 0, 0, 0, 1, *appearance.NEUTRAL]
        share = []
        for seed in self.SEEDS:
            keeping, changing = shuffled(self.KEEPING, seed), shuffled(self.CHANGING, seed)
            for step in range(3):
                given, otherwise = keeping[step][0][1], changing[step][0][1]
                kept = (given == unchanged).all(1)
                np.testing.assert_array_equal(given[~kept], otherwise[~kept])
                share += kept.tolist()
        assert abs(np.mean(share) - 0.4) < 0.08

    def test_of_perturbed_images_come_after_their_tones(self):
        dataset = shuffled(self.CHANGING, perturbations=PERTURBATIONS)
        (_, transforms), _ = dataset[0]
        tones = PERTURBATIONS[1][dataset.rows_of(0)].astype("float32")
        np.testing.assert_array_equal(transforms[:, 8:10], tones)
        assert transforms.shape == (5, 16)

    @pytest.mark.parametrize("ranges", [CHANGING, KEEPING], ids=["all", "with the original"])
    def test_of_views_belong_to_the_image(self, ranges):
        ranges = ranges.model_copy(update={"views": 3})
        looks = batches.appearances(ranges, INDEX["id"], 0)
        maps = batches.views(ranges, (6, 6), INDEX["id"], 0)
        count = 4 if ranges.original else 3
        assert (maps.shape, looks.shape) == ((count, COUNT, 3, 3), (count, COUNT, 6))
        np.testing.assert_array_equal(
            batches.appearances(ranges, INDEX["id"][::-3], 0), looks[:, ::-1][:, ::3]
        )
        if ranges.original:
            np.testing.assert_array_equal(maps[0], np.tile(np.eye(3), (COUNT, 1, 1)))
            np.testing.assert_array_equal(looks[0], np.tile(appearance.NEUTRAL, (COUNT, 1)))
        plain = ranges.model_copy(update={"original": 0.0, "appearance": None})
        np.testing.assert_array_equal(maps[-3:], batches.views(plain, (6, 6), INDEX["id"], 0))
        assert batches.appearances(plain, INDEX["id"], 0) is None

    def test_of_features_and_images_are_the_same_views(self):
        ranges = self.KEEPING.model_copy(update={"views": 3})
        looks = batches.appearances(ranges, INDEX["id"], 0)
        maps = batches.views(ranges, (6, 6), INDEX["id"], 0)
        rows = np.arange(4 * len(TRAIN), dtype="float16")[:, np.newaxis]
        first = []
        for seed in self.SEEDS:
            features = batches.Shuffled(
                rows, np.tile(LABELS[TRAIN], 4), np.arange(len(TRAIN)), 5, None, None, None, seed,
                "train", views=4, original=0.4,
            )  # fmt: skip
            images = batches.Shuffled(
                IMAGES, LABELS, TRAIN, 5, None, ranges, None, seed, "train", maps=maps,
                appearances=looks,
            )  # fmt: skip
            for step in range(3):
                view, place = np.divmod(features[step][0][:, 0].astype(int), len(TRAIN))
                (pixels, transforms), _ = images[step]
                assert pixels[:, 0, 0, 0].tolist() == TRAIN[place].tolist()
                drawn = (each[view, TRAIN[place]] for each in (maps, looks))
                maps_drawn, looks_drawn = drawn
                expected = augment.transforms(maps_drawn, None, looks_drawn)
                np.testing.assert_array_equal(transforms, expected)
                first += view.tolist()
        shares = np.bincount(first, minlength=4) / len(first)
        np.testing.assert_allclose(shares, [0.4, 0.2, 0.2, 0.2], atol=0.08)


class TestPerturbations:
    def test_belongs_to_the_image_and_not_to_its_row(self):
        turned = batches.perturbations(PERTURBATION, IMAGES, INDEX[::-1].reset_index(drop=True), 0)
        for of_all, of_all_turned in zip(PERTURBATIONS, turned, strict=True):
            np.testing.assert_array_equal(of_all_turned[::-1], of_all)
            assert len(np.unique(of_all.reshape(COUNT, -1), axis=0)) == COUNT

    @pytest.mark.parametrize(
        "dataset",
        [
            pytest.param(
                batches.Ordered(IMAGES, LABELS, TRAIN[::-1], 5, PERTURBATIONS), id="ordered"
            ),
            pytest.param(shuffled(perturbations=PERTURBATIONS), id="shuffled"),
        ],
    )
    def test_is_given_with_its_image(self, dataset):
        """The images stay as they are: the model perturbs them."""
        for step in range(len(dataset)):
            (images, transforms), labels = dataset[step]
            rows = rows_in(dataset[step])
            assert images.dtype == np.uint8
            assert labels[:, 0].tolist() == LABELS[rows].tolist()
            expected = augment.transforms(*(of_all[rows] for of_all in PERTURBATIONS))
            np.testing.assert_array_equal(transforms, expected)

    def test_stays_the_same_each_epoch(self):
        by_row = {}
        for epoch in range(3):
            dataset = shuffled(perturbations=PERTURBATIONS, epoch=epoch)
            for row, transform in zip(rows_in(dataset[0]), dataset[0][0][1], strict=True):
                assert by_row.setdefault(row, transform.tolist()) == transform.tolist()
        assert len(by_row) < 15  # some rows were in two epochs

    def test_comes_before_the_augmentation(self):
        """Perturbed, then augmented: in one interpolation by the batch, in two by this test."""
        side, count = 64, 8
        y, x = np.mgrid[:side, :side] / side
        image = 128 + 50 * np.sin(3 * x + 2 * y) + 50 * np.cos(4 * y - x)
        images = np.repeat(image[np.newaxis].round().astype("uint8"), count, axis=0)
        changes = {"width_shift": 0.2, "height_shift": 0.1, "shear": 5, "zoom": 0.3}
        ranges = AUGMENTATION.model_copy(update=changes)
        perturbations = batches.perturbations(PERTURBATION, images, INDEX[:count], 0)
        dataset = batches.Shuffled(
            images, LABELS, np.arange(count), count, perturbations, ranges, None, 0, "perturbed"
        )
        rows, (inputs, _) = dataset.rows_of(0), dataset[0]
        augmenting, perturbing = dataset.matrices(0, count), perturbations[0][rows]
        at_once = np.asarray(augment.transform_images(*inputs))
        tones = perturbations[1][rows]
        perturbed = augment.transform_images(inputs[0], augment.transforms(perturbing, tones))
        in_two = np.asarray(augment.transform_images(perturbed, augment.transforms(augmenting)))

        # Where a map leads over the edge, the two fill in other pixels.
        outputs = np.stack([*np.meshgrid(range(side), range(side)), np.ones((side, side))], -1)
        once = np.einsum("nij,hwj->nhwi", augmenting, outputs)
        twice = np.einsum("nij,nhwj->nhwi", perturbing, once)
        inside = ((np.stack([once, twice])[..., :2] // (side - 1)) == 0).all(axis=(0, -1))
        assert inside.mean() > 0.4
        assert np.abs(at_once - in_two)[inside].max() < 3  # of 255; interpolated twice
        exchanged = augment.transforms(augmenting @ perturbing, tones)
        assert (
            np.abs(np.asarray(augment.transform_images(inputs[0], exchanged)) - in_two)[
                inside
            ].max()
            > 30
        )


class TestPredict:
    """The model returns the grey value of each image, and so its row."""

    @staticmethod
    def model(seen: list, with_transforms: bool = False) -> keras.Model:
        class Spy(keras.layers.Layer):
            def call(self, images):
                seen.append(images.shape[0])
                return keras.ops.cast(images, "float32")[:, 3, 3]

        image = keras.Input((6, 6, 1), dtype="uint8")
        transform = keras.Input((augment.TRANSFORM,), dtype="float32")
        if not with_transforms:
            return keras.Model(image, Spy()(image))
        return keras.Model([image, transform], Spy()(augment.transform_images(image, transform)))

    @pytest.mark.parametrize("size", [4, 6, 17, 64])
    def test_gives_the_rows_in_their_order_in_batches_of_one_size(self, size):
        seen: list = []
        model = self.model(seen)
        given = batches.predict(model, IMAGES, TRAIN[::-1], size)
        assert (given.dtype, given[:, 0].tolist()) == (np.float32, TRAIN[::-1].tolist())
        batches.predict(model, IMAGES, TRAIN[:3], size)
        assert set(seen) - {None} == {size}  # None: while the model was built

    def test_gives_each_image_its_own_perturbation(self):
        maps, tones = PERTURBATIONS
        model = self.model([], with_transforms=True)
        given = batches.predict(model, IMAGES, TRAIN, 5, PERTURBATIONS)
        moved = augment.transform_images(
            IMAGES[TRAIN][..., np.newaxis], augment.transforms(maps, tones)[TRAIN]
        )
        np.testing.assert_allclose(given, np.asarray(moved)[:, 3, 3], atol=1e-4)
        assert not np.allclose(given[:, 0], TRAIN)

    def test_needs_the_memory_of_the_result_and_one_batch(self):
        images = np.zeros((64, 6, 6), "uint8")
        image = keras.Input((6, 6, 1), dtype="uint8")
        wide = keras.layers.UpSampling2D(64)(keras.layers.Rescaling(1.0)(image))
        model = keras.Model(image, wide)
        result = 64 * 384 * 384 * 4
        batches.predict(model, images, np.arange(4), 4)  # TensorFlow's one-time allocations
        tracemalloc.start()
        batches.predict(model, images, np.arange(64), 4)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert result < peak < 1.2 * result
