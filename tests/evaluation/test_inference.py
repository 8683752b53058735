"""Predictions: the model's own probabilities, of every image and after each phase."""

import numpy as np
import pandas as pd
import pytest

from cxr import augment
from cxr.errors import InputError
from cxr.evaluation.inference import predict as library_predict
from tests.evaluation.spot import (
    BRIGHTNESS,
    IMAGES,
    INDEX,
    MIDDLES,
    NO_PERTURBATION,
    TEST,
    predict,
    write_model,
)
from tests.small import PERTURBATION, SIZE


def by_hand(pixels: np.ndarray, phase: str) -> np.ndarray:
    """Return the probabilities that the weights of a phase give."""
    return 1 / (1 + np.exp((MIDDLES[phase] - pixels) / 30))


def test_images_have_the_probabilities_of_the_last_phase(predicted):
    table = predicted.images
    assert list(table.columns) == ["id", "split", "label", "patient", "probability"]
    columns = ["id", "split", "label", "patient"]
    pd.testing.assert_frame_equal(table[columns], INDEX[columns])
    expected = by_hand(IMAGES[:, 5, 5].astype(float), "finetune")
    np.testing.assert_allclose(table["probability"], expected, atol=1e-6)
    assert expected.std() > 0.1


@pytest.mark.parametrize("phase", MIDDLES)
def test_each_phase_has_the_test_set_with_its_own_weights(predicted, phase):
    rows = predicted.phases[predicted.phases["phase"] == phase]
    assert list(rows.columns) == [
        "phase", "id", "label", "patient", "probability", "perturbed_probability",
    ]  # fmt: skip
    for column in ("id", "label", "patient"):
        assert rows[column].tolist() == INDEX[column][TEST].tolist()
    expected = by_hand(IMAGES[TEST, 5, 5].astype(float), phase)
    np.testing.assert_allclose(rows["probability"], expected, atol=1e-6)


def test_phases_are_in_order_and_the_last_is_that_of_the_images(predicted):
    assert predicted.phases["phase"].unique().tolist() == list(MIDDLES)
    last = predicted.phases[predicted.phases["phase"] == "finetune"]["probability"]
    assert last.tolist() == predicted.images["probability"][TEST].tolist()


def test_images_are_perturbed_before_the_model_sees_them(folder):
    rows = predict(folder, perturbation=BRIGHTNESS).phases
    for phase, found in rows.groupby("phase"):
        _, tones = augment.perturbations(BRIGHTNESS, (SIZE, SIZE), found["id"], 0)
        pixels = np.minimum(IMAGES[TEST, 5, 5] * tones[:, 1], 255)
        np.testing.assert_allclose(
            found["perturbed_probability"], by_hand(pixels, phase), atol=1e-5
        )


def test_no_perturbation_changes_nothing(folder):
    rows = predict(folder, perturbation=NO_PERTURBATION).phases
    np.testing.assert_allclose(rows["perturbed_probability"], rows["probability"], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_the_batch_size_does_not_matter(folder, predicted, batch_size):
    found = predict(folder, batch_size=batch_size)
    for one, other in ((found.images, predicted.images), (found.phases, predicted.phases)):
        pd.testing.assert_frame_equal(one, other, atol=1e-6, check_exact=False)


def test_probabilities_have_seven_digits(predicted):
    for column in (predicted.images["probability"], predicted.phases["perturbed_probability"]):
        assert (column == column.round(7)).all()


def test_a_test_set_of_one_image(folder):
    chosen = [*np.flatnonzero(INDEX["split"] != "test"), TEST[0]]
    found = predict(folder, IMAGES[chosen], INDEX.loc[chosen].reset_index(drop=True))
    assert len(found.images) == len(chosen)
    assert found.phases["phase"].tolist() == list(MIDDLES)


def test_a_model_of_one_phase(tmp_path):
    write_model(tmp_path, {"train": 130})
    assert predict(tmp_path).phases["phase"].unique().tolist() == ["train"]


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="dvc repro"):
        library_predict(tmp_path, IMAGES, INDEX, PERTURBATION, 64, 0)
