"""The training loop: it traces a step once per phase, and reads no metric within an epoch."""

import keras
import pytest

from cxr.training import callbacks
from tests.small import AUGMENTATION, phase, system
from tests.trained import train

PHASES = {
    "head": phase("head", epochs=2),
    "perturbed": phase("all", epochs=2, data="perturbed", patience=1),
}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX traces in another way")
@pytest.mark.parametrize(
    "augmentation",
    [pytest.param(AUGMENTATION, id="augmented"), pytest.param(None, id="on frozen features")],
)
def test_each_phase_traces_its_steps_once(augmentation, monkeypatch):
    traced = []
    for kind in ("train_step", "test_step"):
        real = getattr(keras.Model, kind)

        def step(self, data, kind=kind, real=real):
            traced.append(kind)
            return real(self, data)

        monkeypatch.setattr(keras.Model, kind, step)
    # 19 images to train on, 8 for validation in batches of 64: the last batches are smaller.
    train(system(augmentation=augmentation, phases=PHASES))
    assert traced == ["train_step", "test_step"] * len(PHASES)


def test_no_metric_is_read_within_an_epoch(monkeypatch):
    """Keras converts what it reads with ``pythonify_logs``."""
    from keras.src.utils import python_utils

    read, real = [], python_utils.pythonify_logs

    def pythonify(logs):
        read.extend([sorted(logs)] if logs else [])
        return real(logs)

    monkeypatch.setattr(python_utils, "pythonify_logs", pythonify)
    train(system(phases={"train": phase(epochs=2)}))
    names = ["accuracy", "auc", "loss", "precision", "recall"]
    # Twice an epoch: the end of validation, and of the epoch; once at the end of training.
    assert len(read) == 2 * 2 + 1
    assert read[0] == names


def test_no_callback_needs_the_metrics_of_a_step(monkeypatch):
    """The list of callbacks does not call these."""
    lists = []
    real = callbacks.MetricsPerEpoch.__init__
    monkeypatch.setattr(
        callbacks.MetricsPerEpoch, "__init__",
        lambda self, *given, **more: lists.append(self) or real(self, *given, **more),
    )  # fmt: skip
    plateau = {"factor": 0.5, "patience": 1, "min_learning_rate": 1e-5}
    everything = phase("head", patience=1, plateau=plateau, epochs=1)
    train(system(phases={"train": everything}))
    assert max(len(used.callbacks) for used in lists) >= 6  # or this test shows nothing
    for callback in [callback for used in lists for callback in used.callbacks]:
        for name in ("on_batch_end", "on_train_batch_end", "on_test_batch_end"):
            default = getattr(keras.callbacks.Callback, name)
            assert getattr(type(callback), name) is default, (type(callback), name)
