"""The head: the probability that follows from its outputs."""

import keras
import numpy as np
import pytest

from cxr.models import head as heads
from cxr.models import network
from tests.small import (
    OUTPUTS,
    SIZE,
    pixels,
    with_output,
)

pytestmark = pytest.mark.usefixtures("tiny")


class TestOutput:
    """From logits by hand: NORMAL is likelier, both are close, both are equal."""

    LOGITS = np.array([[2.0, -1.0], [0.3, 0.4], [0.0, 0.0]])

    def outputs(self, output: str) -> np.ndarray:
        """Return the head's outputs for the logits, by the formula."""
        sigmoids = 1 / (1 + np.exp(-self.LOGITS))
        exponentials = np.exp(self.LOGITS)
        return {
            "sigmoid": sigmoids[:, 1:],
            "sigmoid_pair": sigmoids,
            "log_softmax": np.log(exponentials / exponentials.sum(axis=1, keepdims=True)),
        }[output]

    def probabilities(self, output: str) -> np.ndarray:
        normal, pneumonia = 1 / (1 + np.exp(-self.LOGITS.T))
        return {
            "sigmoid": pneumonia,
            "sigmoid_pair": pneumonia / (normal + pneumonia),
            # A softmax of two is the sigmoid of the difference.
            "log_softmax": 1 / (1 + np.exp(self.LOGITS[:, 0] - self.LOGITS[:, 1])),
        }[output][:, np.newaxis]

    @pytest.mark.parametrize("output", OUTPUTS)
    def test_gives_outputs_to_train_on_and_the_probability_of_pneumonia(self, output):
        model = network.build(with_output(output))
        last = model.get_layer("head_output")
        kernel, _ = last.get_weights()
        for row in range(len(self.LOGITS)):
            # Without a kernel the bias is the logits; a lone sigmoid has PNEUMONIA's.
            last.set_weights([np.zeros_like(kernel), self.LOGITS[row, -kernel.shape[1] :]])
            outputs, probability = (
                network.with_head_output(model)(pixels(1, SIZE)),
                model(pixels(1, SIZE)),
            )
            np.testing.assert_allclose(outputs[0], self.outputs(output)[row], rtol=1e-5)
            np.testing.assert_allclose(probability[0], self.probabilities(output)[row], rtol=1e-5)

    @pytest.mark.parametrize("output", OUTPUTS)
    def test_probability_is_that_of_pneumonia(self, output):
        outputs = keras.ops.convert_to_tensor(self.outputs(output).astype("float32"))
        np.testing.assert_allclose(
            heads.probability(outputs, output), self.probabilities(output), rtol=1e-5
        )

    def test_a_pair_of_equal_sigmoids_gives_one_half(self):
        assert float(heads.probability(keras.ops.zeros((1, 2)), "sigmoid_pair")[0, 0]) == 0.5
        assert float(heads.probability(keras.ops.ones((1, 2)), "sigmoid_pair")[0, 0]) == 0.5

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(ValueError, match="softmax"):
            heads.probability(keras.ops.zeros((1, 2)), "softmax")
