"""The demo: its settings as overrides, the stages it runs, and the weights it starts from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from ruamel.yaml import YAML

from cxr import params
from cxr.errors import InputError
from cxr.models import weights
from tools import demo

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = YAML(typ="safe", pure=True).load(ROOT / "tools" / "demo.yaml")
DEFAULTS = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")


@pytest.fixture
def with_demo(tmp_path: Path) -> params.Params:
    """params.yaml with the demo's overrides, each read as DVC reads a -S."""
    merged = OmegaConf.load(ROOT / "params.yaml")
    OmegaConf.set_struct(merged, True)  # as DVC does: an unknown key is an error
    for override in OverridesParser.create().parse_overrides(demo.overrides(SETTINGS, DEFAULTS)):
        OmegaConf.update(merged, override.key_or_group, override.value(), merge=True)
    OmegaConf.save(merged, tmp_path / "params.yaml")
    return params.load(tmp_path / "params.yaml")


class TestOverrides:
    """Nested settings as Hydra's a.b=value."""

    def test_names_each_value_by_its_path(self):
        settings = {"a": {"b": 1, "c": {"d": None}}, "e": True, "f": 0.0003}
        found = demo.overrides(settings, {"a": {"b": 0, "c": {"d": 0}}})
        assert found == ["a.b=1", "a.c.d=null", "e=true", "f=0.0003"]

    def test_a_mapping_in_place_of_a_null_is_one_value(self):
        found = demo.overrides({"a": {"b": {"c": 1}}}, {"a": {"b": None}})
        assert found == ["a.b={c:1}"]

    def test_a_list_of_mappings_is_one_value(self):
        found = demo.overrides({"dense": [{"units": 256, "batch_norm": False}]}, {"dense": []})
        assert found == ["dense=[{units:256,batch_norm:false}]"]

    @pytest.mark.parametrize("path", ["/a b/c,d=e:f.h5", "/it's/[w].h5", "/${x}/{y}.h5"])
    def test_any_path_comes_through_hydra(self, path: str):
        found = demo.overrides({"a": {"b": path}}, {"a": {"b": None}})
        (parsed,) = OverridesParser.create().parse_overrides(found)
        assert parsed.key_or_group == "a.b"
        assert parsed.value() == path


class TestSettings:
    """demo.yaml on top of params.yaml."""

    def test_are_parameters_that_a_stage_accepts(self, with_demo: params.Params):
        assert with_demo.source == "data/phantoms.zip"
        assert with_demo.system("cnn").phases["perturbed"].epochs == 8

    def test_the_probe_comes_first_and_has_transfers_backbone(self, with_demo: params.Params):
        assert next(iter(SETTINGS["systems"])) == "probe"
        probe, transfer = (with_demo.system(name) for name in ("probe", "vgg16_transfer"))
        assert probe.backbone == transfer.backbone
        assert probe.head.layers == ("block3_pool", "block4_pool", "block5_pool")

    def test_transfer_and_scratch_differ_in_weights_and_trained_layers_alone(
        self, with_demo: params.Params
    ):
        one, other = (
            with_demo.system(name).model_dump() for name in ("vgg16_transfer", "vgg16_scratch")
        )
        assert one["weights"] == "imagenet" and other["weights"] is None
        del one["weights"], other["weights"]
        trained = [found["phases"]["train"].pop("trainable") for found in (one, other)]
        assert trained == ["above_freeze_blocks", "all"]
        assert one == other


class TestTargets:
    """The stages that run."""

    def test_are_those_of_its_systems_in_the_pipelines_order(self):
        systems = {"a": {"image_size": 64}, "b": {"image_size": 64}, "c": {"image_size": 32}}
        assert demo.targets({"systems": systems}) == [
            "download", "split", "preprocess@32", "preprocess@64",
            "weights@a", "weights@b", "weights@c",
            "features@a", "features@b", "features@c", "shifted@a", "shifted@b", "shifted@c",
            "train@a", "train@b", "train@c",
            "shift@a", "shift@b", "shift@c",
            "evaluate@a", "evaluate@b", "evaluate@c", "audit", "compare",
        ]  # fmt: skip


