"""A trained model's folder: loading restores the model, and the bytes are stable."""

import json

import keras
import numpy as np
import pytest

from cxr import augment
from cxr.errors import InputError
from cxr.models import network, store
from tests.small import (
    SIZE,
    SYSTEMS,
    assert_same,
    pixels,
    resnet18,
    system,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("tiny")


def save(model, folder, **before):
    """Save a model as one whose last phase is ``train``."""
    store.save(network.architecture(model), {**before, "train": model.get_weights()}, folder)


def bytes_of(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestSaveAndLoad:
    @pytest.mark.parametrize("make", SYSTEMS)
    def test_loading_restores_the_model_to_the_bit(self, make, tmp_path):
        settings = make()
        model = network.build(settings)
        images = pixels(5, settings.image_size)
        expected = keras.ops.convert_to_numpy(model(images))
        save(model, tmp_path)
        np.testing.assert_array_equal(store.load(tmp_path)(images), expected)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "architecture.json",
            "model.weights.h5",
            "phases",
        ]
        assert [path.name for path in (tmp_path / "phases").iterdir()] == ["index.json"]
        assert store.phases(tmp_path) == ["train"]

    def test_loading_a_phase_restores_its_own_weights(self, tmp_path):
        model = network.build(system())
        before = {
            name: [np.full_like(array, value) for array in model.get_weights()]
            for name, value in (("one", 1), ("two", 2))
        }
        last = model.get_weights()
        save(model, tmp_path, stale=last)
        save(model, tmp_path, **before)
        assert sorted(path.name for path in (tmp_path / "phases").iterdir()) == [
            "index.json",
            "one.weights.h5",
            "two.weights.h5",
        ]
        assert store.phases(tmp_path) == ["one", "two", "train"]
        for name, expected in {**before, "train": last, None: last}.items():
            assert_same(store.load(tmp_path, name).get_weights(), expected)
        assert_same(model.get_weights(), last)
        with pytest.raises(InputError, match="no phase 'stale': it has one, two, train"):
            store.load(tmp_path, "stale")

    def test_weights_of_a_phase_can_be_put_into_a_model(self, tmp_path):
        model = network.build(system())
        before = [np.ones_like(array) for array in model.get_weights()]
        save(model, tmp_path, one=before)
        again = store.load(tmp_path)
        store.restore(again, tmp_path, "one")
        assert_same(again.get_weights(), before)
        (tmp_path / "phases" / "one.weights.h5").unlink()
        with pytest.raises(InputError, match=r"holds no phases/one\.weights\.h5: run `dvc repro`"):
            store.restore(again, tmp_path, "one")

    def test_the_same_weights_give_the_same_bytes(self, tmp_path):
        written = []
        for name in ("one", "two"):
            keras.backend.clear_session()  # a stage is a process of its own
            keras.utils.set_random_seed(3)
            model = network.build(system())
            augment.with_transforms(network.with_head_output(model))
            save(model, tmp_path / name, before=model.get_weights())
            written.append(bytes_of(tmp_path / name))
        assert written[0] == written[1]
        assert len(written[0]) == 4

    def test_saving_twice_gives_the_same_bytes(self, tmp_path):
        model = network.build(resnet18())  # KerasHub names its layers
        save(model, tmp_path / "one")
        save(model, tmp_path / "two")
        assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")

    @pytest.mark.parametrize("make", SYSTEMS)
    def test_the_architecture_needs_nothing_but_keras(self, make, tmp_path):
        save(network.build(make()), tmp_path)
        text = (tmp_path / store.ARCHITECTURE).read_text()
        assert "cxr" not in text
        assert "keras_hub" not in text
        layers = json.loads(text)["config"]["layers"]
        # Operations of the output, such as Exp, have no public place; Keras finds them by name.
        assert all(layer["module"].startswith("keras.") for layer in layers)
        assert not [layer for layer in layers if ">" in (layer["registered_name"] or "")]

    def test_a_model_trained_in_mixed_bfloat16_loads_as_float32(self, tmp_path):
        keras.backend.clear_session()
        model = network.build(system(), precision="mixed_bfloat16")
        save(model, tmp_path / "mixed")
        keras.backend.clear_session()  # a stage is a process of its own
        plain = network.build(system(), initial=weights_of(model))
        save(plain, tmp_path / "plain")
        assert bytes_of(tmp_path / "mixed") == bytes_of(tmp_path / "plain")
        again = store.load(tmp_path / "mixed")
        assert {layer.compute_dtype for layer in again.layers[1:]} == {"float32"}
        images = pixels(5, SIZE)
        np.testing.assert_array_equal(again(images), plain(images))

    def test_saving_leaves_the_model_and_the_policy_as_they_were(self, tmp_path):
        model = network.build(system(), precision="mixed_bfloat16")
        images = pixels(5, SIZE)
        before, policy = np.array(model(images)), keras.config.dtype_policy().name
        save(model, tmp_path)
        np.testing.assert_array_equal(model(images), before)
        assert keras.config.dtype_policy().name == policy

    @pytest.mark.parametrize("name", [store.ARCHITECTURE, store.WEIGHTS])
    def test_a_folder_without_a_model_is_refused(self, tmp_path, name):
        save(network.build(system()), tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match=f"holds no {name}: run `dvc repro`"):
            store.load(tmp_path)
