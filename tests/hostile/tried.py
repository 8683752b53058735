"""Hostile inputs: how many were tried, how files are damaged, and what reading them may cost."""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr.errors import InputError
from tests.paths import PYTHONPATH

COUNTS: Counter[str] = Counter()  # inputs tried, by noun

# `make fuzz` sets it: this many times as many inputs, and other ones each time.
TIMES = int(os.environ.get("CXR_FUZZ", "0"))
FIRST = random.SystemRandom().randrange(2**40) if TIMES else 0

EDGES = [b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"]


def count(noun: str, number: int = 1) -> None:
    """Count inputs, for the line at the end of the session."""
    COUNTS[noun] += number


def damaged(noun: str, data: bytes, rounds: int) -> Iterator[bytes]:
    """Yield ``rounds`` damaged copies of a file, the same ones in each run of the tests."""
    for number in range(rounds * max(1, TIMES)):
        count(noun)
        yield damage(data, FIRST + number)


def damage(data: bytes, seed: int) -> bytes:
    """Change, insert, remove or repeat a few bytes of a file, or cut it."""
    draws = random.Random(seed)
    changed = bytearray(data)
    for _ in range(draws.choice([1, 1, 2, 4, 8])):
        at = draws.randrange(len(changed) + 1)
        kind = draws.choices(
            ["set", "edge", "remove", "insert", "repeat", "cut"], [8, 2, 1, 1, 1, 1]
        )
        match kind[0]:
            case "set":
                changed[at : at + 1] = draws.choice([b"\0", b"\xff", b"\x7f", draws.randbytes(1)])
            case "edge":
                changed[at : at + 4] = draws.choice(EDGES)
            case "remove":
                del changed[at : at + draws.choice([1, 2, 4, 50])]
            case "insert":
                changed[at:at] = draws.randbytes(draws.choice([1, 2, 4, 20]))
            case "repeat":
                again = draws.randrange(len(changed) + 1)
                changed[at:at] = changed[again : again + 30]
            case "cut":
                del changed[at:]
    return bytes(changed)


def assert_one_line(error: InputError) -> None:
    """Check that a refusal is one printable line, and says something."""
    assert str(error).isprintable() and 3 < len(str(error)) <= 4000, repr(str(error))


def peak(code: str, *arguments: object, seconds: int = 120) -> tuple[str, float]:
    """Run code in another process; return what it prints, and its greatest memory in MB.

    The code must not raise anything, and must write nothing to standard error. The time limit only
    ends a test that hangs.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("the greatest memory of a process is known on Linux alone")
    measured = (
        "import sys, logging\nfrom pathlib import Path\nfrom cxr.errors import InputError\n"
        f"{code}\n"
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", measured, *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=seconds,
        env=dict(os.environ) | {"PYTHONPATH": PYTHONPATH, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *printed, memory = done.stdout.splitlines()
    return "\n".join(printed), int(memory) / 1000