class TestWeights:
    """Where VGG16 starts."""

    def test_a_local_file_is_given_by_its_absolute_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (tmp_path / "vgg.h5").touch()
        monkeypatch.chdir(tmp_path)
        assert demo.local("vgg.h5") == str(tmp_path.resolve() / "vgg.h5")

    def test_a_missing_file_is_refused_before_anything_runs(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something ran"))
        with pytest.raises(InputError, match=r"none\.h5 is not a file: give VGG16's weights"):
            demo.local(str(tmp_path / "none.h5"))
        with pytest.raises(SystemExit, match=r"none\.h5 is not a file"):
            demo.main(["--weights", str(tmp_path / "none.h5")])

    def test_without_a_network_random_weights_are_taken_in_one_line(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ):
        def fail(*_: object) -> None:
            raise InputError("cannot fetch")

        monkeypatch.setattr(weights, "resolve", fail)
        assert demo.imagenet() is None
        (line,) = capsys.readouterr().out.splitlines()
        assert "random weights" in line and "WEIGHTS=path" in line

    def test_imagenets_weights_are_taken_where_they_can_be_fetched(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        asked = []
        monkeypatch.setattr(weights, "resolve", lambda system, _: asked.append(system))
        assert demo.imagenet() == "imagenet"
        assert [(system.backbone, system.weights) for system in asked] == [("vgg16", "imagenet")]


class TestMain:
    """What runs, with DVC replaced."""

    @pytest.fixture
    def commands(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
        """The DVC commands; `exp run` ends with 3."""
        seen = []

        def record(*arguments: str, **_: object) -> int:
            seen.append(arguments)
            return 3 if arguments[:2] == ("exp", "run") else 0

        monkeypatch.setattr(demo, "_dvc", record)
        return seen

    def test_a_failed_experiment_gives_dvcs_exit_code_and_no_table(
        self, commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        (tmp_path / "w.h5").touch()
        assert demo.main(["--weights", str(tmp_path / "w.h5")]) == 3
        assert "Report:" not in capsys.readouterr().out
        assert [found[0] for found in commands] == ["pull", "exp", "exp"]

    def test_the_file_reaches_the_pretrained_systems_alone(self, commands, tmp_path: Path):
        (tmp_path / "w.h5").touch()
        demo.main(["--weights", str(tmp_path / "w.h5")])
        given = [argument for argument in commands[-1] if ".weights=" in argument]
        assert given == [
            f"systems.{name}.weights='{tmp_path.resolve() / 'w.h5'}'"
            for name in ("probe", "vgg16_transfer")
        ]

    def test_a_report_of_an_earlier_run_is_replaced(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        """`dvc get --out demo` writes demo/reports where demo exists: the old table would show."""

        def get(*arguments: str, **_: object) -> int:
            if arguments[0] == "get":
                out = Path(arguments[arguments.index("--out") + 1])
                out = out / "reports" if out.is_dir() else out
                out.mkdir()
                (out / "comparison.txt").write_text("new table")
            return 0

        report = tmp_path / "demo"
        report.mkdir()
        (report / "comparison.txt").write_text("old table")
        (tmp_path / "w.h5").touch()
        monkeypatch.setattr(demo, "REPORT", report)
        monkeypatch.setattr(demo, "_dvc", get)
        assert demo.main(["--weights", str(tmp_path / "w.h5")]) == 0
        assert "new table" in capsys.readouterr().out


class TestStderr:
    """The filter."""

    def test_drops_known_noise_and_passes_everything_else(self):
        code = (
            "import os, sys, subprocess; from tools import demo\n"
            "with demo.filtered_stderr():\n"
            "    os.write(2, b'No file hash info found for a file\\n')\n"
            "    subprocess.run([sys.executable, '-c', "
            "\"import os; os.write(2, b'error: bad weights' + bytes([10]))\"])\n"
            "print('after', file=sys.stderr)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stderr.splitlines() == ["error: bad weights", "after"]
