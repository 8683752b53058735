"""The network: the published counts, what a phase may change, and the same model back from disk."""

import json

import keras
import numpy as np
import pytest

from cxr import augment, models, params
from cxr.errors import InputError
from cxr.models import network
from tests.small import AUGMENTATION, SIZE, TINY, phase, system, vgg16

ARTICLE = params.Head(
    pool="flatten",
    dense=(params.Dense(units=512, dropout=0.4), params.Dense(units=64, dropout=0.4)),
)
HEAD_LAYERS = ["head_dense_1", "head_probability"]
SYSTEMS = [pytest.param(system, id="tiny"), pytest.param(vgg16, id="vgg16")]

pytestmark = pytest.mark.usefixtures("tiny")


def pixels(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, size, size, 1)).astype("uint8")


def weights_of(model: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


@pytest.fixture(scope="module")
def article():
    """The article's network at its own size. Made once: 27 million weights."""
    return models.build(vgg16(image_size=224, head=ARTICLE))


class TestCounts:
    # Simonyan and Zisserman 2015, configuration D: 3 x 3 convolutions, channels block by block.
    CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

    def of_blocks(self) -> list[int]:
        counts, before = [], 3
        for block in self.CHANNELS:
            count = 0
            for channels in block:
                count += 3 * 3 * before * channels + channels
                before = channels
            counts.append(count)
        return counts

    def of_head(self) -> int:
        inputs = 7 * 7 * 512  # 224 / 2^5 = 7
        return (inputs * 512 + 512) + (512 * 64 + 64) + (64 + 1)

    @pytest.mark.parametrize("freeze_blocks", range(6))
    def test_are_those_of_the_published_shapes(self, article, freeze_blocks):
        waiting = vgg16(phases={"train": phase("above_freeze_blocks")})
        told = waiting.with_frozen_blocks(freeze_blocks, 5)
        models.set_trainable(article, told, told.phases["train"])
        frozen = sum(self.of_blocks()[:freeze_blocks])
        total = sum(self.of_blocks()) + self.of_head()
        assert models.parameter_counts(article) == {
            "total": total,
            "trainable": total - frozen,
            "frozen": frozen,
        }

    def test_are_the_articles(self, article):
        models.set_trainable(article, vgg16(), phase(params.Blocks(blocks=(5,))))
        assert models.parameter_counts(article) == {
            "total": 27_593_153,
            "trainable": 19_957_889,
            "frozen": 7_635_264,
        }


class TestBuild:
    @pytest.mark.parametrize("make", SYSTEMS)
    def test_takes_raw_xrays_and_gives_probabilities(self, make):
        settings = make()
        size = settings.image_size
        model = models.build(settings)
        assert model.input_shape == (None, size, size, 1)
        assert model.input.dtype == "uint8"
        probabilities = keras.ops.convert_to_numpy(model(pixels(3, size)))
        assert probabilities.shape == (3, 1)
        assert probabilities.dtype == np.float32
        assert np.all((probabilities >= 0) & (probabilities <= 1))

    @pytest.mark.parametrize("make", SYSTEMS)
    def test_is_flat_and_of_keras_own_layers(self, make):
        for layer in models.build(make()).layers:
            assert not isinstance(layer, keras.Model), layer.name
            assert type(layer).__module__.startswith("keras.src.layers."), layer.name

    @pytest.mark.parametrize(
        ("pool", "features"), [("flatten", 4 * 4 * 6), ("average", 6), ("max", 6)]
    )
    def test_lays_the_head_as_told(self, pool, features):
        dense = (params.Dense(units=7, dropout=0.5), params.Dense(units=3, dropout=0.0))
        model = models.build(system(head=params.Head(pool=pool, dense=dense)))
        names = [layer.name for layer in model.layers if layer.name.startswith("head_")]
        assert names == [
            "head_pool", "head_dense_1", "head_dropout_1", "head_dense_2", "head_dropout_2",
            "head_probability",
        ]  # fmt: skip
        assert model.get_layer("head_pool").output.shape == (None, features)
        assert model.get_layer("head_dense_1").kernel.shape == (features, 7)
        assert model.get_layer("head_dense_1").activation is keras.activations.relu
        assert model.get_layer("head_dropout_1").rate == 0.5
        assert model.get_layer("head_dense_2").kernel.shape == (7, 3)
        assert model.get_layer("head_probability").kernel.shape == (3, 1)

    def test_takes_a_head_without_hidden_layers(self):
        model = models.build(system(head=params.Head(pool="max", dense=())))
        assert model.get_layer("head_probability").kernel.shape == (6, 1)

    def test_puts_the_initial_weights_into_the_backbone_alone(self):
        source = TINY.imagenet()
        keras.utils.set_random_seed(1)
        model = models.build(system(), initial=weights_of(source))
        keras.utils.set_random_seed(1)
        random = models.build(system())
        for layer in model.layers:
            donor = random if layer.name.startswith("head_") else source
            if layer.weights:
                for ours, theirs in zip(
                    layer.get_weights(), donor.get_layer(layer.name).get_weights(), strict=True
                ):
                    np.testing.assert_array_equal(ours, theirs)

    def test_computes_in_bfloat16_but_for_pixels_and_probability(self):
        before = keras.config.dtype_policy().name
        model = models.build(system(), precision="mixed_bfloat16")
        assert keras.config.dtype_policy().name == before
        compute = {layer.name: layer.compute_dtype for layer in model.layers}
        assert compute["block1_conv1"] == compute["head_dense_1"] == "bfloat16"
        assert compute["as_float"] == compute["preprocess"] == "float32"
        assert compute["head_probability"] == "float32"
        assert {weight.dtype for weight in model.weights} == {"float32"}
        assert model(pixels(2, SIZE)).dtype == "float32"

    def test_refuses_an_unknown_backbone(self):
        with pytest.raises(InputError, match="no backbone 'nothing'"):
            models.build(system(backbone="nothing"))


class TestAugmented:
    @pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
    def test_with_identity_maps_it_is_the_plain_model(self, precision):
        model = models.build(system(), precision=precision)
        images = pixels(4, SIZE)
        identity = np.tile(np.float32([1, 0, 0, 0, 1, 0, 0, 0]), (4, 1))
        np.testing.assert_array_equal(models.augmented(model)([images, identity]), model(images))

    def test_it_warps_between_grey_values_before_the_backbone(self):
        keras.utils.set_random_seed(0)
        model = models.build(system(head=params.Head(pool="average", dense=())))
        model.get_layer("head_probability").kernel.assign(np.full((6, 1), 0.02))  # not saturated
        images = pixels(4, SIZE)
        maps = augment.matrices(augment.draw(AUGMENTATION, (SIZE, SIZE), 4, 0), (SIZE, SIZE))
        given = augment.transforms(maps)
        warped = keras.ops.convert_to_numpy(augment.AffineAugmentation()([images, given]))
        found = keras.ops.convert_to_numpy(models.augmented(model)([images, given]))
        inner = keras.Model(model.get_layer("as_float").output, model.output)
        np.testing.assert_allclose(found, inner(warped), atol=1e-7)
        # A uint8 input would have cut the warped pixels to integers.
        assert np.abs(found - inner(np.floor(warped))).min() > 1e-5

    def test_it_shares_the_weights(self):
        model = models.build(system())
        trainer = models.augmented(model)
        assert {id(weight) for weight in trainer.weights} == {id(w) for w in model.weights}
        models.set_trainable(model, system(), phase("head"))
        assert {id(weight) for weight in trainer.trainable_weights} == {
            id(weight) for weight in model.trainable_weights
        }


class TestSetTrainable:
    @pytest.mark.parametrize(
        ("rule", "blocks"),
        [
            pytest.param("all", {1, 2, 3, 4, 5}, id="all"),
            pytest.param("head", set(), id="the head"),
            pytest.param(params.Blocks(blocks=(5,)), {5}, id="block 5"),
            pytest.param(params.Blocks(blocks=(2, 4)), {2, 4}, id="blocks 2 and 4"),
            pytest.param(params.Blocks(blocks=()), set(), id="no block"),
        ],
    )
    def test_frees_in_vgg16(self, article, rule, blocks):
        trained = models.set_trainable(article, vgg16(), phase(rule))
        head = ["head_dense_1", "head_dense_2", "head_probability"]
        layers = [
            f"block{block}_conv{number}"
            for block, count in enumerate((2, 2, 3, 3, 3), start=1)
            for number in range(1, count + 1)
            if block in blocks
        ]
        assert trained == layers + head
        assert trained == [n.name for n in article.layers if n.trainable_weights]

    def test_undoes_what_the_phase_before_had_frozen(self):
        model = models.build(system())
        models.set_trainable(model, system(), phase("head"))
        assert models.set_trainable(model, system(), phase("all")) == [
            "block1_conv1", "block2_conv1", *HEAD_LAYERS
        ]  # fmt: skip
        assert models.parameter_counts(model)["frozen"] == 0

    @pytest.mark.parametrize(
        ("make", "rule", "blocks"),
        [
            pytest.param(system, "all", ["block1_conv1", "block2_conv1"], id="tiny, all"),
            pytest.param(system, params.Blocks(blocks=(1,)), ["block1_conv1"], id="tiny, block 1"),
            pytest.param(system, "head", [], id="tiny, the head"),
            pytest.param(
                vgg16,
                params.Blocks(blocks=(5,)),
                ["block5_conv1", "block5_conv2", "block5_conv3"],
                id="vgg16, block 5",
            ),
        ],
    )
    def test_a_step_changes_exactly_the_layers_named(self, make, rule, blocks):
        settings = make()
        keras.utils.set_random_seed(0)
        model = models.build(settings)
        trained = models.set_trainable(model, settings, phase(rule))
        assert trained == [*blocks, *HEAD_LAYERS]
        trainer = models.augmented(model)
        trainer.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy")
        before = weights_of(model)
        size = settings.image_size
        maps = np.tile(np.float32([1, 0, 0.5, 0, 1, 0, 0, 0]), (8, 1))
        trainer.train_on_batch([pixels(8, size), maps], np.float32([[0], [1]] * 4))
        changed = [
            name
            for name, after in weights_of(model).items()
            if any(np.any(a != b) for a, b in zip(after, before[name], strict=True))
        ]
        assert changed == trained

    def test_refuses_a_block_that_is_not_there(self):
        model = models.build(system())
        with pytest.raises(InputError, match=r"blocks has 3; backbone tiny has blocks 1 to 2"):
            models.set_trainable(model, system(), phase(params.Blocks(blocks=(1, 3))))

    def test_refuses_a_rule_that_was_not_replaced(self):
        model = models.build(system())
        with pytest.raises(ValueError, match="must be replaced by blocks first"):
            models.set_trainable(model, system(), phase("above_freeze_blocks"))


class TestSaveAndLoad:
    @pytest.mark.parametrize("make", SYSTEMS)
    def test_the_model_comes_back_to_the_bit(self, make, tmp_path):
        settings = make()
        model = models.build(settings)
        images = pixels(5, settings.image_size)
        expected = model.predict(images, verbose=0)
        models.save(model, settings, tmp_path)
        again = models.load(tmp_path)
        np.testing.assert_array_equal(again.predict(images, verbose=0), expected)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "architecture.json",
            "model.weights.h5",
        ]

    def test_the_same_weights_give_the_same_bytes_whatever_was_built_before(self, tmp_path):
        written = []
        for name in ("one", "two"):
            keras.utils.set_random_seed(3)
            model = models.build(system())
            models.augmented(model)
            models.save(model, system(), tmp_path / name)
            written.append([p.read_bytes() for p in sorted((tmp_path / name).iterdir())])
            models.build(system(head=ARTICLE))  # counts Keras's automatic names up
        assert written[0] == written[1]

    def test_saving_twice_gives_the_same_bytes(self, tmp_path):
        model = models.build(vgg16())
        models.save(model, vgg16(), tmp_path / "one")
        models.save(model, vgg16(), tmp_path / "two")
        for name in (models.ARCHITECTURE, models.WEIGHTS):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

    def test_the_architecture_needs_nothing_of_this_package(self, tmp_path):
        models.save(models.build(system()), system(), tmp_path)
        text = (tmp_path / models.ARCHITECTURE).read_text()
        assert "cxr" not in text
        layers = json.loads(text)["config"]["layers"]
        assert {layer["module"] for layer in layers} == {"keras.layers"}
        assert not [layer for layer in layers if layer["registered_name"] is not None]

    def test_what_mixed_bfloat16_trained_loads_as_float32(self, tmp_path):
        model = models.build(system(), precision="mixed_bfloat16")
        models.save(model, system(), tmp_path / "mixed")
        plain = models.build(system(), initial=weights_of(model))
        models.save(plain, system(), tmp_path / "plain")
        for name in (models.ARCHITECTURE, models.WEIGHTS):
            mixed = (tmp_path / "mixed" / name).read_bytes()
            assert mixed == (tmp_path / "plain" / name).read_bytes(), name
        again = models.load(tmp_path / "mixed")
        assert {layer.compute_dtype for layer in again.layers[1:]} == {"float32"}
        images = pixels(5, SIZE)
        np.testing.assert_array_equal(again(images), plain(images))

    def test_saving_leaves_the_model_and_the_policy_as_they_were(self, tmp_path):
        model = models.build(system(), precision="mixed_bfloat16")
        images = pixels(5, SIZE)
        before, policy = np.array(model(images)), keras.config.dtype_policy().name
        models.save(model, system(), tmp_path)
        np.testing.assert_array_equal(model(images), before)
        assert keras.config.dtype_policy().name == policy

    @pytest.mark.parametrize("name", [network.ARCHITECTURE, network.WEIGHTS])
    def test_a_folder_without_a_model_is_refused(self, tmp_path, name):
        models.save(models.build(system()), system(), tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match=f"holds no {name}: run `dvc repro`"):
            models.load(tmp_path)
