"""params.yaml: what is read, and the line that a person reads for everything that is wrong."""

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cxr import params
from cxr.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
GONE = object()  # in the place of a value: take the key out


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


SYSTEM = "systems.vgg16_transfer"


class TestLoad:
    def test_reads_the_repositorys_own_file(self, settings):
        assert settings.source == "sources/kermany.yaml"
        assert settings.freeze_blocks == 4 and settings.seed == 0
        assert settings.split.test.by_label() == (150, 400)
        assert set(settings.systems) >= {"vgg16_transfer", "vgg16_scratch"}
        article = settings.system("vgg16_transfer")
        assert [(layer.units, layer.dropout) for layer in article.head.dense] == [
            (512, 0.4),
            (64, 0.4),
        ]
        assert article.phases["train"].trainable == "above_freeze_blocks"
        assert article.phases["train"].early_stopping == params.EarlyStopping(patience=10)
        assert settings.system("vgg16_scratch").weights is None

    def test_takes_params_yaml_of_the_folder_it_runs_in(self, settings, monkeypatch):
        monkeypatch.chdir(ROOT)
        assert params.load() == settings

    def test_gives_what_cannot_be_changed(self, settings):
        with pytest.raises(ValueError, match="frozen"):
            settings.seed = 1

    def test_keeps_the_order_of_phases(self, load):
        phase = {"trainable": "all", "learning_rate": 1e-3, "epochs": 1, "early_stopping": None}
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
            ("1", 1.0),
        ],
    )
    def test_reads_a_float_as_dvc_writes_it(self, tmp_path, text, value):
        """PyYAML alone reads 1e-05, which DVC writes, as text."""
        path = tmp_path / "params.yaml"
        raw = (ROOT / "params.yaml").read_text()
        path.write_text(raw.replace("learning_rate: 0.0001", f"learning_rate: {text}"))
        phase = params.load(path).systems["vgg16_transfer"].phases["train"]
        assert phase.learning_rate == value and isinstance(phase.learning_rate, float)

    @pytest.mark.parametrize(
        ("key", "value", "read"),
        [
            ("phases.train.trainable", {"blocks": [4, 5]}, params.Blocks(blocks=(4, 5))),
            ("phases.train.trainable", "head", "head"),
            ("phases.train.early_stopping", None, None),
            ("augmentation", None, None),
            ("class_weights", None, None),
            ("weights", "/a/b.h5", "/a/b.h5"),
            ("head.dense", [], ()),
            ("augmentation.rotation", 7, 7.0),
        ],
        ids=lambda value: str(value),
    )
    def test_takes_every_kind_of_value(self, load, key, value, read):
        found = load(f"{SYSTEM}.{key}", value).systems["vgg16_transfer"]
        for part in key.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        assert found == read


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
            (f"{SYSTEM}.phases.train.trainable", "blocks"),
        ],
    )
    def test_of_a_key_like_none_names_all_that_are_known(self, load, key, known):
        value = {"xyz": [1], "blocks": [1]} if key.endswith("trainable") else 3
        found = said(lambda: load(key, value))
        key += ".xyz" * key.endswith("trainable")
        assert f"{key} is unknown: known here are {known}" in found

    @pytest.mark.parametrize(
        "key",
        [
            "seed",
            "split",
            "split.test.PNEUMONIA",
            "systems",
            f"{SYSTEM}.weights",
            f"{SYSTEM}.augmentation.zoom",
            f"{SYSTEM}.head.dense.0.units",
            f"{SYSTEM}.phases.train.early_stopping",
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
            (f"{SYSTEM}.head.dense.1.dropout", 1, "less than 1"),
            (f"{SYSTEM}.phases", {}, "at least 1 item"),
            (f"{SYSTEM}.phases.train.learning_rate", 0, "greater than 0"),
            (f"{SYSTEM}.phases.train.learning_rate", "fast", "valid number"),
            (f"{SYSTEM}.phases.train.learning_rate", float("inf"), "finite number"),
            (f"{SYSTEM}.phases.train.trainable", "top", "'all', 'head' or 'above_freeze_blocks'"),
            (f"{SYSTEM}.phases.train.early_stopping.patience", 0, "greater than or equal to 1"),
        ],
        ids=lambda value: str(value),
    )
    def test_of_a_value_names_key_value_and_what_is_allowed(self, load, key, value, allowed):
        found = said(lambda: load(key, value))
        assert f"params.yaml: {key} is " in found
        assert allowed in found.split(f"{key} is ", 1)[1]
        shown = {"nan": "nan", "inf": "inf"}.get(str(value), repr(value))
        assert shown.lower() in found.lower()

    def test_of_a_block_below_1_names_its_place(self, load):
        found = said(lambda: load(f"{SYSTEM}.phases.train.trainable", {"blocks": [0]}))
        assert f"{SYSTEM}.phases.train.trainable.blocks.0 is 0: " in found
        assert "literal" not in found.lower() and "Blocks" not in found  # pydantic's own words

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
