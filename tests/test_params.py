"""params.yaml: what is read, and the line that a person reads for everything that is wrong."""

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cxr import params
from cxr.errors import InputError
from tests.small import AUGMENTATION, PERTURBATION, phase, system

ROOT = Path(__file__).resolve().parents[1]
GONE = object()  # in the place of a value: take the key out
RULES = (
    "should be all, backbone, head, above_freeze_blocks, or one alone of blocks: [5], "
    "from_layer: 100, last: 5"
)


@pytest.fixture(scope="module")
def whole() -> dict:
    """The repository's params.yaml as plain data."""
    return yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture
def load(whole, tmp_path) -> Callable[..., params.Params]:
    """Load params.yaml with the value at one dotted key changed."""

    def change(key: str, value: object) -> params.Params:
        raw = copy.deepcopy(whole)
        *above, last = key.split(".")
        place = raw
        for part in above:
            place = place[int(part) if isinstance(place, list) else part]
        last = int(last) if isinstance(place, list) else last
        if value is GONE:
            del place[last]
        else:
            place[last] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        return params.load(path)

    return change


def said(load: Callable[[], object]) -> str:
    with pytest.raises(InputError) as stop:
        load()
    return str(stop.value)


def part_of(settings: object, key: str) -> object:
    """Follow a dotted key through models and dicts."""
    for part in key.split("."):
        settings = settings[part] if isinstance(settings, dict) else getattr(settings, part)
    return settings


def dense(units: int, dropout: float) -> params.Dense:
    return params.Dense(units=units, batch_norm=False, dropout=dropout)


SYSTEM = "systems.vgg16_transfer"
CNN = "systems.cnn"


class TestLoad:
    def test_reads_the_repositorys_own_file(self, settings):
        assert settings.source == "sources/kermany.yaml"
        assert settings.freeze_blocks == 4 and settings.seed == 0
        assert settings.split.test.by_label() == (150, 400)

    def test_takes_params_yaml_of_the_folder_it_runs_in(self, settings, monkeypatch):
        monkeypatch.chdir(ROOT)
        assert params.load() == settings

    def test_gives_what_cannot_be_changed(self, settings):
        with pytest.raises(ValueError, match="frozen"):
            settings.seed = 1

    def test_keeps_the_order_of_phases(self, load, whole):
        phase = whole["systems"]["vgg16_transfer"]["phases"]["train"]
        names = ["warm", "adapt", "a_last"]
        loaded = load(f"{SYSTEM}.phases", dict.fromkeys(names, phase))
        assert list(loaded.systems["vgg16_transfer"].phases) == names

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1e-05", 1e-5),
            ("1e-5", 1e-5),
            ("1.0e-05", 1e-5),
            (".5e-4", 5e-5),
            ("1E-4", 1e-4),
            ("1e-10", 1e-10),
            ("1.0e-10", 1e-10),
            ("1", 1.0),
        ],
    )
    def test_reads_a_float_as_dvc_writes_it(self, tmp_path, text, value):
        """PyYAML alone reads 1e-05, which DVC writes, as text."""
        path = tmp_path / "params.yaml"
        raw = (ROOT / "params.yaml").read_text()
        raw = re.sub(r"(learning_rate|min_delta): [0-9.e-]+", rf"\1: {text}", raw)
        path.write_text(raw)
        phase = params.load(path).systems["cnn"].phases["clean"]
        for found in (phase.learning_rate, phase.early_stopping.min_delta):
            assert found == value and isinstance(found, float)

    @pytest.mark.parametrize(
        ("key", "value", "read"),
        [
            ("phases.train.trainable", {"blocks": [4, 5]}, params.Blocks(blocks=(4, 5))),
            ("phases.train.trainable", {"from_layer": 0}, params.FromLayer(from_layer=0)),
            ("phases.train.trainable", {"last": 1}, params.Last(last=1)),
            ("phases.train.trainable", "head", "head"),
            ("phases.train.trainable", "backbone", "backbone"),
            ("phases.train.early_stopping", None, None),
            ("phases.train.early_stopping.monitor", "val_accuracy", "val_accuracy"),
            ("phases.train.data", "perturbed", "perturbed"),
            ("phases.train.steps_per_epoch", 1, 1),
            ("phases.train.keep", "last", "last"),
            ("head.dropout", 0, 0.0),
            ("head.output", "sigmoid_pair", "sigmoid_pair"),
            ("augmentation", None, None),
            ("class_weights", None, None),
            ("weights", "/a/b.h5", "/a/b.h5"),
            ("head.dense", [], ()),
            ("augmentation.rotation", 7, 7.0),
        ],
        ids=lambda value: str(value),
    )
    def test_takes_every_kind_of_value(self, load, key, value, read):
        assert part_of(load(f"{SYSTEM}.{key}", value), f"{SYSTEM}.{key}") == read

    def test_takes_one_brightness_for_all_films(self, load):
        assert load("perturbation.brightness", [1, 1]).perturbation.brightness == (1.0, 1.0)


