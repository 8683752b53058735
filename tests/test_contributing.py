"""CONTRIBUTING's example of a backbone, run as it stands there."""

import re
from pathlib import Path

import keras
import pytest

from cxr import params
from cxr.models import backbones, freezing, network
from tests import small

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> backbones.Backbone:
    """Run the example inside of cxr.models.backbones, where it says it belongs."""
    monkeypatch.setattr(backbones, "BACKBONES", dict(backbones.BACKBONES))
    (code,) = re.findall(r"```python\n(.+?)```", TEXT, flags=re.DOTALL)
    exec(code, dict(vars(backbones)))
    return backbones.BACKBONES["densenet121"]


def test_example_backbone_builds_freezes_and_normalises_as_densenet_wants(example):
    system = small.system(backbone="densenet121", image_size=32)
    model = network.build(system)
    # 8,062,504 parameters (Keras's table) less those of the top, 1024 x 1000 + 1000.
    base = 8_062_504 - 1_025_000
    head = 1024 * 5 + 5 + 5 + 1
    assert freezing.parameter_counts(model)["total"] == base + head
    trained = freezing.set_trainable(model, system, small.phase(params.Blocks(blocks=(5,))))
    assert trained[0] == "conv5_block1_1_conv"
    assert not any(name.endswith("_bn") for name in trained)
    grey = keras.ops.full((1, 2, 2, 1), 51.0)
    wanted = keras.applications.densenet.preprocess_input(51.0 * keras.ops.ones((1, 2, 2, 3)))
    difference = keras.ops.convert_to_numpy(example.preprocess(grey) - wanted)
    assert abs(difference).max() < 1e-5
