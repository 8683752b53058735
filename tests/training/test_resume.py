"""A training that stops anywhere goes on, and ends with equal weights, history and record."""

import json
import logging
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from cxr import params
from cxr.errors import Stopped
from cxr.training import callbacks, checkpoint, fit, interrupt, progress
from tests.small import assert_same, head, phase, regression, system
from tests.trained import contradicted, train

PLATEAU = params.Plateau(factor=0.5, patience=1, min_learning_rate=1e-5)
SYSTEM = system(
    phases={
        "head": phase("head", rate=1e-2, epochs=4, patience=2, plateau=PLATEAU),
        "finetune": phase(
            params.Blocks(blocks=(2,)),
            rate=1e-2,
            epochs=5,
            patience=3,
            plateau=PLATEAU,
            data="perturbed",
        ),
    }
)
EACH_STEP = params.Checkpoint(every=1, minutes=1e-9, gigabytes=1)
EACH_EPOCH = params.Checkpoint(every=1, minutes=10, gigabytes=1)


def run(root: Path, settings: params.Checkpoint = EACH_EPOCH, **more) -> fit.Trained:
    with checkpoint.opened("tiny", {}, settings, root) as kept:
        trained = train(SYSTEM, images=contradicted(), kept=kept, **more)
        kept.remove()
    return trained


def train_kept(
    settings: params.System, root: Path, often: params.Checkpoint = EACH_EPOCH
) -> fit.Trained:
    with checkpoint.opened("tiny", {}, often, root) as kept:
        return train(settings, kept=kept)


def assert_equal(one: fit.Trained, other: fit.Trained) -> None:
    assert one.record == other.record
    assert one.history.equals(other.history)
    for name, arrays in one.weights.items():
        assert_same(arrays, other.weights[name])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[fit.Trained, list[progress.Progress]]:
    """A training that nothing stops, and its progress after each step."""
    from cxr.models import backbones
    from tests.small import TINY

    saved = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.BACKBONES, "tiny", TINY)
        patch.setattr(checkpoint.Checkpoint, "save", lambda self, taken: saved.append(taken))
        trained = run(tmp_path_factory.mktemp("whole"), EACH_STEP)
    return trained, saved


def place(taken: progress.Progress) -> tuple[int, str | None, int]:
    """Return the epochs that are done, the phase, and the steps of the next epoch."""
    return len(taken.rows), taken.phase and taken.phase.name, taken.phase.step if taken.phase else 0


