"""Predictions of shifted images: each by the model, whatever the batches."""

import keras
import numpy as np
import pandas as pd
import pytest

from cxr.errors import InputError
from cxr.shifts import images, sets, shifted
from tests.evaluation.spot import write_model
from tests.memory import peak
from tests.small import SIZE, xrays

IMAGES, INDEX = xrays({"val": (6, 9), "test": (8, 12)})
TASKS = sets.tasks(INDEX, 200, 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> keras.Model:
    from cxr.models import store

    folder = tmp_path_factory.mktemp("model")
    write_model(folder, {"train": 130})
    return store.load(folder)


def by_hand(pixels: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp((130 - pixels[..., 5, 5].astype(float)) / 30))


@pytest.fixture(scope="module")
def predicted(model) -> pd.DataFrame:
    return shifted.predict(model, IMAGES.__getitem__, TASKS, 64, 0)


def test_images_that_are_not_shifted_have_the_models_probability(predicted):
    plain = predicted["kind"] == "none"
    expected = by_hand(IMAGES[TASKS["row"][plain]])
    np.testing.assert_allclose(predicted["probability"][plain], expected, atol=1e-6)
    assert list(predicted.columns) == [*sets.COLUMNS, "probability"]


def test_shifted_images_are_shifted_before_the_model_sees_them(predicted):
    shown = np.stack(
        [
            images.shifted_image(
                IMAGES.__getitem__, sets.Shift(t.kind, t.strength), t.id, t.label, t.row, 0
            )
            for t in TASKS.itertuples()
        ]
    )
    np.testing.assert_allclose(predicted["probability"], by_hand(shown), atol=1e-6)
    assert (predicted["probability"] == predicted["probability"].round(7)).all()


@pytest.mark.parametrize("batch_size", [1, 7, 5000])
def test_the_batch_size_does_not_matter(model, predicted, batch_size):
    found = shifted.predict(model, IMAGES.__getitem__, TASKS[::20], batch_size, 0)
    pd.testing.assert_frame_equal(found, predicted[::20], atol=1e-6, check_exact=False)


def test_the_draws_of_an_image_do_not_depend_on_the_others(predicted):
    noise = sets.Shift("noise", 40)
    one, other = (
        images.shifted_image(IMAGES.__getitem__, noise, "x0001", 0, 1, seed) for seed in (0, 1)
    )
    again = images.shifted_image(lambda _: IMAGES[1], sets.Shift("noise", 40.0), "x0001", 1, 5, 0)
    assert (one != other).any()
    np.testing.assert_array_equal(one, again)


def test_no_tasks_give_no_predictions(model):
    assert shifted.predict(model, IMAGES.__getitem__, TASKS[:0], 64, 0).empty


def test_an_image_that_cannot_be_loaded_ends_it(model):
    def load(row: int) -> np.ndarray:
        raise InputError(f"image {row} is damaged")

    with pytest.raises(InputError, match="is damaged"):
        shifted.predict(model, load, TASKS, 8, 0)


def test_memory_does_not_grow_with_the_number_of_images(model, monkeypatch):
    monkeypatch.setattr(shifted, "cpu_count", lambda: 2)

    def taken(count: int) -> int:
        tasks = pd.concat([TASKS.iloc[:1]] * count)
        load = lambda row: np.zeros((SIZE, SIZE), "uint8")  # noqa: E731
        return peak(lambda: shifted.predict(model, load, tasks, 8, 0))

    # A task is a row of a table, with half a kilobyte; an image would have a quarter more.
    assert taken(2000) - taken(1000) < 1000 * 1000
