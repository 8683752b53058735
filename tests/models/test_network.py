"""The network: the published counts, what a phase may change, and the same model back from disk."""

import functools
import json

import keras
import numpy as np
import pytest

from cxr import augment, models, params
from cxr.errors import InputError
from cxr.models import network
from tests.small import AUGMENTATION, SIZE, TINY, head, phase, system, vgg16

# The first article's head, and VGG16's convolutions in blocks.
ARTICLE = head(
    params.Dense(units=512, batch_norm=False, dropout=0.4),
    params.Dense(units=64, batch_norm=False, dropout=0.4),
    pool="flatten",
)
VGG16 = {
    block: [f"block{block}_conv{number}" for number in range(1, count + 1)]
    for block, count in enumerate((2, 2, 3, 3, 3), start=1)
}
HEAD_LAYERS = ["head_dense_1", "head_output"]
OUTPUTS = ["sigmoid", "sigmoid_pair", "log_softmax"]

pytestmark = pytest.mark.usefixtures("tiny")


def of(output: str, **changes) -> params.System:
    """The tiny system with another output."""
    loss = "negative_log_likelihood" if output == "log_softmax" else "binary_crossentropy"
    return system(head=head(output=output), loss=loss, **changes)


def resnet18(**changes) -> params.System:
    return system(**{"backbone": "resnet18", "image_size": 32} | changes)


def cnn(**changes) -> params.System:
    """A backbone of twelve layers, a third of them batch norms, and a head with one too."""
    norm = head(params.Dense(units=5, batch_norm=True, dropout=0.4))
    return system(**{"backbone": "cnn", "image_size": 46, "head": norm} | changes)


SYSTEMS = [
    pytest.param(system, id="tiny"),
    pytest.param(vgg16, id="vgg16"),
    pytest.param(resnet18, id="resnet18"),
    pytest.param(functools.partial(of, "sigmoid_pair"), id="sigmoid pair"),
    pytest.param(functools.partial(of, "log_softmax"), id="log-softmax"),
]


def pixels(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, size, size, 1)).astype("uint8")


def weights_of(model: keras.Model) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def assert_same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def article():
    """The article's network at its own size. Made once: 27 million weights."""
    return models.build(vgg16(image_size=224, head=ARTICLE))


@pytest.fixture(scope="module")
def norms():
    """The small CNN, made once."""
    return models.build(cnn())


