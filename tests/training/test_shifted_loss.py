"""The loss under shift: its value, its column of the history, and the epoch that it restores."""

import keras
import numpy as np
import pytest

from cxr import params
from cxr.errors import InputError
from cxr.training import checkpoint, fit, progress, shifted_files, shifted_loss
from tests.small import OUTPUTS, assert_same, head, phase
from tests.trained import IMAGES, INDEX, STILL, contradicted, plain, train

LOSS = shifted_files.LOSS
VAL = np.flatnonzero(INDEX["split"] == "val")
LABELS = INDEX["label"].to_numpy()[VAL]
EACH_STEP = params.Checkpoint(every=1, minutes=1e-9, gigabytes=1)
BLOCK_2 = params.Blocks(blocks=(2,))


def shifted() -> shifted_files.Shifted:
    """Validation images: darker twice, and mirrored once."""
    images = IMAGES[VAL]
    of_kinds = [images // 2, images // 3, images[:, :, ::-1]]
    kinds = np.repeat(["darker", "darker", "mirrored"], len(VAL))
    return shifted_files.Shifted(np.concatenate(of_kinds), np.tile(LABELS, 3), kinds)


def expected(model: keras.Model, output: str) -> float:
    """The loss under shift by its formula, in float64, from the layer before the output."""
    given, last = shifted(), model.get_layer("head_output")
    inner = keras.Model(model.get_layer("as_float").output, last.input)
    inputs = given.images[..., np.newaxis].astype("float32")
    kernel, bias = last.get_weights()
    logits = keras.ops.convert_to_numpy(inner(inputs)).astype("float64") @ kernel + bias
    signs = np.where(given.labels == 1, 1, -1)[:, np.newaxis]
    match output:
        case "sigmoid":
            each = np.logaddexp(0, -signs * logits)[:, 0]
        case "sigmoid_pair":
            each = np.logaddexp(0, np.hstack([signs, -signs]) * logits).mean(axis=1)
        case "log_softmax":
            each = np.logaddexp(0, -signs[:, 0] * (logits[:, 1] - logits[:, 0]))
    return np.mean([each[given.kinds == kind].mean() for kind in ("darker", "mirrored")])


def restoring(trainable="all", **changes) -> params.Phase:
    return phase(trainable, **{"rate": 0.01, "epochs": 4, "restore": LOSS} | changes)


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [("aab", [0.75, 0.75, 1.5]), ("abab", [1, 1, 1, 1]), ("a", [1]), ("baaa", [2] + 3 * [2 / 3])],
)
def test_all_kinds_weigh_the_same(kinds, wanted):
    np.testing.assert_allclose(shifted_loss.weights(np.array(list(kinds))), wanted, rtol=1e-6)


