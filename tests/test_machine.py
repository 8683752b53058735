"""The machine: its processor and the installed versions."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import pytest

from cxr import machine


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nmodel name\t: other\n",
            "Some CPU @ 3 GHz",
        ),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", platform.machine()),
    ],
    ids=["x86", "ARM, which has no name"],
)
def test_the_cpu_is_named_as_linux_names_it(monkeypatch, cpuinfo, name):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: cpuinfo)
    assert machine.cpu_name() == name


def test_cores_are_those_that_the_process_may_use():
    before = machine.cores()
    assert 1 <= before <= (os.cpu_count() or 1)
    if sys.platform != "linux":
        return
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})  # as `taskset` and containers do
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_versions_are_those_of_python_and_of_installed_packages():
    assert machine.versions(["numpy", "no-such-package"]) == {
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
    }