class TestCounts:
    @pytest.mark.parametrize("freeze_blocks", range(6))
    def test_are_those_of_the_published_shapes(self, article, freeze_blocks):
        # Simonyan and Zisserman 2015, configuration D: 3 x 3 convolutions, from 3 channels on.
        blocks, before = [], 3
        for count, channels in zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), strict=True):
            first = 9 * before * channels + channels
            blocks.append(first + (count - 1) * (9 * channels * channels + channels))
            before = channels
        inputs = 7 * 7 * 512  # 224 / 2^5 = 7
        total = sum(blocks) + (inputs * 512 + 512) + (512 * 64 + 64) + (64 + 1)
        frozen = sum(blocks[:freeze_blocks])
        waiting = vgg16(phases={"train": phase("above_freeze_blocks")})
        told = waiting.with_frozen_blocks(freeze_blocks, 5)
        models.set_trainable(article, told, told.phases["train"])
        assert models.parameter_counts(article) == {
            "total": total,
            "trainable": total - frozen,
            "frozen": frozen,
        }

    # The bodies: Keras's summaries, and torchvision's ResNet18 without its last layer but with its
    # moving statistics. The rest layer by layer: kernel + bias, or four vectors of a batch norm, of
    # which two are moving statistics and never count as trainable.
    VGG16_BODY, RESNET18_BODY, MOBILENET_BODY = 14_714_688, 11_176_512 + 9_600, 2_257_984
    GAP_HEAD = (512 * 256 + 256) + (256 + 1)
    FC_HEAD = (512 * 256 + 256) + (256 * 128 + 128) + (128 * 2 + 2) + 4 * (256 + 128)
    CNN_BODY = 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 256) + (64 + 128 + 256 + 256) * (1 + 4)
    CNN_HEAD = (7 * 7 * 256 * 128 + 128) + (128 * 64 + 64) + (64 * 2 + 2)
    MOBILENET_HEAD = 1_281

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("vgg16_transfer", (27_593_153, {"train": 19_957_889})),
            ("vgg16_scratch", (27_593_153, {"train": 27_593_153})),
            (
                "vgg16_gap",
                (
                    VGG16_BODY + GAP_HEAD,
                    {"features": 131_585, "finetune": 131_585 + 3 * (9 * 512 * 512 + 512)},
                ),
            ),
            ("resnet18_fc", (RESNET18_BODY + FC_HEAD, {"train": FC_HEAD - 2 * (256 + 128)})),
            (
                "cnn",
                (
                    CNN_BODY + CNN_HEAD,
                    {"clean": CNN_BODY + CNN_HEAD - 2 * 704, "perturbed": CNN_HEAD},
                ),
            ),
            (
                "mobilenet_v2",
                (
                    MOBILENET_BODY + MOBILENET_HEAD,
                    # TensorFlow's tutorial on transfer learning frees 1,861,440 from layer 100 on,
                    # of which the scales and offsets of batch norms stay frozen here.
                    {
                        "features": MOBILENET_HEAD,
                        "finetune": 1_861_440
                        - 2 * (576 + 96 + 2 * 576 + 96 + 2 * 576 + 160)
                        - 2 * (2 * (2 * 960 + 160) + 2 * 960 + 320 + 1280)
                        + MOBILENET_HEAD,
                    },
                ),
            ),
            (
                "mobilenet_v2_scratch",
                (MOBILENET_BODY + MOBILENET_HEAD, {"train": 2_223_872 + MOBILENET_HEAD}),
            ),
        ],
    )
    def test_are_those_of_every_published_phase(self, settings, name, expected):
        freeze_blocks = 4 if name == "vgg16_transfer" else None
        published = settings.system(name).with_frozen_blocks(freeze_blocks, 5)
        total, trainable = expected
        model, found = models.build(published), {}
        for name, rules in published.phases.items():
            models.set_trainable(model, published, rules)
            found[name] = models.parameter_counts(model)
        assert found == {
            name: {"total": total, "trainable": free, "frozen": total - free}
            for name, free in trainable.items()
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
            assert type(layer).__module__.startswith("keras.src."), layer.name

    @pytest.mark.parametrize(
        ("pool", "features"), [("flatten", 4 * 4 * 6), ("average", 6), ("max", 6)]
    )
    def test_lays_the_head_as_told(self, pool, features):
        dense = (
            params.Dense(units=7, batch_norm=False, dropout=0.5),
            params.Dense(units=3, batch_norm=True, dropout=0.0),
        )
        model = models.build(system(head=head(*dense, pool=pool, dropout=0.1)))
        names = [layer.name for layer in model.layers if layer.name.startswith("head_")]
        assert names == [
            "head_pool", "head_dropout", "head_dense_1", "head_dropout_1", "head_dense_2",
            "head_norm_2", "head_relu_2", "head_output",
        ]  # fmt: skip
        assert model.get_layer("head_pool").output.shape == (None, features)
        assert model.get_layer("head_dropout").rate == 0.1
        assert model.get_layer("head_dense_1").kernel.shape == (features, 7)
        assert model.get_layer("head_dense_1").activation is keras.activations.relu
        assert model.get_layer("head_dropout_1").rate == 0.5
        assert model.get_layer("head_dense_2").kernel.shape == (7, 3)
        assert model.get_layer("head_dense_2").activation is keras.activations.linear
        assert model.get_layer("head_output").kernel.shape == (3, 1)

    @pytest.mark.parametrize(
        ("output", "shape"),
        [("sigmoid", (6, 1)), ("sigmoid_pair", (6, 2)), ("log_softmax", (6, 2))],
    )
    def test_takes_a_head_without_hidden_layers(self, output, shape):
        model = models.build(of(output))
        assert [n.name for n in model.layers if n.weights][2:] == ["head_output"]
        assert model.get_layer("head_output").kernel.shape == shape

    def test_puts_the_initial_weights_into_the_backbone_alone(self):
        source = TINY.imagenet()
        keras.utils.set_random_seed(1)
        model = models.build(system(), initial=weights_of(source))
        keras.utils.set_random_seed(1)
        random = models.build(system())
        for layer in model.layers:
            donor = random if layer.name.startswith("head_") else source
            if layer.weights:
                assert_same(layer.get_weights(), donor.get_layer(layer.name).get_weights())

    @pytest.mark.parametrize("make", SYSTEMS)
    def test_computes_in_bfloat16_but_for_pixels_and_probability(self, make):
        before = keras.config.dtype_policy().name
        settings = make()
        model = models.build(settings, precision="mixed_bfloat16")
        assert keras.config.dtype_policy().name == before
        for layer in model.layers:
            if layer.name in ("as_float", "preprocess", "head_output"):
                assert layer.compute_dtype == "float32", layer.name
            elif layer.weights:
                assert layer.compute_dtype == "bfloat16", layer.name
        assert {weight.dtype for weight in model.weights} == {"float32"}
        assert model(pixels(2, settings.image_size)).dtype == "float32"

    def test_refuses_an_unknown_backbone(self):
        with pytest.raises(InputError, match="no backbone 'nothing'"):
            models.build(system(backbone="nothing"))


class TestOutput:
    """From logits by hand: one where NORMAL is likelier, one close, one where nobody knows."""

    LOGITS = np.array([[2.0, -1.0], [0.3, 0.4], [0.0, 0.0]])

    def scores(self, output: str) -> np.ndarray:
        """What a head of that output makes of the logits, by the formula."""
        sigmoids = 1 / (1 + np.exp(-self.LOGITS))
        exponentials = np.exp(self.LOGITS)
        return {
            "sigmoid": sigmoids[:, 1:],
            "sigmoid_pair": sigmoids,
            "log_softmax": np.log(exponentials / exponentials.sum(axis=1, keepdims=True)),
        }[output]

    def probabilities(self, output: str) -> np.ndarray:
        normal, pneumonia = 1 / (1 + np.exp(-self.LOGITS.T))
        return {
            "sigmoid": pneumonia,
            "sigmoid_pair": pneumonia / (normal + pneumonia),
            # A softmax of two is the sigmoid of the difference.
            "log_softmax": 1 / (1 + np.exp(self.LOGITS[:, 0] - self.LOGITS[:, 1])),
        }[output][:, np.newaxis]

    @pytest.mark.parametrize("output", OUTPUTS)
    def test_gives_scores_to_train_on_and_pneumonias_probability(self, output):
        model = models.build(of(output))
        last = model.get_layer("head_output")
        kernel, _ = last.get_weights()
        for row in range(len(self.LOGITS)):
            # Without a kernel the bias is the logits; a lone sigmoid has PNEUMONIA's.
            last.set_weights([np.zeros_like(kernel), self.LOGITS[row, -kernel.shape[1] :]])
            scores, probability = models.scores(model)(pixels(1, SIZE)), model(pixels(1, SIZE))
            np.testing.assert_allclose(scores[0], self.scores(output)[row], rtol=1e-5)
            np.testing.assert_allclose(probability[0], self.probabilities(output)[row], rtol=1e-5)

    @pytest.mark.parametrize("output", OUTPUTS)
    def test_probability_is_pneumonias_part(self, output):
        scores = keras.ops.convert_to_tensor(self.scores(output).astype("float32"))
        np.testing.assert_allclose(
            models.probability(scores, output), self.probabilities(output), rtol=1e-5
        )

    def test_a_pair_that_is_sure_of_neither_is_a_half(self):
        assert float(models.probability(keras.ops.zeros((1, 2)), "sigmoid_pair")[0, 0]) == 0.5
        assert float(models.probability(keras.ops.ones((1, 2)), "sigmoid_pair")[0, 0]) == 0.5

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(ValueError, match="softmax"):
            models.probability(keras.ops.zeros((1, 2)), "softmax")


def ids(variables) -> list[int]:
    return [id(variable) for variable in variables]


class TestScores:
    def test_share_the_weights(self):
        model = models.build(of("sigmoid_pair"))
        assert ids(models.scores(model).weights) == ids(model.weights)


class TestSplit:
    @pytest.mark.parametrize(
        ("settings", "rule", "last"),
        [
            pytest.param(system(), "head", "head_pool", id="before the head"),
            pytest.param(
                system(head=head(dropout=0.1)), "head", "head_pool", id="before a dropout"
            ),
            pytest.param(system(), params.Blocks(blocks=(2,)), "block1_pool", id="before a block"),
            pytest.param(cnn(), params.Last(last=5), "head_pool", id="before the last five"),
            # Layer 99 is behind block_11's beginning, which a connection goes around.
            pytest.param(
                system(backbone="mobilenet_v2", image_size=32),
                params.FromLayer(from_layer=100),
                "block_10_project_BN",
                id="where nothing goes around",
            ),
        ],
    )
    def test_cuts_where_training_begins(self, settings, rule, last):
        model = models.build(settings)
        models.set_trainable(model, settings, phase(rule))
        whole = models.scores(model)
        frozen, rest = models.split(whole)
        assert frozen.layers[-1].name == last
        assert not frozen.trainable_weights
        assert ids(rest.trainable_weights) == ids(whole.trainable_weights)
        assert ids(frozen.weights + rest.weights) == ids(whole.weights)
        images = pixels(3, settings.image_size)
        np.testing.assert_array_equal(rest(frozen(images)), whole(images))

    @pytest.mark.parametrize("rule", ["all", "backbone", params.Blocks(blocks=(1,))], ids=str)
    def test_there_is_none_where_the_first_weights_are_trained(self, norms, rule):
        models.set_trainable(norms, cnn(), phase(rule))
        assert models.split(models.scores(norms)) is None


def unmoved(count: int) -> np.ndarray:
    """Transforms that leave images as they are."""
    return augment.transforms(np.tile(np.eye(3), (count, 1, 1)))


class TestWarped:
    @pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
    @pytest.mark.parametrize("output", OUTPUTS)
    def test_without_a_change_it_is_the_plain_model(self, precision, output):
        model = models.build(of(output), precision=precision)
        images = pixels(4, SIZE)
        for part in (model, models.scores(model)):
            found = models.warped(part)([images, unmoved(4)])
            np.testing.assert_array_equal(found, part(images))

    def test_it_warps_between_grey_values_before_the_backbone(self):
        keras.utils.set_random_seed(0)
        model = models.build(system(head=head()))
        model.get_layer("head_output").kernel.assign(np.full((6, 1), 0.02))  # not saturated
        images = pixels(4, SIZE)
        maps = augment.matrices(augment.draw(AUGMENTATION, (SIZE, SIZE), 4, 0), (SIZE, SIZE))
        given = augment.transforms(maps, np.tile([3.5, 0.7], (4, 1)))
        warped = keras.ops.convert_to_numpy(augment.warp(images, given))
        found = keras.ops.convert_to_numpy(models.warped(model)([images, given]))
        inner = keras.Model(model.get_layer("as_float").output, model.output)
        np.testing.assert_allclose(found, inner(warped), atol=1e-7)
        # A uint8 input would have cut the warped pixels to integers.
        assert np.abs(found - inner(np.floor(warped))).min() > 1e-5

    def test_it_shares_the_weights(self):
        model = models.build(system())
        trainer = models.warped(models.scores(model))
        assert ids(trainer.weights) == ids(model.weights)
        models.set_trainable(model, system(), phase("head"))
        assert ids(trainer.trainable_weights) == ids(model.trainable_weights)


class TestSetTrainable:
    @pytest.mark.parametrize(
        ("rule", "blocks"),
        [
            pytest.param("all", {1, 2, 3, 4, 5}, id="all"),
            pytest.param("backbone", {1, 2, 3, 4, 5}, id="the backbone"),
            pytest.param("head", set(), id="the head"),
            pytest.param(params.Blocks(blocks=(5,)), {5}, id="block 5"),
            pytest.param(params.Blocks(blocks=(2, 4)), {2, 4}, id="blocks 2 and 4"),
            pytest.param(params.Blocks(blocks=()), set(), id="no block"),
            # Layer 15 of Keras's VGG16 is block5_conv1: the article's `layers[:15]` are frozen.
            pytest.param(params.FromLayer(from_layer=15), {5}, id="from layer 15"),
        ],
    )
    def test_frees_in_vgg16(self, article, rule, blocks):
        trained = models.set_trainable(article, vgg16(), phase(rule))
        layers = [layer for block in sorted(blocks) for layer in VGG16[block]]
        assert trained == [*layers, "head_dense_1", "head_dense_2", "head_output"]
        assert trained == [n.name for n in article.layers if n.trainable_weights]

    CONVOLUTIONS = ["block1_conv", "block2_conv", "block3_conv", "block4_conv"]
    NORMS = ["block1_norm", "block2_norm", "block3_norm", "block4_norm"]
    NORMED_HEAD = ["head_dense_1", "head_norm_1", "head_output"]

    @pytest.mark.parametrize(
        ("rule", "body"),
        [
            pytest.param(
                "all",
                [name for pair in zip(CONVOLUTIONS, NORMS, strict=True) for name in pair],
                id="all",
            ),
            pytest.param("backbone", CONVOLUTIONS, id="the backbone but for its batch norms"),
            pytest.param("head", [], id="the head and its batch norm"),
            pytest.param(params.Blocks(blocks=(1, 4)), ["block1_conv", "block4_conv"], id="blocks"),
            # Layer 0 is the input, 1 block1_conv, 2 its pooling, 3 its batch norm, 12 the last.
            pytest.param(params.FromLayer(from_layer=0), CONVOLUTIONS, id="from the input"),
            pytest.param(params.FromLayer(from_layer=1), CONVOLUTIONS, id="from layer 1"),
            pytest.param(params.FromLayer(from_layer=2), CONVOLUTIONS[1:], id="from layer 2"),
            pytest.param(params.FromLayer(from_layer=4), CONVOLUTIONS[1:], id="from layer 4"),
            pytest.param(params.FromLayer(from_layer=5), CONVOLUTIONS[2:], id="from layer 5"),
            pytest.param(params.FromLayer(from_layer=12), [], id="from the last layer"),
            # The head has six: pool, dense, norm, relu, dropout, output.
            pytest.param(params.Last(last=6), [], id="the last six"),
            pytest.param(params.Last(last=8), [], id="the last eight"),
            pytest.param(params.Last(last=9), ["block4_conv"], id="the last nine"),
            pytest.param(params.Last(last=18), CONVOLUTIONS, id="the last eighteen"),
        ],
    )
    def test_frees_among_batch_norms(self, norms, rule, body):
        assert models.set_trainable(norms, cnn(), phase(rule)) == [*body, *self.NORMED_HEAD]

    @pytest.mark.parametrize(
        ("last", "freed"),
        [
            (1, ["head_output"]),
            (4, ["head_norm_1", "head_output"]),
            (5, ["head_dense_1", "head_norm_1", "head_output"]),
        ],
    )
    def test_the_last_may_be_less_than_the_head(self, norms, last, freed):
        assert models.set_trainable(norms, cnn(), phase(params.Last(last=last))) == freed

    def test_undoes_what_the_phase_before_had_frozen(self):
        model = models.build(system())
        models.set_trainable(model, system(), phase("head"))
        assert models.set_trainable(model, system(), phase("all")) == [
            "block1_conv1", "block2_conv1", *HEAD_LAYERS
        ]  # fmt: skip
        assert models.parameter_counts(model)["frozen"] == 0

    @pytest.mark.parametrize(
        ("make", "rule", "changed"),
        [
            pytest.param(
                system, "all", ["block1_conv1", "block2_conv1", *HEAD_LAYERS], id="tiny, all"
            ),
            pytest.param(
                system,
                params.Blocks(blocks=(1,)),
                ["block1_conv1", *HEAD_LAYERS],
                id="tiny, block 1",
            ),
            pytest.param(system, "head", HEAD_LAYERS, id="tiny, the head"),
            pytest.param(
                vgg16, params.Blocks(blocks=(5,)), [*VGG16[5], *HEAD_LAYERS], id="vgg16, block 5"
            ),
            # A batch norm that is not listed here keeps its moving statistics too.
            pytest.param(cnn, "backbone", [*CONVOLUTIONS, *NORMED_HEAD], id="cnn, the backbone"),
            pytest.param(cnn, "head", NORMED_HEAD, id="cnn, the head"),
            pytest.param(cnn, "all", sorted([*CONVOLUTIONS, *NORMS]) + NORMED_HEAD, id="cnn, all"),
        ],
    )
    def test_a_step_changes_exactly_the_layers_named(self, make, rule, changed):
        settings = make()
        keras.utils.set_random_seed(0)
        model = models.build(settings)
        assert models.set_trainable(model, settings, phase(rule)) == changed
        trainer = models.warped(models.scores(model))
        # Without a graph: to trace one takes ten times as long as the step.
        trainer.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy", run_eagerly=True)
        before = weights_of(model)
        transforms = unmoved(8)
        transforms[:, 2] = 0.5
        trainer.train_on_batch(
            [pixels(8, settings.image_size), transforms], np.float32([[0], [1]] * 4)
        )
        moved = {
            name: [np.any(old != new) for old, new in zip(before[name], after, strict=True)]
            for name, after in weights_of(model).items()
        }
        # In a layer that is trained every array moves, moving statistics too.
        assert moved == {name: [name in changed] * len(before[name]) for name in before}

    @pytest.mark.parametrize(
        ("rule", "message"),
        [
            (params.Blocks(blocks=(1, 5)), "block 5; backbone cnn has 4 blocks"),
            (params.FromLayer(from_layer=13), "layer 13; backbone cnn has 12 layers"),
            (params.Last(last=19), "layer 19; backbone cnn has 18 layers"),
        ],
        ids=["block", "from_layer", "last"],
    )
    def test_refuses_what_is_not_there(self, norms, rule, message):
        with pytest.raises(InputError, match=f"trainable asks for {message}"):
            models.set_trainable(norms, cnn(), phase(rule))

    def test_refuses_a_rule_that_was_not_replaced(self, norms):
        with pytest.raises(ValueError, match="must be replaced by blocks first"):
            models.set_trainable(norms, cnn(), phase("above_freeze_blocks"))


def bytes_of(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class TestSaveAndLoad:
    @pytest.mark.parametrize("make", SYSTEMS)
    def test_the_model_comes_back_to_the_bit(self, make, tmp_path):
        settings = make()
        model = models.build(settings)
        images = pixels(5, settings.image_size)
        expected = keras.ops.convert_to_numpy(model(images))
        models.save(model, {}, settings, tmp_path)
        np.testing.assert_array_equal(models.load(tmp_path)(images), expected)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "architecture.json",
            "model.weights.h5",
            "phases",
        ]
        assert [path.name for path in (tmp_path / "phases").iterdir()] == ["index.json"]
        assert models.phases(tmp_path) == list(settings.phases)[-1:]

    def test_each_phase_comes_back_with_its_own_weights(self, tmp_path):
        model = models.build(system())
        before = {
            name: [np.full_like(array, value) for array in model.get_weights()]
            for name, value in (("one", 1), ("two", 2))
        }
        last = model.get_weights()
        models.save(model, {"stale": last}, system(), tmp_path)
        models.save(model, before, system(), tmp_path)
        assert sorted(path.name for path in (tmp_path / "phases").iterdir()) == [
            "index.json",
            "one.weights.h5",
            "two.weights.h5",
        ]
        assert models.phases(tmp_path) == ["one", "two", "train"]
        for name, expected in {**before, "train": last, None: last}.items():
            assert_same(models.load(tmp_path, name).get_weights(), expected)
        assert_same(model.get_weights(), last)
        with pytest.raises(InputError, match="no phase 'stale': it has one, two, train"):
            models.load(tmp_path, "stale")

    def test_weights_of_a_phase_can_be_put_into_a_model(self, tmp_path):
        model = models.build(system())
        before = [np.ones_like(array) for array in model.get_weights()]
        models.save(model, {"one": before}, system(), tmp_path)
        again = models.load(tmp_path)
        models.restore(again, tmp_path, "one")
        assert_same(again.get_weights(), before)
        (tmp_path / "phases" / "one.weights.h5").unlink()
        with pytest.raises(InputError, match=r"holds no phases/one\.weights\.h5: run `dvc repro`"):
            models.restore(again, tmp_path, "one")

    def test_the_same_weights_give_the_same_bytes_whatever_was_built_before(self, tmp_path):
        written = []
        for name in ("one", "two"):
            keras.utils.set_random_seed(3)
            model = models.build(system())
            models.warped(models.scores(model))
            models.save(model, {"before": model.get_weights()}, system(), tmp_path / name)
            written.append(bytes_of(tmp_path / name))
            models.build(system(head=ARTICLE))  # counts Keras's automatic names up
        assert written[0] == written[1]
        assert len(written[0]) == 4

    def test_saving_twice_gives_the_same_bytes(self, tmp_path):
        model = models.build(resnet18())  # of which KerasHub names the layers
        models.save(model, {}, resnet18(), tmp_path / "one")
        models.save(model, {}, resnet18(), tmp_path / "two")
        assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")

    @pytest.mark.parametrize("make", SYSTEMS)
    def test_the_architecture_needs_nothing_but_keras(self, make, tmp_path):
        models.save(models.build(make()), {}, make(), tmp_path)
        text = (tmp_path / models.ARCHITECTURE).read_text()
        assert "cxr" not in text
        assert "keras_hub" not in text
        layers = json.loads(text)["config"]["layers"]
        # Operations of the output, such as Exp, have no public place; Keras finds them by name.
        assert all(layer["module"].startswith("keras.") for layer in layers)
        assert not [layer for layer in layers if ">" in (layer["registered_name"] or "")]

    def test_what_mixed_bfloat16_trained_loads_as_float32(self, tmp_path):
        model = models.build(system(), precision="mixed_bfloat16")
        models.save(model, {}, system(), tmp_path / "mixed")
        plain = models.build(system(), initial=weights_of(model))
        models.save(plain, {}, system(), tmp_path / "plain")
        assert bytes_of(tmp_path / "mixed") == bytes_of(tmp_path / "plain")
        again = models.load(tmp_path / "mixed")
        assert {layer.compute_dtype for layer in again.layers[1:]} == {"float32"}
        images = pixels(5, SIZE)
        np.testing.assert_array_equal(again(images), plain(images))

    def test_saving_leaves_the_model_and_the_policy_as_they_were(self, tmp_path):
        model = models.build(system(), precision="mixed_bfloat16")
        images = pixels(5, SIZE)
        before, policy = np.array(model(images)), keras.config.dtype_policy().name
        models.save(model, {}, system(), tmp_path)
        np.testing.assert_array_equal(model(images), before)
        assert keras.config.dtype_policy().name == policy

    @pytest.mark.parametrize("name", [network.ARCHITECTURE, network.WEIGHTS])
    def test_a_folder_without_a_model_is_refused(self, tmp_path, name):
        models.save(models.build(system()), {}, system(), tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match=f"holds no {name}: run `dvc repro`"):
            models.load(tmp_path)
