"""Every hostile test writes only to its output folder; `make fuzz` ends with what was tried."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cxr.data import threads
from tests.hostile import tried

settings.register_profile(
    "hostile",
    derandomize=not tried.TIMES,
    database=None,
    deadline=None,
    max_examples=150 * max(1, tried.TIMES),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("hostile")


def listing(folder: Path) -> dict[str, tuple[int, str]]:
    """Return mode and content of everything below a folder but for its folder ``out``."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
        if path.relative_to(folder).parts[0] != "out"
    }


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only folder that may be written to; its neighbours must stay as they are."""
    parent = tmp_path / "parent"
    for name in ("work/keep.txt", "sentinel.txt", "NORMAL/1.jpeg", "etc/passwd"):
        (parent / name).parent.mkdir(parents=True, exist_ok=True)
        (parent / name).write_text(name)
    (parent / "out").mkdir()
    monkeypatch.chdir(parent / "work")
    before = listing(parent)
    yield parent / "out"
    assert listing(parent) == before


@pytest.fixture(autouse=True)
def _only_out(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watch the folders in every hostile test, and draw no progress bars."""
    monkeypatch.setattr(threads, "tqdm", lambda results, *_, **__: results)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    total = sum(tried.COUNTS.values())
    parts = ", ".join(f"{n:,} {noun}" for noun, n in sorted(tried.COUNTS.items()))
    terminalreporter.write_line(f"hostile inputs tried: {total:,} ({parts}); seed {tried.FIRST}")
