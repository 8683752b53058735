"""params.yaml: reading it, and the one-line message for every kind of mistake."""

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cxr import params
from cxr.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
GONE = "<gone>"  # as a value: remove the key
RULES = (
    "should be all, backbone, head, above_freeze_blocks, or exactly one of blocks: [5], "
    "from_layer: 100, last: 5"
)


def write(raw: dict, path: Path) -> None:
    """Write YAML with the keys in their order."""
    yaml = YAML(pure=True)
    yaml.default_flow_style = False
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(raw, file)


@pytest.fixture(scope="module")
def whole() -> dict:
    """The repository's params.yaml as plain data."""
    return YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))


NAME = "a name that is also a file or folder may contain only a-z, 0-9 and _"


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
        write(raw, path)
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


SYSTEM = "systems.vgg16_transfer"
CNN = "systems.cnn"
PROBE = "systems.probe"
DENSE = {"units": 4, "batch_norm": False, "dropout": 0}
REGRESSION = {
    "data": "clean", "trainable": "head", "logistic_regression": {"strengths": [10, 1]}
}  # fmt: skip


def phase_of(settings: dict, changes: dict) -> dict:
    """Change or remove settings of a phase."""
    return {key: value for key, value in (settings | changes).items() if value is not GONE}


class TestLoad:
    def test_reads_the_repositorys_own_file(self, settings):
        assert settings.source == "sources/kermany.yaml"
        assert settings.freeze_blocks == 4 and settings.seed == 0
        assert settings.split.test == params.Counts(NORMAL=150, PNEUMONIA=400)

    def test_reads_params_yaml_of_the_working_folder(self, settings, monkeypatch):
        monkeypatch.chdir(ROOT)
        assert params.load() == settings

    def test_returns_frozen_settings(self, settings):
        with pytest.raises(ValueError, match="frozen"):
            settings.seed = 1

    def test_phases_stay_in_order(self, load, whole):
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
        """DVC writes 1e-05, which YAML 1.1 (PyYAML) reads as text."""
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
            ("phases.train.restore", None, None),
            ("phases.train.restore", "shifted_loss", "shifted_loss"),
            ("head.dropout", 0, 0.0),
            ("head.output", "sigmoid_pair", "sigmoid_pair"),
            ("head.layers", None, None),
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

    def test_takes_a_logistic_regression_before_a_phase_of_gradient_descent(self, load, whole):
        system = whole["systems"]["mobilenet_v2"]
        changed = system | {
            "augmentation": system["augmentation"] | {"views": 1},
            "phases": {"start": REGRESSION, "finetune": system["phases"]["finetune"]},
        }
        loaded = load("systems.mobilenet_v2", changed).systems["mobilenet_v2"].phases
        penalty = params.Penalty(strengths=(10.0, 1.0))
        assert loaded["start"] == params.LogisticRegression(
            data="clean", trainable="head", logistic_regression=penalty
        )
        assert isinstance(loaded["finetune"], params.Phase)

    def test_takes_one_brightness_for_all_images(self, load):
        assert load("perturbation.brightness", [1, 1]).perturbation.brightness == (1.0, 1.0)


