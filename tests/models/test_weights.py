"""Weights files: every layout of Keras is read whole, and weights that do not fit are refused."""

import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from cxr.errors import InputError
from cxr.models import backbones, network, origin, weights
from tests.small import TINY, system, tiny_model, weights_of

pytestmark = pytest.mark.usefixtures("tiny")


def assert_same(one: weights.Arrays, other: weights.Arrays) -> None:
    assert one.keys() == other.keys()
    for layer, held in one.items():
        for ours, theirs in zip(held, other[layer], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, by their paths in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write_keras3(path: Path, model: keras.Model) -> Path:
    model.save_weights(path)
    return path


def write_archive(path: Path, model: keras.Model) -> Path:
    model.save(path)
    return path


def write_legacy(path: Path, model: keras.Model) -> Path:
    """Write the layout of Keras 2, which keras.applications still serves."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["keras_version"] = b"2.1.0"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{kind}:0" for kind in ("kernel", "bias")] * bool(layer.weights)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, array in zip(names, layer.get_weights(), strict=True):
                group[name] = array
    return path


@pytest.fixture
def source() -> keras.Model:
    """A backbone whose biases are not zero."""
    model = tiny_model()
    draws = np.random.default_rng(4)
    model.set_weights([draws.normal(size=weight.shape) for weight in model.weights])
    return model


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "weights" / "tiny"


LAYOUTS = [
    pytest.param(write_keras3, "mine.weights.h5", id="Keras 3"),
    pytest.param(write_legacy, "mine.h5", id="earlier Keras"),
    pytest.param(write_archive, "mine.keras", id="a whole model"),
]


def numbered(model: keras.Model) -> keras.Model:
    """Give each array another value, so that no two can be exchanged unnoticed."""
    model.set_weights([np.full(w.shape, n) for n, w in enumerate(model.weights, start=1)])
    return model


class TestAFile:
    @pytest.mark.parametrize(("write", "name"), LAYOUTS)
    def test_is_copied_into_the_folder_and_fills_the_network(
        self, write, name, source, folder, tmp_path
    ):
        path = write(tmp_path / name, source)
        note = weights.resolve(system(weights=str(path)), folder)
        initial = weights.initial(folder)
        assert_same(initial, weights_of(source))
        built = network.build(system(), initial)
        assert_same({name: weights_of(built)[name] for name in initial}, weights_of(source))
        assert note == json.loads((folder / origin.NAME).read_text())
        assert (note["backbone"], note["weights"]) == ("tiny", name)
        assert (folder / weights.FILE).read_bytes() == path.read_bytes()

    def test_is_noted_without_its_path(self, source, folder, tmp_path):
        path = write_keras3(tmp_path / "mine.weights.h5", source)
        weights.resolve(system(weights=str(path)), folder)
        assert str(tmp_path) not in (folder / origin.NAME).read_text()

    def test_gives_the_same_folder_each_time(self, source, tmp_path):
        path = write_keras3(tmp_path / "mine.weights.h5", source)
        for name in ("one", "two"):
            weights.resolve(system(weights=str(path)), tmp_path / name)
        for name in (origin.NAME, weights.FILE):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

    # Keras 3 numbers the groups conv2d, conv2d_1, ..., conv2d_10, and HDF5 sorts them as text.
    @pytest.mark.parametrize(
        ("name", "write", "suffix"),
        [
            ("vgg16", write_keras3, ".weights.h5"),
            ("mobilenet_v2", write_archive, ".keras"),
            ("resnet18", write_keras3, ".weights.h5"),
            ("resnet18", write_archive, ".keras"),
        ],
    )
    def test_of_each_backbone_fills_every_layer_with_its_own_weights(
        self, name, write, suffix, keras_own, folder, tmp_path
    ):
        source = numbered(keras_own(name))
        path = write(tmp_path / f"mine{suffix}", source)
        changes = {"backbone": name, "image_size": 32}
        weights.resolve(system(weights=str(path), **changes), folder)
        built = weights_of(network.build(system(**changes), weights.initial(folder)))
        assert_same({name: built[name] for name in weights_of(source)}, weights_of(source))

    def test_of_the_real_mobilenet_is_read_as_keras_reads_it(self, real_weights, keras_own, folder):
        weights.resolve(
            system(backbone="mobilenet_v2", weights=str(real_weights), image_size=32), folder
        )
        source = keras_own("mobilenet_v2")
        source.load_weights(real_weights)
        assert_same(weights.initial(folder), weights_of(source))


class TestRefused:
    @pytest.fixture
    def refuse(self, folder):
        """Resolve a file that must be refused, see that nothing is left, and give the message."""

        def refuse(path: Path, **changes) -> str:
            with pytest.raises(InputError) as refused:
                weights.resolve(system(weights=str(path), **changes), folder)
            assert not contents(folder)
            return str(refused.value)

        return refuse

    @pytest.mark.parametrize(("write", "name"), LAYOUTS)
    def test_another_architecture_by_the_layers_at_fault(self, write, name, refuse, tmp_path):
        image = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(4, 5, name="block1_conv1")(image)
        x = keras.layers.Conv2D(2, 3, name="block7_conv1")(x)
        path = write(tmp_path / name, keras.Model(image, x))
        message = refuse(path)
        assert f"weights {path} do not fit the backbone" in message
        assert "lacks block2_conv1" in message
        assert "also has block7_conv1" in message
        assert (
            "has block1_conv1 with [(5, 5, 3, 4), (4,)] instead of [(3, 3, 3, 4), (4,)]" in message
        )

    def test_a_classifier_around_the_backbone(self, source, refuse, tmp_path):
        top = keras.layers.Dense(2, name="predictions")(source.output)
        path = write_keras3(tmp_path / "top.weights.h5", keras.Model(source.input, top))
        message = refuse(path)
        assert "also has predictions" in message
        assert "lacks" not in message

    def test_a_smaller_net_names_three_layers_and_counts_the_rest(self, source, refuse, tmp_path):
        path = write_keras3(tmp_path / "small.weights.h5", source)
        changes = {"backbone": "vgg16", "image_size": 32}
        message = refuse(path, **changes)
        assert "lacks block1_conv2, block2_conv2, block3_conv1 and 8 more" in message
        assert "has block1_conv1 with [(3, 3, 3, 4), (4,)]" in message

    @pytest.fixture(scope="class")
    def mobilenet(self, keras_own):
        model = keras_own("mobilenet_v2")
        return model, weights_of(model)

    def test_a_layer_under_another_name(self, mobilenet):
        model, arrays = mobilenet
        renamed = {
            {"block_7_project": "block_7_projection"}.get(n, n): a for n, a in arrays.items()
        }
        with pytest.raises(
            InputError, match=r"the file lacks block_7_project, also has block_7_projection$"
        ):
            weights.check(renamed, model, "mine.h5")

    def test_a_layer_that_is_missing(self, mobilenet):
        model, arrays = mobilenet
        fewer = {name: held for name, held in arrays.items() if name != "bn_Conv1"}
        with pytest.raises(InputError, match=r"the file lacks bn_Conv1$"):
            weights.check(fewer, model, "mine.h5")

    def test_a_missing_file(self, refuse, tmp_path):
        message = refuse(tmp_path / "nowhere.h5")
        assert "nowhere.h5 is not a file" in message
        assert "imagenet" in message

    def test_a_folder(self, refuse, tmp_path):
        (tmp_path / "folder.h5").mkdir()
        assert "folder.h5 is not a file" in refuse(tmp_path / "folder.h5")

    @pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n cut"], ids=repr)
    def test_a_file_that_is_not_hdf5(self, content, refuse, tmp_path):
        path = tmp_path / "broken.h5"
        path.write_bytes(content)
        message = refuse(path)
        assert f"weights {path}: cannot be read as .weights.h5, .h5 or .keras" in message

    def test_a_truncated_file(self, source, refuse, tmp_path):
        path = write_keras3(tmp_path / "cut.weights.h5", source)
        path.write_bytes(path.read_bytes()[:-500])
        assert "cut.weights.h5: cannot be read" in refuse(path)

    def test_a_zip_without_a_model(self, refuse, tmp_path):
        path = tmp_path / "xrays.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("NORMAL/1.jpeg", b"")
        assert "xrays.keras: cannot be read" in refuse(path)

    @pytest.mark.parametrize("damage", ["cut short", "a bit turned"])
    def test_a_damaged_archive(self, damage, source, refuse, tmp_path):
        path = write_archive(tmp_path / "damaged.keras", source)
        content = bytearray(path.read_bytes())
        if damage == "cut short":
            del content[-500:]
        else:
            content[content.index(b"\x89HDF") + 1000] ^= 1
        path.write_bytes(content)
        assert "damaged.keras: cannot be read" in refuse(path)

    def test_hdf5_without_a_layer(self, refuse, tmp_path):
        path = tmp_path / "empty.h5"
        with h5py.File(path, "w") as file:
            file["measurements"] = [1, 2, 3]
        assert "no layer found" in refuse(path)

    def test_hdf5_of_something_else_whose_groups_have_names(self, refuse, tmp_path):
        path = tmp_path / "else.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("patient")
            group.attrs["name"] = "someone"
            group["pulse"] = [70, 71]
        assert "else.h5: cannot be read" in refuse(path)

    def test_a_legacy_file_without_its_weight_names(self, source, refuse, tmp_path):
        path = write_legacy(tmp_path / "torn.h5", source)
        with h5py.File(path, "a") as file:
            del file["block1_conv1"].attrs["weight_names"]
        assert "torn.h5: cannot be read" in refuse(path)


class TestNoWeights:
    def test_leave_only_the_record(self, folder):
        note = origin.write(folder, "tiny", None, None)
        assert note == {"backbone": "tiny", "weights": None, "sha256": None}
        assert list(contents(folder)) == [origin.NAME]
        assert weights.initial(folder) is None

    def test_are_random_even_where_a_file_was_before(self, source, folder, tmp_path):
        path = write_keras3(tmp_path / "mine.weights.h5", source)
        weights.resolve(system(weights=str(path)), folder)
        origin.write(folder, "tiny", None, None)
        assert weights.initial(folder) is None

    def test_are_not_assumed_for_an_empty_folder(self, folder):
        with pytest.raises(InputError, match=r"weights.json is missing: run .*weights@tiny"):
            weights.initial(folder)


class TestImageNet:
    def test_comes_from_keras(self, folder, source, monkeypatch):
        backbone = backbones.Backbone(**vars(TINY) | {"imagenet": lambda: source})
        monkeypatch.setitem(backbones.BACKBONES, "tiny", backbone)
        note = weights.resolve(system(weights="imagenet"), folder)
        assert note["weights"] == "imagenet"
        assert_same(weights.initial(folder), weights_of(source))
        assert sorted(contents(folder)) == [weights.FILE, origin.NAME]

    def test_without_a_network_gives_instructions(self, folder, monkeypatch):
        def fail():
            # keras.utils.get_file raises this for every reason.
            message = "URL fetch failure on https://storage/vgg16.h5: None -- no route to host"
            raise Exception(message)

        backbone = backbones.Backbone(**vars(TINY) | {"imagenet": fail})
        monkeypatch.setitem(backbones.BACKBONES, "tiny", backbone)
        with pytest.raises(InputError) as refused:
            weights.resolve(system(weights="imagenet"), folder)
        message = str(refused.value)
        assert "cannot fetch the ImageNet weights of tiny: URL fetch failure" in message
        assert "weights=/absolute/path" in message
        assert "weights=null" in message
        assert not contents(folder)

    @pytest.mark.parametrize("name", ["VGG16", "MobileNetV2"])
    def test_is_asked_of_keras_without_its_top(self, name, monkeypatch):
        asked = {}
        monkeypatch.setattr(keras.applications, name, lambda **given: asked.update(given))
        backbones.BACKBONES[{"VGG16": "vgg16", "MobileNetV2": "mobilenet_v2"}[name]].imagenet()
        assert (asked["include_top"], asked["weights"]) == (False, "imagenet")

    def test_is_asked_of_kerashub_for_resnet18(self, keras_own, folder, monkeypatch):
        from keras_hub.models import ResNetBackbone

        source = numbered(keras_own("resnet18"))
        presets = {"resnet_18_imagenet": source}
        assert presets.keys() <= ResNetBackbone.presets.keys()
        monkeypatch.setattr(ResNetBackbone, "from_preset", presets.__getitem__)
        weights.resolve(system(backbone="resnet18", weights="imagenet", image_size=32), folder)
        assert_same(weights.initial(folder), weights_of(source))

    def test_there_is_none_for_the_small_cnn(self, folder):
        with pytest.raises(InputError, match="there are no ImageNet weights for cnn: give a path"):
            weights.resolve(system(backbone="cnn", weights="imagenet", image_size=46), folder)


def test_a_failure_leaves_the_earlier_files(source, folder, tmp_path):
    path = write_keras3(tmp_path / "mine.weights.h5", source)
    weights.resolve(system(weights=str(path)), folder)
    before = contents(folder)
    (tmp_path / "broken.h5").write_bytes(b"no")
    with pytest.raises(InputError):
        weights.resolve(system(weights=str(tmp_path / "broken.h5")), folder)
    assert contents(folder) == before
