"""How a stage ends: errors that a user can correct end in one line that says how."""

import argparse
import errno
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

import stages
from cxr.errors import InputError, Stopped


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Put back how SIGTERM is handled, which a stage changes for its process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def end_of(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a stage whose work raises ``error``; return its last line."""

    def work(_: object) -> None:
        raise error

    return end_of_work(work, monkeypatch)


def end_of_work(work: Callable[[object], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a stage that does ``work``; return its last line."""
    monkeypatch.setattr(sys, "argv", ["stage"])
    monkeypatch.setattr(stages.params, "load", lambda: None)
    with pytest.raises(SystemExit) as end:
        stages.run(work, argparse.ArgumentParser())
    return str(end.value.code)


def test_an_input_error_is_printed_as_it_is(monkeypatch):
    assert end_of(InputError("seed is -1"), monkeypatch) == "error: seed is -1"


def test_a_missing_permission_names_the_file_and_a_remedy(monkeypatch):
    error = PermissionError(errno.EACCES, "Permission denied", "tensors/224")
    said = end_of(error, monkeypatch)
    assert "no permission for tensors/224" in said
    assert "make it readable and writable" in said


def test_an_interruption_prints_no_traceback(monkeypatch):
    assert "stopped" in end_of(KeyboardInterrupt(), monkeypatch)


def test_sigterm_cleans_up_and_prints_one_line(monkeypatch):
    cleaned = []

    def work(_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)

    assert "stopped by SIGTERM" in end_of_work(work, monkeypatch)
    assert cleaned


def test_a_stop_says_how_to_go_on(monkeypatch):
    assert end_of(Stopped("stopped; run it again"), monkeypatch) == "stopped; run it again"


def test_a_bug_has_its_traceback(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        end_of(ZeroDivisionError(), monkeypatch)


@pytest.mark.parametrize(
    "stage",
    [
        "download",
        "split",
        "preprocess",
        "weights",
        "features",
        "shifted",
        "audit",
        "train",
        "external",
        "shift",
        "evaluate",
        "ensemble",
        "compare",
    ],
)
def test_stage_explains_itself(monkeypatch, capsys, stage):
    monkeypatch.setattr(sys, "argv", [stage, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"stages.{stage}", run_name="__main__")
    assert end.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_perturbed_phase_without_its_dependency_in_dvc_yaml_is_refused(settings):
    from stages import train  # imports Keras

    with pytest.raises(InputError, match='args: "--perturbed" and also: perturbation'):
        train.work(settings, "cnn", freeze_blocks=None, perturbed=False)


def test_an_archive_that_evaluate_external_lacks_is_refused(settings):
    from stages import external

    with pytest.raises(InputError, match="no archive 'clinic': it has none"):
        external.work(settings, "clinic")
