"""The precision of frozen features: measured on a CPU, and only there."""

import time

import numpy as np
import pytest

from cxr.training import precision
from tests.training.test_device import CPU, H100, T4, settings

BATCH = np.zeros((4, 2))


class Timed:
    """An extractor that takes so many seconds, on a clock of its own."""

    clock = 0.0

    def __init__(self, name: str, seconds: float, calls: list[str]) -> None:
        self.name, self.seconds, self.calls = name, seconds, calls

    def predict_on_batch(self, inputs) -> None:
        first = self.name not in self.calls
        self.calls.append(self.name)
        Timed.clock += 100 if first else self.seconds  # the first call traces the network


@pytest.mark.parametrize(
    ("wanted", "hardware", "expected"),
    [
        ("auto", CPU, ["float32", "mixed_bfloat16"]),
        ("auto", H100, ["mixed_bfloat16"]),
        ("auto", T4, ["float32"]),
        ("float32", CPU, ["float32"]),
        ("bfloat16", CPU, ["mixed_bfloat16"]),
    ],
)
def test_is_measured_on_a_cpu_alone(wanted, hardware, expected):
    assert precision.candidates(settings(wanted), hardware) == expected


@pytest.mark.parametrize(
    ("float32", "bfloat16", "chosen"),
    [(4, 2, "mixed_bfloat16"), (1.3, 1, "mixed_bfloat16"), (1.2, 1, "float32"), (1, 2, "float32")],
)
def test_is_bfloat16_only_where_it_is_much_faster(float32, bfloat16, chosen, monkeypatch, caplog):
    monkeypatch.setattr(time, "perf_counter", lambda: Timed.clock)
    caplog.set_level("INFO")
    calls: list[str] = []
    built = {
        "float32": lambda: Timed("float32", float32, calls),
        "mixed_bfloat16": lambda: Timed("mixed_bfloat16", bfloat16, calls),
    }
    assert precision.fastest(built, BATCH).name == chosen
    assert calls == ["float32", "mixed_bfloat16"] * 3  # in turn, so that both meet the same load
    speeds = f"float32 {4 / float32:.1f}, mixed_bfloat16 {4 / bfloat16:.1f}"
    assert caplog.messages == [f"frozen features in {chosen}; measured images/s: {speeds}"]


def test_of_one_candidate_is_not_measured():
    calls: list[str] = []
    assert precision.fastest({"float32": lambda: Timed("float32", 1, calls)}, BATCH) is not None
    assert calls == []
