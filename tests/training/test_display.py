"""What a training shows: one line per epoch, and a bar only in a terminal."""

import io
import logging
import re

import pytest
from tqdm import tqdm

from cxr.training import display
from tests.small import phase, system
from tests.trained import train

TWO = system(phases={"head": phase("head", epochs=2), "all": phase("all", epochs=1)})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def output(request, monkeypatch) -> io.StringIO:
    """What the bar is written to, at every step instead of ten times a second."""
    stream, bars = request.param(), []  # a bar that nothing refers to would go away by itself

    def always(**more):
        bars.append(tqdm(file=stream, mininterval=0, miniters=1, **more))
        return bars[-1]

    monkeypatch.setattr(display, "tqdm", always)
    return stream


def test_each_epoch_ends_with_one_line(caplog):
    caplog.set_level(logging.INFO, "cxr.training.display")
    trained = train(TWO)
    places = [("head, epoch 1", 2), ("head, epoch 2", 2), ("all, epoch 1", 1)]
    expected = [
        f"phase {place} (of at most {last}): {seconds:.1f} s, "
        f"loss {row.loss:.4f}, val_loss {row.val_loss:.4f}, val_auc {row.val_auc:.4f}"
        for (place, last), seconds, row in zip(
            places, trained.training["seconds_per_epoch"], trained.history.itertuples(), strict=True
        )
    ]
    shown = [record.message for record in caplog.records if record.name == display.__name__]
    assert [shorter(line) for line in shown] == [shorter(line) for line in expected]


def shorter(line: str) -> str:
    """Leave out the seconds, which are rounded twice here."""
    return re.sub(r"[\d.]+ s,", "", line)


@pytest.mark.parametrize("output", [Terminal], indirect=True)
def test_a_terminal_has_a_bar_of_each_epochs_steps_which_goes_away(output):
    train(TWO)
    drawn = output.getvalue().split("\r")
    for title in ("phase head, epoch 1", "phase head, epoch 2", "phase all, epoch 1"):
        for done in range(4):  # steps of the 4 that an epoch has
            assert any(title in line and f" {done}/4 " in line for line in drawn), (title, done)
    assert not drawn[-1].strip()


@pytest.mark.parametrize("output", [io.StringIO], indirect=True)
def test_a_file_has_no_bar(output):
    train(TWO)
    assert "epoch 1:" not in output.getvalue()


@pytest.mark.parametrize("output", [Terminal], indirect=True)
def test_the_bar_goes_away_if_the_training_fails(output):
    def fails(number, metrics):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TWO, on_epoch=fails)
    assert "epoch 1" in output.getvalue()
    assert not output.getvalue().split("\r")[-1].strip()