class TestResumes:
    def test_progress_is_saved_after_each_step_epoch_and_phase(self, whole):
        trained, saved = whole
        epochs = [record["epochs"] for record in trained.record["phases"].values()]
        places = {place(taken) for taken in saved}
        assert (0, "head", 1) in places
        assert (epochs[0], None, 0) in places
        assert (epochs[0] + 1, "finetune", 0) in places
        assert (sum(epochs), None, 0) in places

    def test_epochs_between_are_not_saved(self, whole, tmp_path, monkeypatch):
        saved = []
        monkeypatch.setattr(checkpoint.Checkpoint, "save", lambda self, taken: saved.append(taken))
        trained = run(tmp_path, EACH_EPOCH.model_copy(update={"every": 2}))
        assert_equal(trained, whole[0])
        head, finetune = (record["epochs"] for record in trained.record["phases"].values())
        # Each second epoch of a phase, its last one, and its end.
        expected = [n for n in range(1, head + 1) if n % 2 == 0 or n == head] + [head]
        expected += [head + n for n in range(1, finetune + 1) if n % 2 == 0 or n == finetune]
        expected += [head + finetune]
        assert [len(taken.rows) for taken in saved] == expected

    def test_the_plateau_lowers_the_rate(self, whole):  # or the next test shows less
        rates = whole[0].history.groupby("phase")["learning_rate"].nunique()
        assert (rates > 1).any()

    @pytest.mark.parametrize(
        "share", [pytest.param(share / 6, id=f"{share} of 6") for share in range(7)]
    )
    def test_after_this_part_of_all_steps(self, whole, share, tmp_path, monkeypatch):
        trained, saved = whole
        taken = saved[round(share * (len(saved) - 1))]
        taken = progress.Progress.join(*taken.split())
        monkeypatch.setattr(checkpoint.Checkpoint, "_load", lambda self: taken)
        assert_equal(run(tmp_path), trained)

    @pytest.mark.parametrize("where", [(2, "head", 0), (2, "head", 2), (4, None, 0)])
    def test_it_says_where(self, whole, where, tmp_path, monkeypatch, caplog):
        caplog.set_level(logging.INFO)
        (taken,) = [taken for taken in whole[1] if place(taken) == where][:1]
        monkeypatch.setattr(checkpoint.Checkpoint, "_load", lambda self: taken)
        run(tmp_path)
        said = {
            (2, "head", 0): "resuming tiny at phase head, epoch 3 (of at most 4)",
            (2, "head", 2): "resuming tiny at phase head, epoch 3 (of at most 4), step 3",
            (4, None, 0): "resuming tiny at phase finetune, epoch 1 (of at most 5)",
        }
        assert said[where] in caplog.messages

    @pytest.mark.parametrize("restore", ["val_loss", None])
    def test_with_a_cosine_and_averages(self, restore, tmp_path, monkeypatch):
        each = phase(
            "all", rate=1e-2, epochs=3, restore=restore, average=0.9,
            cosine=params.Cosine(warm_up=0.5, final=0.02),
        )  # fmt: skip
        settings, saved = system(head=head(), phases={"one": each, "two": each}), []
        monkeypatch.setattr(checkpoint.Checkpoint, "save", lambda self, taken: saved.append(taken))
        whole = train_kept(settings, tmp_path, EACH_STEP)
        middle = [taken for taken in saved if taken.phase is not None and taken.phase.step]
        assert len({place(taken) for taken in middle}) > 6
        for taken in saved[:: max(1, len(saved) // 12)] + saved[-2:]:
            again = progress.Progress.join(*taken.split())
            monkeypatch.setattr(checkpoint.Checkpoint, "_load", lambda self, held=again: held)
            assert_equal(train_kept(settings, tmp_path), whole)

    @pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
    def test_with_a_logistic_regression_and_its_neighbour(self, first, tmp_path, monkeypatch):
        phases = {"probe": regression(0.1, 10.0), "train": phase("all", epochs=2)}
        settings = system(head=head(), phases=phases if first else dict(reversed(phases.items())))
        saved = []
        monkeypatch.setattr(checkpoint.Checkpoint, "save", lambda self, taken: saved.append(taken))
        whole = train_kept(settings, tmp_path)
        assert [place(taken) for taken in saved if taken.phase is None] == (
            [(1, None, 0), (3, None, 0)] if first else [(2, None, 0), (3, None, 0)]
        )
        for taken in list(saved):
            again = progress.Progress.join(*taken.split())
            monkeypatch.setattr(checkpoint.Checkpoint, "_load", lambda self, held=again: held)
            assert_equal(train_kept(settings, tmp_path), whole)

    def test_each_epoch_is_reported_once_over_all_sittings(self, tmp_path):
        reported = []

        def until_third(number, _):
            reported.append(number)
            if number == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, on_epoch=until_third)  # before the third epoch is saved
        trained = run(tmp_path, on_epoch=lambda number, _: reported.append(number))
        assert reported == [1, 2, 3, *trained.history["epoch"][2:]]

    def test_seconds_are_those_of_all_sittings(self, whole, tmp_path, monkeypatch):
        taken = whole[1][-1]
        monkeypatch.setattr(checkpoint.Checkpoint, "_load", lambda self: taken)
        training = run(tmp_path).training
        assert training["seconds"] >= round(taken.seconds, 1)
        assert training["seconds_per_epoch"] == [round(s, 2) for s in taken.durations]


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_one_saves_the_step_and_says_how_to_go_on(self, whole, number, tmp_path):
        sent = []

        def send(step):
            if len(sent) == 2:  # a step of the first epoch, after the two that give the shapes
                os.kill(os.getpid(), number)
            sent.append(step)

        with pytest.MonkeyPatch.context() as patch:
            real = fit.batches.Shuffled.__getitem__
            patch.setattr(
                fit.batches.Shuffled, "__getitem__", lambda self, i: send(i) or real(self, i)
            )
            with pytest.raises(Stopped, match=r"stopped at phase head, epoch 1.*same command"):
                run(tmp_path)
        with checkpoint.opened("tiny", {}, EACH_EPOCH, tmp_path) as kept:
            assert len(kept.progress.rows) <= 1
        assert_equal(run(tmp_path), whole[0])

    def test_a_second_one_stops_at_once(self):
        with pytest.raises(Stopped, match="at once"), interrupt.deferred() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked.is_set()
            os.kill(os.getpid(), signal.SIGTERM)

    def test_handlers_are_put_back(self):
        before = [signal.getsignal(number) for number in interrupt.SIGNALS]
        with interrupt.deferred():
            assert [signal.getsignal(number) for number in interrupt.SIGNALS] != before
        assert [signal.getsignal(number) for number in interrupt.SIGNALS] == before

    def test_a_thread_trains_without_them(self):
        seen = []

        def work():
            with interrupt.deferred() as asked:
                seen.append(asked.is_set())

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen == [False]


class TestCounters:
    """The callbacks that count from epoch to epoch count on, wherever the training stopped."""

    LOSSES = (0.5, 0.6, 0.4, 0.45, 0.41, 0.42, 0.43, 0.44)  # the best is the third

    def outcome(self, stops: set[int]) -> list[tuple[float, bool, int]]:
        """Return rate, stop and best epoch after each epoch; before those in ``stops``, resume."""
        settings = phase("all", epochs=9, patience=4, plateau=PLATEAU)
        model = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=1e-2), stop_training=False)
        model.get_weights = lambda: [0.0]
        counting, seen = self.fresh(settings, model), []
        for epoch, loss in enumerate(self.LOSSES):
            if epoch in stops:
                kept = [
                    (progress.counters(callback), progress.best_weights(callback))
                    for callback in counting
                ]
                counting = self.fresh(settings, model)
                for callback, state in zip(counting, json.loads(json.dumps(kept)), strict=True):
                    progress.set_counters(callback, *state)
            for callback in counting:
                callback.on_epoch_end(epoch, {"val_loss": loss})
            rate = float(model.optimizer.learning_rate)
            seen.append((rate, model.stop_training, counting[-1].best_epoch))
        return seen

    @staticmethod
    def fresh(settings: params.Phase, model: SimpleNamespace) -> list[keras.callbacks.Callback]:
        made = [*callbacks.stopping(settings), callbacks.restoring(settings)]
        for callback in made:
            callback.set_model(model)
            callback.on_train_begin()
        return made

    def test_the_example_lowers_the_rate_and_stops(self):
        rates, stops, best = zip(*self.outcome(set()), strict=True)
        assert len(set(rates)) > 2
        assert stops.index(True) == 6
        assert best[-1] == 2

    @pytest.mark.parametrize("epoch", range(1, len(LOSSES)))
    def test_after_this_epoch(self, epoch):
        assert self.outcome({epoch}) == self.outcome(set())

    def test_after_every_epoch(self):
        assert self.outcome(set(range(len(self.LOSSES)))) == self.outcome(set())


class TestProgress:
    def test_survives_json_and_arrays_to_the_bit(self, whole):
        for taken in whole[1]:
            about, arrays = taken.split()
            again = progress.Progress.join(json.loads(json.dumps(about)), arrays)
            assert again.rows == taken.rows
            assert again.split()[0] == about
            assert again.split()[1].keys() == arrays.keys()
            assert_same(again.network, taken.network)

    def test_has_the_states_of_the_seed_generators(self):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5)])
        assert not model.get_weights()
        before = progress.take(model.variables)
        model(np.ones((1, 2)), training=True)
        after = progress.take(model.variables)
        assert (before[0] != after[0]).any()
        progress.put(before, model.variables)
        assert_same(progress.take(model.variables), before)

    def test_taken_values_do_not_change_with_the_variables(self):
        variable = keras.Variable(np.zeros(3))
        (taken,) = progress.take([variable])
        variable.assign(np.ones(3))
        assert (taken == 0).all()