class TestRefusal:
    @pytest.mark.parametrize(
        ("key", "nearest"),
        [
            ("freeze_block", "freeze_blocks"),
            ("split.protocoll", "split.protocol"),
            (f"{SYSTEM}.batchsize", f"{SYSTEM}.batch_size"),
            (f"{SYSTEM}.augmentation.rotations", f"{SYSTEM}.augmentation.rotation"),
            (f"{SYSTEM}.phases.train.epoch", f"{SYSTEM}.phases.train.epochs"),
            (
                f"{SYSTEM}.phases.train.early_stopping.patient",
                f"{SYSTEM}.phases.train.early_stopping.patience",
            ),
            (f"{SYSTEM}.head.dense.1.drop_out", f"{SYSTEM}.head.dense.1.dropout"),
            (f"{SYSTEM}.head.dense.1.batchnorm", f"{SYSTEM}.head.dense.1.batch_norm"),
            (f"{SYSTEM}.head.outputs", f"{SYSTEM}.head.output"),
            (f"{CNN}.phases.clean.plateau.factr", f"{CNN}.phases.clean.plateau.factor"),
            ("perturbation.chanel_shift", "perturbation.channel_shift"),
        ],
    )
    def test_of_an_unknown_key_names_the_nearest(self, load, key, nearest):
        found = said(lambda: load(key, 3))
        assert found.endswith(f"params.yaml: {key} is unknown: did you mean {nearest}?")

    @pytest.mark.parametrize(
        ("key", "known"),
        [
            ("split.xyz", "protocol, val, test, max_rejected"),
            ("split.val.normal", "NORMAL, PNEUMONIA"),
        ],
    )
    def test_of_a_key_like_none_names_all_that_are_known(self, load, key, known):
        found = said(lambda: load(key, 3))
        assert f"{key} is unknown: known here are {known}" in found

    @pytest.mark.parametrize(
        "key",
        [
            "seed",
            "split",
            "split.test.PNEUMONIA",
            "perturbation",
            "perturbation.channel_shift",
            "perturbation.brightness",
            "systems",
            f"{SYSTEM}.weights",
            f"{SYSTEM}.augmentation.zoom",
            f"{SYSTEM}.loss",
            f"{SYSTEM}.head.dropout",
            f"{SYSTEM}.head.output",
            f"{SYSTEM}.head.dense.0.units",
            f"{SYSTEM}.head.dense.0.batch_norm",
            f"{SYSTEM}.phases.train.data",
            f"{SYSTEM}.phases.train.trainable",
            f"{SYSTEM}.phases.train.plateau",
            f"{SYSTEM}.phases.train.steps_per_epoch",
            f"{SYSTEM}.phases.train.early_stopping",
            f"{SYSTEM}.phases.train.early_stopping.min_delta",
            f"{SYSTEM}.phases.train.keep",
            f"{CNN}.phases.clean.plateau.factor",
        ],
    )
    def test_of_a_missing_key_names_it(self, load, key):
        assert said(lambda: load(key, GONE)).endswith(
            f"params.yaml: {key} is missing: give it a value"
        )

    @pytest.mark.parametrize(
        ("key", "value", "allowed"),
        [
            ("seed", "0", "valid integer"),
            ("seed", True, "valid integer"),
            ("seed", 1.5, "valid integer"),
            ("seed", -1, "greater than or equal to 0"),
            ("freeze_blocks", 6, "less than or equal to 5"),
            ("freeze_blocks", None, "valid integer"),
            ("source", "", "at least 1 character"),
            ("source", 7, "valid string"),
            ("split", "grouped", "object"),
            ("split", None, "object"),
            ("split.protocol", "patient", "'grouped', 'image' or 'official'"),
            ("split.val.NORMAL", 0, "greater than or equal to 1"),
            ("split.max_rejected", 1.1, "less than or equal to 1"),
            ("tensors.resize", "crop", "'squash', 'letterbox' or 'center_crop'"),
            ("perturbation", None, "object"),
            ("perturbation.rotation", 181, "less than or equal to 180"),
            ("perturbation.shear", 90, "less than 90"),
            ("perturbation.zoom", 1, "less than 1"),
            ("perturbation.horizontal_flip", 1, "valid boolean"),
            ("perturbation.channel_shift", 256, "less than or equal to 255"),
            ("perturbation.channel_shift", -1, "greater than or equal to 0"),
            ("perturbation.brightness", 1.5, "valid array"),
            ("perturbation.brightness", [1, 2, 3], "at most 2 items"),
            ("training.precision", "float16", "'auto', 'float32' or 'bfloat16'"),
            ("training.require_gpu", 1, "valid boolean"),
            ("training.require_gpu", "yes", "valid boolean"),
            ("evaluate.threshold", 1, "less than 1"),
            ("evaluate.threshold", 0, "greater than 0"),
            ("tracking.experiment", "", "at least 1 character"),
            ("systems", {}, "at least 1 item"),
            ("systems", [1], "object"),
            (f"{SYSTEM}.image_size", 0, "greater than or equal to 1"),
            (f"{SYSTEM}.image_size", "224", "valid integer"),
            (f"{SYSTEM}.class_weights", "even", "'balanced'"),
            (f"{SYSTEM}.augmentation.rotation", 181, "less than or equal to 180"),
            (f"{SYSTEM}.augmentation.width_shift", 1, "less than 1"),
            (f"{SYSTEM}.augmentation.zoom", float("nan"), "finite number"),
            (f"{SYSTEM}.augmentation", "strong", "object"),
            (f"{SYSTEM}.head.pool", "mean", "'flatten', 'average' or 'max'"),
            (f"{SYSTEM}.head.dropout", 1, "less than 1"),
            (f"{SYSTEM}.head.output", "softmax", "'sigmoid', 'sigmoid_pair' or 'log_softmax'"),
            (f"{SYSTEM}.head.dense.1.dropout", 1, "less than 1"),
            (f"{SYSTEM}.head.dense.1.batch_norm", 1, "valid boolean"),
            (f"{SYSTEM}.loss", "nll", "'binary_crossentropy' or 'negative_log_likelihood'"),
            (f"{SYSTEM}.phases", {}, "at least 1 item"),
            (f"{SYSTEM}.phases.train.learning_rate", 0, "greater than 0"),
            (f"{SYSTEM}.phases.train.learning_rate", "fast", "valid number"),
            (f"{SYSTEM}.phases.train.learning_rate", float("inf"), "finite number"),
            (f"{SYSTEM}.phases.train.data", "dirty", "'clean' or 'perturbed'"),
            (f"{SYSTEM}.phases.train.plateau", 3, "object"),
            (f"{SYSTEM}.phases.train.steps_per_epoch", 0, "greater than or equal to 1"),
            (f"{SYSTEM}.phases.train.steps_per_epoch", 1.5, "valid integer"),
            (f"{SYSTEM}.phases.train.early_stopping.monitor", "loss", "'val_loss' or 'val_acc"),
            (f"{SYSTEM}.phases.train.early_stopping.patience", 0, "greater than or equal to 1"),
            (f"{SYSTEM}.phases.train.early_stopping.min_delta", -1, "greater than or equal to 0"),
            (f"{SYSTEM}.phases.train.keep", "best", "'val_loss', 'val_accuracy' or 'last'"),
            (f"{CNN}.phases.clean.plateau.factor", 1, "less than 1"),
            (f"{CNN}.phases.clean.plateau.patience", 0, "greater than or equal to 1"),
            (f"{CNN}.phases.clean.plateau.min_learning_rate", -1, "greater than or equal to 0"),
        ],
        ids=lambda value: str(value),
    )
    def test_of_a_value_names_key_value_and_what_is_allowed(self, load, key, value, allowed):
        found = said(lambda: load(key, value))
        assert f"params.yaml: {key} is " in found
        assert allowed in found.split(f"{key} is ", 1)[1]
        shown = {"nan": "nan", "inf": "inf"}.get(str(value), repr(value))
        assert shown.lower() in found.lower()

    @pytest.mark.parametrize(
        ("rule", "answer"),
        [
            ("heads", " is 'heads': input should be 'all', 'backbone', 'head' or 'above_freeze_bl"),
            ({"lst": 5}, f" is {{'lst': 5}}: {RULES}"),
            ([5], f" is [5]: {RULES}"),
            (5, f" is 5: {RULES}"),
            (None, f" is None: {RULES}"),
            ({}, f" is {{}}: {RULES}"),
            ({"blocks": [4, 0]}, ".blocks.1 is 0: input should be greater than or equal to 1"),
            ({"blocks": 5}, ".blocks is 5: input should be a valid array"),
            ({"from_layer": -1}, ".from_layer is -1: input should be greater than or equal to 0"),
            ({"last": 0}, ".last is 0: input should be greater than or equal to 1"),
            ({"last": "5"}, ".last is '5': input should be a valid integer"),
            ({"blocks": [5], "last": 5}, f" is {{'blocks': [5], 'last': 5}}: {RULES}"),
        ],
        ids=str,
    )
    def test_of_a_rule_of_what_is_trained_is_one_sentence(self, load, rule, answer):
        """Of the rule that was meant, not one of each that there is; without pydantic's names."""
        found = said(lambda: load(f"{SYSTEM}.phases.train.trainable", rule))
        found = found.split("params.yaml: ", 1)[1]
        assert found.startswith(f"{SYSTEM}.phases.train.trainable{answer}")
        assert "params.yaml" not in found and "\n" not in found

    @pytest.mark.parametrize(
        ("brightness", "answer"),
        [
            ([1.5, 0.5], " is [1.5, 0.5]: give the lower factor first"),
            ([-0.5, 1], ".0 is -0.5: input should be greater than or equal to 0"),
            ([0.5], ".1 is missing: give it a value"),
        ],
        ids=str,
    )
    def test_of_a_range_of_brightness_that_is_none(self, load, brightness, answer):
        found = said(lambda: load("perturbation.brightness", brightness))
        assert found.endswith(f"params.yaml: perturbation.brightness{answer}")

    @pytest.mark.parametrize(
        ("key", "value", "loss", "output"),
        [
            (f"{CNN}.loss", "negative_log_likelihood", "negative_log_likelihood", "sigmoid_pair"),
            (f"{SYSTEM}.head.output", "log_softmax", "binary_crossentropy", "log_softmax"),
            ("systems.resnet18_fc.head.output", "sigmoid", "negative_log_likelihood", "sigmoid"),
        ],
        ids=str,
    )
    def test_of_a_loss_that_does_not_fit_the_output(self, load, key, value, loss, output):
        system = ".".join(key.split(".")[:2])
        assert said(lambda: load(key, value)).endswith(
            f"params.yaml: {system}.loss {loss} does not go with head.output {output}: "
            "negative_log_likelihood is for log_softmax, binary_crossentropy for sigmoids"
        )

    @pytest.mark.parametrize("name", ["Train", "a-b", "a/b", "..", "a b", ""])
    def test_of_a_phases_name_that_is_no_file(self, load, whole, name):
        phases = {name: whole["systems"]["cnn"]["phases"]["clean"]}
        assert said(lambda: load(f"{CNN}.phases", phases)).endswith(
            f"params.yaml: {CNN}.phases.{name}: a phase's name is a file's: use a-z, 0-9 and _"
        )

    @pytest.mark.parametrize("name", ["VGG16", "a-b", "a/b", "..", "a b", ""])
    def test_of_a_systems_name_that_is_no_folder(self, load, whole, name):
        found = said(lambda: load("systems", {name: whole["systems"]["vgg16_transfer"]}))
        assert f"systems.{name}: a system's name is a folder: use a-z, 0-9 and _" in found

    def test_names_everything_that_is_wrong_at_once(self, whole, tmp_path):
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(whole | {"seed": -1, "colour": "red"}))
        found = said(lambda: params.load(path))
        assert "seed is -1" in found and "colour is unknown" in found
        assert "\n" not in found

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"seed: [", r"a.yaml is not YAML: .*line 1"),
            (b"seed: 1\n\tsplit: 2", r"a.yaml is not YAML"),
            ("# Fünf\nseed: 1".encode("latin-1"), r"a.yaml is not YAML"),
            (b"", r"a.yaml: the file is None: .*object"),
            (b"- seed", r"a.yaml: the file is \['seed'\]: .*object"),
            (b"text", r"a.yaml: the file is 'text': .*object"),
        ],
        ids=["an open bracket", "a tab", "not UTF-8", "nothing", "a list", "a word"],
    )
    def test_of_a_file_that_is_something_else(self, tmp_path, content, expected):
        (tmp_path / "a.yaml").write_bytes(content)
        assert re.search(expected, said(lambda: params.load(tmp_path / "a.yaml")))

    def test_of_a_missing_file_says_where_to_run(self, tmp_path):
        found = said(lambda: params.load(tmp_path / "params.yaml"))
        assert found.endswith(
            "params.yaml is missing: run from the repository's root, where params.yaml lies"
        )


