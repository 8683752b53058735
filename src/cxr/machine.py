"""The machine: its processor and cores, and the versions of Python and packages."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path


def cpu_name() -> str:
    """Return the processor's model name, for example ``AMD EPYC 9654``."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cores() -> int:
    """Return how many cores the process may use; TensorFlow has as many threads by default."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of each installed package; missing ones are left out."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # only one of the backends need be installed
            continue
    return found
