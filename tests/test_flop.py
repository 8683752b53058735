"""The operations that benchmarks.step counts, by hand."""

import pytest

from benchmarks import step
from cxr import params
from cxr.models import backbones, freezing, network
from tests import small


def test_of_vgg16_are_15_3_billion_multiply_adds():
    # Convolutions of 3 x 3: at 224, 112, 56, 28 and 14 pixels.
    kernels = {
        224: 3 * 64 + 64 * 64,
        112: 64 * 128 + 128 * 128,
        56: 128 * 256 + 2 * 256 * 256,
        28: 256 * 512 + 2 * 512 * 512,
        14: 3 * 512 * 512,
    }
    multiply_adds = sum(9 * channels * side**2 for side, channels in kernels.items())
    assert multiply_adds == 15_346_630_656
    head = 512 * 5 + 5
    model = network.build(small.vgg16(image_size=224))
    assert step.flop(model) == 2 * (multiply_adds + head)


def test_of_mobilenet_v2_are_300_million_multiply_adds():
    """Sandler and others 2018, table 4: 300 million with the top, 1,280 x 1,000 of them there."""
    model = network.build(small.system(backbone="mobilenet_v2", image_size=224))
    assert step.flop(model) / 2 == pytest.approx(300e6 - 1.28e6, rel=0.01)


def test_of_a_step_follow_the_gradients(monkeypatch):
    monkeypatch.setitem(backbones.BACKBONES, "tiny", small.TINY)
    system = small.system()
    model = network.build(system)
    first, second = 2 * 16 * 16 * 27 * 4, 2 * 4 * 4 * 36 * 6
    dense, output = 2 * 6 * 5, 2 * 5
    assert step.flop(model) == first + second + dense + output
    expected = {
        "head": first + second + 2 * dense + 3 * output,
        params.Blocks(blocks=(2,)): first + 2 * second + 3 * (dense + output),
        "all": 2 * first + 3 * (second + dense + output),
    }
    for rule, operations in expected.items():
        freezing.set_trainable(model, system, small.phase(rule))
        assert step.flop_of_step(model) == operations, rule
