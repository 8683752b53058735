"""Frozen features: computed once, within a limit of memory."""

import logging

import numpy as np
import pytest

from cxr import params
from cxr.training import features, fit
from tests.small import phase
from tests.trained import plain, train


class TestFrozenFeatures:
    """Without augmentation frozen features are computed once, and change no result."""

    # Block 1's pooling has 4 x 4 x 4 floats of 4 bytes, for 19 + 8 images and a batch of 64.
    PEAK = (27 + 64) * 4 * 64

    def trained(self, caplog, **changes) -> fit.Trained:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="cxr"):
            settings = {"epochs": 2, "steps_per_epoch": 3} | changes
            block = phase(params.Blocks(blocks=(2,)), rate=0.01, restore="val_loss", **settings)
            return train(plain("sigmoid", phases={"train": block}))

    @pytest.mark.parametrize("data", ["clean", "perturbed"])
    def test_are_computed_once_and_change_no_result(self, data, caplog, monkeypatch):
        once = self.trained(caplog, data=data)
        assert "computing the frozen features of 27 images once: (4, 4, 4) each" in caplog.text
        monkeypatch.setattr(features, "LIMIT", self.PEAK - 1)
        each_time = self.trained(caplog, data=data)
        assert "computing" not in caplog.text
        assert once.record == each_time.record
        columns = once.history.columns.drop("phase")
        np.testing.assert_allclose(once.history[columns], each_time.history[columns], rtol=1e-4)
        for one, other in zip(once.model.get_weights(), each_time.model.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)

    def test_may_use_memory_up_to_the_limit(self, caplog, monkeypatch):
        monkeypatch.setattr(features, "LIMIT", self.PEAK)
        self.trained(caplog, epochs=1)
        assert "computing" in caplog.text
