"""Freezing: the published counts, the layers that a rule trains, and the feature extractor."""

import keras
import numpy as np
import pytest

from cxr import augment, params
from cxr.errors import InputError
from cxr.models import freezing, network
from tests.small import (
    ARTICLE,
    cnn,
    head,
    ids,
    no_transforms,
    phase,
    pixels,
    resnet18,
    system,
    vgg16,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("tiny")


VGG16 = {
    block: [f"block{block}_conv{number}" for number in range(1, count + 1)]
    for block, count in enumerate((2, 2, 3, 3, 3), start=1)
}


HEAD_LAYERS = ["head_dense_1", "head_output"]


@pytest.fixture(scope="module")
def article():
    """The article's network at its own size. Made once: 27 million weights."""
    return network.build(vgg16(image_size=224, head=ARTICLE))


@pytest.fixture(scope="module")
def norms():
    """The small CNN, made once."""
    return network.build(cnn())


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
        published = vgg16(phases={"train": phase("above_freeze_blocks")})
        resolved = freezing.resolve(published, freeze_blocks)
        freezing.set_trainable(article, resolved, resolved.phases["train"])
        assert freezing.parameter_counts(article) == {
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
    PROBE_BODY = 616_256  # of Keras's layers up to block_13_expand_BN
    PROBE_HEAD = (64 + 96 + 576) + 1  # channels of its layers

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            (
                "probe",
                (PROBE_BODY + PROBE_HEAD, {"probe": PROBE_HEAD}),
            ),
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
                    # TensorFlow's tutorial on transfer learning trains 1,861,440 weights from layer
                    # 100 on. The scales and offsets of its batch norms stay frozen here.
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
        published = freezing.resolve(settings.system(name), freeze_blocks)
        total, trainable = expected
        model, found = network.build(published), {}
        for name, rules in published.phases.items():
            freezing.set_trainable(model, published, rules)
            found[name] = freezing.parameter_counts(model)
        assert found == {
            name: {"total": total, "trainable": count, "frozen": total - count}
            for name, count in trainable.items()
        }


class TestFeatureExtractor:
    @pytest.mark.parametrize(
        ("settings", "rule", "last"),
        [
            pytest.param(system(), "head", "head_pool", id="before the head"),
            pytest.param(
                system(head=head(dropout=0.1)), "head", "head_pool", id="before a dropout"
            ),
            pytest.param(
                system(head=head(layers=("block1_pool", "block2_conv1"))),
                "head",
                "head_pools",
                id="after the concatenation of several layers",
            ),
            # The head's first layer passes block 2, so features end before it.
            pytest.param(
                system(head=head(layers=("block1_pool", "block2_conv1"))),
                params.Blocks(blocks=(2,)),
                "block1_pool",
                id="before a layer of the head",
            ),
            pytest.param(system(), params.Blocks(blocks=(2,)), "block1_pool", id="before a block"),
            pytest.param(cnn(), params.Last(last=5), "head_pool", id="before the last five"),
            # A skip connection of block 11 passes layer 99.
            pytest.param(
                system(backbone="mobilenet_v2", image_size=32),
                params.FromLayer(from_layer=100),
                "block_10_project_BN",
                id="before a skip connection",
            ),
            # KerasHub has called these layers before.
            pytest.param(
                resnet18(),
                params.Blocks(blocks=(5,)),
                "stack2_block1_out",
                id="in a backbone of KerasHub",
            ),
        ],
    )
    def test_ends_where_training_begins(self, settings, rule, last):
        model = network.build(settings)
        freezing.set_trainable(model, settings, phase(rule))
        whole = network.with_head_output(model)
        frozen, rest = freezing.feature_extractor(whole)
        assert frozen.layers[-1].name == last
        assert not frozen.trainable_weights
        assert ids(rest.trainable_weights) == ids(whole.trainable_weights)
        assert ids(frozen.weights + rest.weights) == ids(whole.weights)
        images = pixels(3, settings.image_size)
        np.testing.assert_array_equal(rest(frozen(images)), whole(images))

    @pytest.mark.parametrize("rule", ["all", "backbone", params.Blocks(blocks=(1,))], ids=str)
    def test_there_is_none_where_the_first_weights_are_trained(self, norms, rule):
        freezing.set_trainable(norms, cnn(), phase(rule))
        assert freezing.feature_extractor(network.with_head_output(norms)) is None


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
    def test_unfreezes_in_vgg16(self, article, rule, blocks):
        trained = freezing.set_trainable(article, vgg16(), phase(rule))
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
    def test_unfreezes_around_batch_norms(self, norms, rule, body):
        assert freezing.set_trainable(norms, cnn(), phase(rule)) == [*body, *self.NORMED_HEAD]

    @pytest.mark.parametrize(
        ("last", "trained"),
        [
            (1, ["head_output"]),
            (4, ["head_norm_1", "head_output"]),
            (5, ["head_dense_1", "head_norm_1", "head_output"]),
        ],
    )
    def test_the_last_layers_may_be_fewer_than_the_heads(self, norms, last, trained):
        assert freezing.set_trainable(norms, cnn(), phase(params.Last(last=last))) == trained

    def test_unfreezes_layers_that_an_earlier_phase_froze(self):
        model = network.build(system())
        freezing.set_trainable(model, system(), phase("head"))
        assert freezing.set_trainable(model, system(), phase("all")) == [
            "block1_conv1", "block2_conv1", *HEAD_LAYERS
        ]  # fmt: skip
        assert freezing.parameter_counts(model)["frozen"] == 0

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
            # The moving statistics of a batch norm that is not listed must not change either.
            pytest.param(cnn, "backbone", [*CONVOLUTIONS, *NORMED_HEAD], id="cnn, the backbone"),
            pytest.param(cnn, "head", NORMED_HEAD, id="cnn, the head"),
            pytest.param(cnn, "all", sorted([*CONVOLUTIONS, *NORMS]) + NORMED_HEAD, id="cnn, all"),
        ],
    )
    def test_a_step_changes_exactly_the_layers_named(self, make, rule, changed):
        settings = make()
        keras.utils.set_random_seed(0)
        model = network.build(settings)
        assert freezing.set_trainable(model, settings, phase(rule)) == changed
        trainer = augment.with_transforms(network.with_head_output(model))
        # Eagerly: tracing a graph takes ten times as long as the step.
        trainer.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy", run_eagerly=True)
        before = weights_of(model)
        transforms = no_transforms(8)
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
            (params.Blocks(blocks=(1, 5)), "block 5, but backbone cnn has 4 blocks"),
            (params.FromLayer(from_layer=13), "layer 13, but backbone cnn has 12 layers"),
            (params.Last(last=19), "layer 19, but the network has 18 layers"),
        ],
        ids=["block", "from_layer", "last"],
    )
    def test_refuses_a_block_or_layer_that_does_not_exist(self, norms, rule, message):
        with pytest.raises(InputError, match=f"trainable names {message}"):
            freezing.set_trainable(norms, cnn(), phase(rule))

    def test_refuses_a_rule_that_was_not_replaced(self, norms):
        with pytest.raises(ValueError, match="must be replaced by blocks first"):
            freezing.set_trainable(norms, cnn(), phase("above_freeze_blocks"))