@pytest.mark.parametrize("key", [1, None, True, 2.5])
def test_a_key_that_is_no_text_is_named(tmp_path, key):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + yaml.safe_dump({key: 3}))
    with pytest.raises(InputError, match="is unknown"):
        params.load(path)


class TestSystem:
    def test_of_an_unknown_name_is_answered_with_those_that_there_are(self, settings):
        found = said(lambda: settings.system("vgg16_transfr"))
        assert "no system 'vgg16_transfr' in params.yaml: there are vgg16_transfer" in found
        assert found.endswith("did you mean vgg16_transfer?")

    @pytest.mark.parametrize(
        ("frozen", "trained"),
        [(0, (1, 2, 3, 4, 5)), (1, (2, 3, 4, 5)), (4, (5,)), (5, ())],
    )
    def test_trains_the_blocks_above_the_frozen_ones(self, settings, frozen, trained):
        before = settings.system("vgg16_transfer")
        after = before.with_frozen_blocks(frozen, 5)
        assert after.phases["train"].trainable == params.Blocks(blocks=trained)
        rest = {"phases": before.phases}
        assert after.model_copy(update=rest) == before
        assert before.phases["train"].trainable == "above_freeze_blocks"

    def test_leaves_other_phases_as_they_are(self, settings):
        system = settings.system("vgg16_transfer")
        head = system.phases["train"].model_copy(update={"trainable": "head"})
        both = system.model_copy(update={"phases": {"warm": head, **system.phases}})
        phases = both.with_frozen_blocks(3, 5).phases
        assert list(phases) == ["warm", "train"] and phases["warm"] == head
        assert phases["train"].trainable == params.Blocks(blocks=(4, 5))

    @pytest.mark.parametrize("frozen", [-1, 3])
    def test_cannot_freeze_blocks_that_the_backbone_has_not(self, settings, frozen):
        said_ = said(lambda: settings.system("vgg16_transfer").with_frozen_blocks(frozen, 2))
        assert said_.startswith(f"freeze_blocks is {frozen}; backbone vgg16 has 2 blocks")
        assert "from 0 (train all) to 2 (train the head alone)" in said_

    def test_that_waits_for_freeze_blocks_says_how_to_give_it(self, settings):
        found = said(lambda: settings.system("vgg16_transfer").with_frozen_blocks(None, 5))
        assert "phase train trains above_freeze_blocks, but no --freeze-blocks came" in found
        assert 'args: "--freeze-blocks ${freeze_blocks}"' in found

    def test_that_freeze_blocks_would_not_change_says_so(self, settings):
        found = said(lambda: settings.system("vgg16_scratch").with_frozen_blocks(2, 5))
        assert "--freeze-blocks 2 would change nothing" in found and "dvc.yaml" in found

    def test_without_such_a_phase_is_left_as_it_is(self, settings):
        scratch = settings.system("vgg16_scratch")
        assert scratch.with_frozen_blocks(None, 5) == scratch

    @pytest.mark.parametrize(
        ("data", "perturbs"),
        [(["clean"], False), (["perturbed"], True), (["clean", "perturbed", "clean"], True)],
        ids=str,
    )
    def test_perturbs_where_one_of_its_phases_does(self, data, perturbs):
        phases = {f"phase_{place}": phase(data=kind) for place, kind in enumerate(data)}
        assert system(phases=phases).perturbs is perturbs