class TestRefusal:
    @pytest.mark.parametrize(
        ("key", "nearest"),
        [
            ("freeze_block", "freeze_blocks"),
            ("split.protocoll", "protocol"),
            (f"{SYSTEM}.batchsize", "batch_size"),
            (f"{SYSTEM}.augmentation.rotations", "rotation"),
            (f"{SYSTEM}.phases.train.epoch", "epochs"),
            (f"{SYSTEM}.head.dense.1.drop_out", "dropout"),
            (f"{SYSTEM}.head.dense.1.batchnorm", "batch_norm"),
            (f"{SYSTEM}.head.outputs", "output"),
            (f"{CNN}.phases.clean.plateau.factr", "factor"),
            ("perturbation.chanel_shift", "channel_shift"),
        ],
    )
    def test_of_an_unknown_key_suggests_settings_with_similar_names(self, load, key, nearest):
        found = said(lambda: load(key, 3))
        assert f"params.yaml: {key} is unknown: did you mean {nearest}" in found

    def test_of_a_key_without_a_similar_name_suggests_nothing(self, load):
        assert said(lambda: load("split.xyz", 3)).endswith("params.yaml: split.xyz is unknown")

    @pytest.mark.parametrize(
        "key",
        [
            "seed",
            "shift.images",
            "evaluate.external",
            "split",
            "split.test.PNEUMONIA",
            "perturbation",
            "perturbation.channel_shift",
            "perturbation.brightness",
            "systems",
            f"{SYSTEM}.weights",
            f"{SYSTEM}.augmentation.zoom",
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
            f"{SYSTEM}.phases.train.restore",
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
            ("training.require_gpu", "yes", "valid boolean"),  # a boolean in YAML 1.1
            ("evaluate.threshold", 1, "less than 1"),
            (
                "evaluate.threshold",
                "best",
                "a number between 0 and 1, youden, or sensitivity: 0.95",
            ),
            ("evaluate.prevalence", 1, "less than 1"),
            ("evaluate.threshold", 0, "greater than 0"),
            ("evaluate.external", ["a.zip"], "object"),
            ("shift.images", 1, "greater than or equal to 2"),
            ("shift.images", 9.5, "valid integer"),
            ("tracking.experiment", "", "at least 1 character"),
            ("systems", {}, "at least 1 item"),
            ("systems", [1], "object"),
            ("inference_batch_size", 0, "greater than or equal to 1"),
            (f"{SYSTEM}.image_size", 0, "greater than or equal to 1"),
            (f"{SYSTEM}.image_size", "224", "valid integer"),
            (f"{SYSTEM}.class_weights", "even", "'balanced'"),
            (f"{SYSTEM}.augmentation.rotation", 181, "less than or equal to 180"),
            (f"{SYSTEM}.augmentation.width_shift", 1, "less than 1"),
            (f"{SYSTEM}.augmentation.zoom", float("nan"), "finite number"),
            (f"{SYSTEM}.augmentation.views", -1, "greater than or equal to 0"),
            (f"{SYSTEM}.augmentation.views", 1.5, "valid integer"),
            (f"{SYSTEM}.augmentation", "strong", "object"),
            (f"{SYSTEM}.head.pool", "mean", "'flatten', 'average' or 'max'"),
            (f"{SYSTEM}.head.dropout", 1, "less than 1"),
            (f"{SYSTEM}.head.output", "softmax", "'sigmoid', 'sigmoid_pair' or 'log_softmax'"),
            (f"{SYSTEM}.head.dense.1.dropout", 1, "less than 1"),
            (f"{SYSTEM}.head.dense.1.batch_norm", 1, "valid boolean"),
            (f"{SYSTEM}.phases", {}, "at least 1 item"),
            (f"{SYSTEM}.phases.train.learning_rate", 0, "greater than 0"),
            (f"{SYSTEM}.phases.train.learning_rate", "fast", "valid number"),
            (f"{SYSTEM}.phases.train.learning_rate", float("inf"), "finite number"),
            (f"{SYSTEM}.phases.train.data", "dirty", "'clean' or 'perturbed'"),
            (f"{SYSTEM}.phases.train.plateau", 3, "object"),
            (f"{SYSTEM}.phases.train.steps_per_epoch", 0, "greater than or equal to 1"),
            (f"{SYSTEM}.phases.train.steps_per_epoch", 1.5, "valid integer"),
            (f"{SYSTEM}.phases.train.early_stopping.monitor", "loss", "'val_loss' or 'val_acc"),
            (
                f"{SYSTEM}.phases.train.early_stopping.monitor",
                "shifted_loss",
                "'val_loss' or 'val_accuracy'",
            ),
            (f"{SYSTEM}.phases.train.early_stopping.patience", 0, "greater than or equal to 1"),
            (f"{SYSTEM}.phases.train.early_stopping.min_delta", -1, "greater than or equal to 0"),
            (f"{SYSTEM}.phases.train.restore", "best", "'val_accuracy' or 'shifted_loss'"),
            (f"{SYSTEM}.phases.train.restore", "shifted_auc", "'val_accuracy' or 'shifted_loss'"),
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
    def test_of_a_bad_trainable_rule_is_one_sentence(self, load, rule, answer):
        """It is about the intended rule and uses no name of pydantic's."""
        found = said(lambda: load(f"{SYSTEM}.phases.train.trainable", rule))
        found = found.split("params.yaml: ", 1)[1]
        assert found.startswith(f"{SYSTEM}.phases.train.trainable{answer}")
        assert "params.yaml" not in found and "\n" not in found

    def test_of_layers_with_flatten(self, load):
        found = said(lambda: load(f"{SYSTEM}.head.layers", ["block4_pool"]))
        answer = "layers need pool: average or max, not flatten"
        assert found.endswith(f"{SYSTEM}.head.layers is ['block4_pool']: {answer}")

    @pytest.mark.parametrize(
        ("changes", "answer"),
        [
            ({"epochs": 3}, ".epochs does not belong here"),
            ({"trainable": "all"}, ".trainable is 'all': input should be 'head'"),
            ({"data": "dirty"}, ".data is 'dirty': input should be 'clean' or 'perturbed'"),
            ({"data": GONE}, ".data is missing: give it a value"),
            ({"logistic_regression": 3}, ".logistic_regression is 3: input should be an object"),
            ({"logistic_regression": {"strengths": []}}, ".logistic_regression.strengths is []: "
             "tuple should have at least 1 item after validation, not 0"),
            ({"logistic_regression": {"strengths": [1, 0]}}, ".logistic_regression.strengths.1 is "
             "0: input should be greater than 0"),
            ({"logistic_regression": {"strength": 1, "strengths": [1]}},
             ".logistic_regression.strength is unknown: did you mean strengths?"),
        ],
        ids=str,
    )  # fmt: skip
    def test_of_a_bad_logistic_regression_is_one_sentence(self, load, changes, answer):
        found = said(lambda: load(f"{PROBE}.phases.probe", phase_of(REGRESSION, changes)))
        assert found.split("params.yaml: ", 1)[1] == f"{PROBE}.phases.probe{answer}"

    @pytest.mark.parametrize(
        "head", [{"output": "log_softmax"}, {"dense": [DENSE]}], ids=["output", "hidden layer"]
    )
    def test_of_a_logistic_regression_under_another_head(self, load, whole, head):
        system = whole["systems"]["mobilenet_v2"]
        changed = system | {
            "head": system["head"] | head,
            "phases": system["phases"] | {"start": REGRESSION},
        }
        found = said(lambda: load("systems.mobilenet_v2", changed))
        assert found.endswith(
            "params.yaml: systems.mobilenet_v2.phases.start is a logistic regression, which needs "
            "head.dense: [] and head.output: sigmoid"
        )

    @pytest.mark.parametrize(
        ("brightness", "answer"),
        [
            ([1.5, 0.5], " is [1.5, 0.5]: give the lower value first"),
            ([-0.5, 1], ".0 is -0.5: input should be greater than or equal to 0"),
            ([0.5], ".1 is missing: give it a value"),
        ],
        ids=str,
    )
    def test_of_an_invalid_range_of_brightness(self, load, brightness, answer):
        found = said(lambda: load("perturbation.brightness", brightness))
        assert found.endswith(f"params.yaml: perturbation.brightness{answer}")

    @pytest.mark.parametrize("name", ["Train", "a-b", "a/b", "..", "a b", ""])
    def test_of_a_phases_name_that_cannot_be_a_files(self, load, whole, name):
        phases = {name: whole["systems"]["cnn"]["phases"]["clean"]}
        assert said(lambda: load(f"{CNN}.phases", phases)).endswith(
            f"params.yaml: {CNN}.phases.{name}: {NAME}"
        )

    @pytest.mark.parametrize("name", ["VGG16", "a-b", "a/b", "..", "a b", ""])
    def test_of_a_systems_name_that_cannot_be_a_folders(self, load, whole, name):
        found = said(lambda: load("systems", {name: whole["systems"]["vgg16_transfer"]}))
        assert f"systems.{name}: {NAME}" in found

    def test_of_an_external_archives_name_that_cannot_be_a_folders(self, load):
        found = said(lambda: load("evaluate.external", {"St. Mary": "a.zip"}))
        assert found.endswith(f"params.yaml: evaluate.external.St. Mary: {NAME}")

    def test_of_a_key_given_twice_names_it_and_its_line(self, tmp_path):
        path = tmp_path / "a.yaml"
        path.write_text("seed: 1\nsource: x\nseed: 2\n")
        found = said(lambda: params.load(path))
        assert re.search(r'a.yaml is not YAML: line 3: found duplicate key "seed"', found)
        assert "\n" not in found

    def test_names_everything_that_is_wrong_at_once(self, whole, tmp_path):
        path = tmp_path / "params.yaml"
        write(whole | {"seed": -1, "colour": "red"}, path)
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
            (b"? [a]\n: 1\n", r"a.yaml: a key is not text"),
        ],
        ids=[
            "an open bracket",
            "a tab",
            "not UTF-8",
            "nothing",
            "a list",
            "a word",
            "a list as a key",
        ],
    )
    def test_of_a_file_that_is_something_else(self, tmp_path, content, expected):
        (tmp_path / "a.yaml").write_bytes(content)
        assert re.search(expected, said(lambda: params.load(tmp_path / "a.yaml")))

    def test_of_a_missing_file_says_where_to_run(self, tmp_path):
        found = said(lambda: params.load(tmp_path / "params.yaml"))
        assert found.endswith(
            "params.yaml is missing: run from the repository's root, which has a params.yaml"
        )


@pytest.mark.parametrize("key", ["1", "null", "true", "2.5"])
def test_an_unknown_key_that_is_not_text_is_refused(tmp_path, key):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + f"{key}: 3\n")
    with pytest.raises(InputError, match="is unknown"):
        params.load(path)


class TestSystem:
    def test_with_an_unknown_name_lists_the_known_ones(self, settings):
        found = said(lambda: settings.system("vgg16_transfr"))
        assert "no system 'vgg16_transfr' in params.yaml: there are probe, vgg16_transfer" in found
        assert ": did you mean vgg16_transfer" in found
