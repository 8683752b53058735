"""Losses of each output, and the metrics beside them."""

import keras
import numpy as np
import pytest

from cxr.training import losses
from tests.small import PERTURBATION, head, phase, tiny_model
from tests.trained import METRICS, STILL, evaluated, plain, train


class TestLoss:
    LABELS = np.float32([[0], [1], [1]])

    @pytest.mark.parametrize(
        ("output", "outputs", "expected"),
        [
            pytest.param(
                "sigmoid", [[0.2], [0.2], [0.9]], -np.log([0.8, 0.2, 0.9]), id="one sigmoid"
            ),
            pytest.param(
                "sigmoid_pair",
                [[0.7, 0.2], [0.4, 0.5], [0.1, 0.9]],
                -np.log([[0.7, 0.8], [0.6, 0.5], [0.9, 0.9]]).mean(axis=1),
                id="the mean of a pair's",
            ),
            pytest.param(
                "log_softmax",
                np.log([[0.7, 0.3], [0.6, 0.4], [0.1, 0.9]]),
                -np.log([0.7, 0.4, 0.9]),
                id="minus the log of the true class's probability",
            ),
        ],
    )
    def test_of_each_output_is(self, output, outputs, expected):
        outputs = keras.ops.convert_to_tensor(np.float32(outputs))
        labels = keras.ops.convert_to_tensor(self.LABELS)
        found = keras.ops.convert_to_numpy(losses.loss(output)(labels, outputs))
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    @pytest.mark.parametrize(
        ("output", "data"),
        [("sigmoid", "perturbed"), ("sigmoid_pair", "clean"), ("log_softmax", "perturbed")],
    )
    def test_and_metrics_equal_those_computed_by_hand(self, output, data):
        # One whole batch, no dropout, and a rate that changes nothing: the training loss
        # is that of the weights at the end.
        settings = plain(
            output,
            batch_size=19,
            class_weights=None,
            head=head(output=output, pool="flatten"),
            phases={"train": phase("head", rate=STILL, data=data)},
        )
        # Small weights: some images are predicted as NORMAL, and no logit is large.
        keras.utils.set_random_seed(0)
        initial = {n.name: n.get_weights() for n in tiny_model().layers if n.weights}
        initial = {name: [0.2 * kernel, bias] for name, (kernel, bias) in initial.items()}
        trained = train(settings, initial=initial)
        for name, (kernel, _) in initial.items():
            np.testing.assert_array_equal(trained.model.get_layer(name).get_weights()[0], kernel)
        perturbation = PERTURBATION.model_dump(mode="json") if data == "perturbed" else None
        assert trained.record["perturbation"] == perturbation
        row = trained.history.iloc[0]
        for split, prefix in (("train", ""), ("val", "val_")):
            table = evaluated(trained.model, split, data, output)
            predicted, sick = table["probability"] > 0.5, table["label"] == 1
            assert 0 < predicted.mean() < 1, split  # or this test shows little
            auc = keras.metrics.AUC()
            auc.update_state(table["label"], table["probability"])
            by_hand = {
                "loss": table["loss"].mean(),
                "accuracy": (predicted == sick).mean(),
                "precision": sick[predicted].mean(),
                "recall": predicted[sick].mean(),
                "auc": float(auc.result()),
            }
            found = {metric: row[f"{prefix}{metric}"] for metric in METRICS}
            assert found == pytest.approx(by_hand, rel=1e-4), split