ARTICLES = {
    "image_size": 224,
    "augmentation": AUGMENTATION,
    "class_weights": "balanced",
    "head.pool": "flatten",
    "head.dense": (dense(512, 0.4), dense(64, 0.4)),
    "head.output": "sigmoid",
    "loss": "binary_crossentropy",
    "phases.train.data": "clean",
    "phases.train.learning_rate": 1e-4,
    "phases.train.epochs": 10_000,
    "phases.train.steps_per_epoch": None,  # int(n / batch)
    "phases.train.early_stopping": params.EarlyStopping(
        monitor="val_loss", patience=10, min_delta=0.0
    ),
    "phases.train.keep": "val_loss",
}
# What was published of each system; what was not, and is ours, is left out.
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
        "loss": "negative_log_likelihood",
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
        "loss": "binary_crossentropy",
        "phases.clean.data": "clean",
        "phases.clean.trainable": "all",
        "phases.clean.learning_rate": 1e-3,  # "Adam": its default
        "phases.clean.epochs": 25,
        "phases.clean.steps_per_epoch": 100,
        "phases.clean.plateau": params.Plateau(factor=0.2, patience=3, min_learning_rate=1e-5),
        "phases.clean.early_stopping": params.EarlyStopping(
            monitor="val_loss", patience=15, min_delta=1e-10
        ),
        "phases.clean.keep": "val_accuracy",
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
    """params.yaml holds what the articles, courses and repositories say."""

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
    def test_films_are_flipped_and_turned_and_nothing_else(self, settings, name):
        ranges = settings.system(name).augmentation.model_dump()
        assert ranges.pop("horizontal_flip") is True
        assert ranges.pop("rotation") > 0
        assert set(ranges.values()) == {0}
