"""params.yaml against the published systems."""

import pytest

from cxr import params
from tests.small import AUGMENTATION, PERTURBATION
from tests.test_params import part_of


def dense(units: int, dropout: float) -> params.Dense:
    return params.Dense(units=units, batch_norm=False, dropout=dropout)


ARTICLES = {
    "image_size": 224,
    "augmentation": AUGMENTATION,
    "class_weights": "balanced",
    "head.pool": "flatten",
    "head.dense": (dense(512, 0.4), dense(64, 0.4)),
    "head.output": "sigmoid",
    "phases.train.data": "clean",
    "phases.train.learning_rate": 1e-4,
    "phases.train.epochs": 10_000,
    "phases.train.steps_per_epoch": None,  # int(n / batch)
    "phases.train.early_stopping": params.EarlyStopping(
        monitor="val_loss", patience=10, min_delta=0.0
    ),
    "phases.train.restore": "val_loss",
}
# The published settings of each system; our own choices are left out.
PUBLISHED = {
    "vgg16_transfer": ARTICLES
    | {
        "backbone": "vgg16",
        "weights": "imagenet",
        "batch_size": 62,
        "phases.train.trainable": "above_freeze_blocks",
    },
    "vgg16_scratch": ARTICLES
    | {"backbone": "vgg16", "weights": None, "batch_size": 16, "phases.train.trainable": "all"},
    "vgg16_gap": {
        "backbone": "vgg16",
        "weights": "imagenet",
        "image_size": 224,
        "head.pool": "average",
        "head.dense": (dense(256, 0.5),),
        "head.output": "sigmoid",
        "phases.features.trainable": "head",
        "phases.features.learning_rate": 1e-3,
        "phases.features.epochs": 10,
        "phases.features.early_stopping": None,
        # Its last four layers are block 5: three convolutions and a pooling.
        "phases.finetune.trainable": params.Blocks(blocks=(5,)),
        "phases.finetune.learning_rate": 1e-5,
        "phases.finetune.epochs": 10,
        "phases.finetune.early_stopping": None,
    },
    "resnet18_fc": {
        "backbone": "resnet18",
        "weights": "imagenet",
        "image_size": 128,
        "batch_size": 64,
        "head.output": "log_softmax",
        "phases.train.trainable": "head",
        "phases.train.learning_rate": 1e-4,
        "phases.train.epochs": 5,
        "phases.train.early_stopping": None,
    },
    "cnn": {
        "backbone": "cnn",
        "weights": None,
        "image_size": 150,
        "batch_size": 16,
        "head.pool": "flatten",
        "head.dense": (dense(128, 0.2), dense(64, 0.2)),
        "head.output": "sigmoid_pair",
        "phases.clean.data": "clean",
        "phases.clean.trainable": "all",
        "phases.clean.learning_rate": 1e-3,  # "Adam": its default
        "phases.clean.epochs": 25,
        "phases.clean.steps_per_epoch": 100,
        "phases.clean.plateau": params.Plateau(factor=0.2, patience=3, min_learning_rate=1e-5),
        "phases.clean.early_stopping": params.EarlyStopping(
            monitor="val_loss", patience=15, min_delta=1e-10
        ),
        "phases.clean.restore": "val_accuracy",
        "phases.perturbed.data": "perturbed",
        "phases.perturbed.trainable": params.Last(last=5),
        "phases.perturbed.learning_rate": 1e-3,  # again
        "phases.perturbed.epochs": 20,
        "phases.perturbed.steps_per_epoch": 90,
    },
    "mobilenet_v2": {
        "backbone": "mobilenet_v2",
        "weights": "imagenet",
        "image_size": 224,
        "head.pool": "average",
        "head.dense": (),  # the output alone
        "phases.features.trainable": "head",
        "phases.features.epochs": 10,  # at most
        "phases.features.early_stopping.monitor": "val_accuracy",
        "phases.finetune.trainable": params.FromLayer(from_layer=100),
        "phases.finetune.learning_rate": 1e-5,
    },
}


class TestPublished:
    """params.yaml has the settings that articles, courses and repositories published."""

    @pytest.mark.parametrize(
        ("name", "key", "value"),
        [(name, key, value) for name, keys in PUBLISHED.items() for key, value in keys.items()],
        ids=lambda part: part if isinstance(part, str) else "",
    )
    def test_setting(self, settings, name, key, value):
        assert part_of(settings.system(name), key) == value

    @pytest.mark.parametrize(
        ("name", "phases"),
        [
            ("vgg16_transfer", ["train"]),
            ("vgg16_scratch", ["train"]),
            ("vgg16_gap", ["features", "finetune"]),
            ("resnet18_fc", ["train"]),
            ("cnn", ["clean", "perturbed"]),
            ("mobilenet_v2", ["features", "finetune"]),
        ],
    )
    def test_phases_in_their_order(self, settings, name, phases):
        assert list(settings.system(name).phases) == phases

    def test_perturbation(self, settings):
        assert settings.perturbation == PERTURBATION

    def test_resnets_three_linear_layers_have_batch_norm_and_dropout_between(self, settings):
        hidden = settings.system("resnet18_fc").head.dense
        assert len(hidden) == 2
        assert all(layer.batch_norm and layer.dropout > 0 for layer in hidden)

    @pytest.mark.parametrize("name", ["resnet18_fc", "mobilenet_v2"])
    def test_images_are_flipped_and_rotated_and_nothing_else(self, settings, name):
        ranges = settings.system(name).augmentation.model_dump()
        assert ranges.pop("horizontal_flip") is True
        assert ranges.pop("rotation") > 0
        assert set(ranges.values()) == {0, None}