class TestValue:
    @pytest.mark.parametrize("output", OUTPUTS)
    def test_is_that_of_the_formula(self, output):
        trained = train(
            plain(output, phases={"train": restoring(rate=STILL, epochs=1)}), shifted=shifted()
        )
        wanted = expected(trained.model, output)
        assert trained.history[LOSS][0] == pytest.approx(wanted, rel=1e-4)
        assert wanted != pytest.approx(trained.history["val_loss"][0], rel=0.01)

    @pytest.mark.parametrize("trainable", ["head", BLOCK_2], ids=str)
    @pytest.mark.parametrize("data", ["clean", "perturbed"])
    def test_is_the_same_from_frozen_features(self, trainable, data, monkeypatch):
        each = restoring(trainable=trainable, data=data)
        settings = plain("sigmoid", phases={"train": each})
        passed, real = [], shifted_loss.batches.predict

        def predict(model, images, *more):
            passed.append(len(images))
            return real(model, images, *more)

        monkeypatch.setattr(shifted_loss.batches, "predict", predict)
        from_features = train(settings, shifted=shifted()).history[LOSS]
        assert passed == [3 * len(VAL)]  # once for all epochs
        monkeypatch.setattr(shifted_loss, "LIMIT", 0)
        whole = train(settings, shifted=shifted()).history[LOSS]
        assert len(passed) == 1
        np.testing.assert_allclose(from_features, whole, rtol=1e-4)
        assert whole.nunique() == 4

    def test_is_that_of_the_averages(self):
        each = restoring(epochs=3, average=0.8, restore=LOSS)
        trained = train(plain("sigmoid", phases={"train": each}), shifted=shifted())
        best = trained.history[LOSS].min()
        assert expected(trained.model, "sigmoid") == pytest.approx(best, rel=1e-3)

    def test_changes_no_step(self):
        settings = [
            plain("sigmoid", phases={"train": restoring(restore=restore)})
            for restore in (LOSS, None)
        ]
        one, other = (train(each, shifted=shifted()) for each in settings)
        assert one.history.drop(columns=LOSS).equals(other.history)
        assert LOSS not in other.history

    def test_must_be_finite(self, monkeypatch):
        monkeypatch.setattr(shifted_loss, "weights", lambda kinds: np.full(len(kinds), np.nan))
        with pytest.raises(InputError, match=r"shifted_loss is nan after epoch 1 .*learning_rate"):
            train(plain("sigmoid", phases={"train": restoring()}), shifted=shifted())


class TestRestored:
    @pytest.mark.parametrize("restore", [LOSS, "val_loss"])
    def test_is_the_epoch_with_the_lowest_where_validation_says_otherwise(self, restore):
        """What improves training is wrong in the validation images, and right in the shifted."""
        right = shifted_files.Shifted(IMAGES[VAL], LABELS, np.repeat("none", len(VAL)))
        phases = {
            "train": restoring(rate=1e-3, restore=restore),
            "again": restoring(rate=STILL, epochs=1),
        }
        settings = plain("sigmoid", batch_size=19, head=head(pool="flatten"), phases=phases)
        trained = train(settings, images=contradicted(), shifted=right)
        history = trained.history
        of_train = history[history["phase"] == "train"]
        assert of_train["val_loss"].is_monotonic_increasing  # or this test shows nothing
        best = trained.record["phases"]["train"]["best_epoch"]
        if restore == LOSS:
            assert of_train[LOSS].argmin() + 1 == best == 4
            assert history[LOSS].iloc[-1] == pytest.approx(of_train[LOSS].min(), rel=1e-4)
        else:
            assert best == 1
            assert of_train[LOSS].isna().all()
        assert history["val_loss"].iloc[-1] == pytest.approx(of_train["val_loss"][best - 1])

    def test_needs_the_images(self):
        with pytest.raises(InputError, match="needs shifted images: run the shifted stage"):
            train(plain("sigmoid", phases={"train": restoring()}))


def test_a_resumed_training_is_equal(tmp_path, monkeypatch):
    phases = {
        "head": restoring(trainable="head"),
        "plain": phase("all", rate=0.01, epochs=2),
        "last": restoring(average=0.9),
    }
    settings, saved = plain("sigmoid", phases=phases), []

    def run() -> fit.Trained:
        with checkpoint.opened("tiny", {}, EACH_STEP, tmp_path) as kept:
            return train(settings, images=contradicted(), kept=kept, shifted=shifted())

    monkeypatch.setattr(checkpoint.Checkpoint, "save", lambda self, taken: saved.append(taken))
    whole = run()
    assert any(taken.phase is not None and taken.phase.step for taken in saved)
    for taken in saved[:: max(1, len(saved) // 10)] + saved[-1:]:
        again = progress.Progress.join(*taken.split())
        monkeypatch.setattr(checkpoint.Checkpoint, "_load", lambda self, held=again: held)
        resumed = run()
        assert resumed.history.equals(whole.history)
        assert resumed.record == whole.record
        for name, arrays in whole.weights.items():
            assert_same(resumed.weights[name], arrays)
