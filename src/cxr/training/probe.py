"""A linear probe: the head's output fitted to frozen features by logistic regression."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cxr import params
from cxr.errors import InputError
from cxr.labels import CLASSES
from cxr.models import head
from cxr.training import batches, callbacks, feature_files, features, losses, regression

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """What :func:`fit` chose and reached.

    Attributes:
        strength: of the penalty, chosen on validation.
        val_losses: the validation loss of each strength, the strongest first.
        metrics: of the fitted model, on all training and (``val_...``) validation images: loss,
            accuracy, precision, recall, auc. Here each image weighs the same, so that the metrics
            compare with those of other phases.
    """

    strength: float
    val_losses: Mapping[float, float]
    metrics: Mapping[str, float]


def run(
    model: keras.Model,
    data: features.Data,
    stored: feature_files.Features | None,
    patients: np.ndarray,
    system: params.System,
    name: str,
    phase: params.LogisticRegression,
    batch_size: int,
    recorder: callbacks.Recorder,
) -> dict[str, Any]:
    """Run a phase of logistic regression and add its row to the history.

    Without views, the images are used as they are, also in a system with augmentation.

    Args:
        model: from :func:`cxr.models.network.with_head_output`, with its layers frozen.
        data: images of the phase.
        stored: what the features stage computed for the phase; None if it has nothing.
        patients: [n], the patient of each image.
        system: from :func:`cxr.models.freezing.resolve`.
        name: of the phase.
        phase: one of the system's.
        batch_size: images per batch of features and metrics.
        recorder: collects the history.

    Returns:
        The phase's own part of the record.

    Raises:
        InputError: the features take too much memory, or the training images have only one class.
    """
    augmentation = system.augmentation
    if data.maps is None:
        augmentation, stored = None, stored if stored and stored.views else None
    frozen = features.of_phase(model, data, augmentation, stored, batch_size)
    if frozen is None or not frozen.data.views:
        message = (
            f"phase {name}: the frozen features take too much memory: name fewer layers, or a "
            "smaller image_size"
        )
        raise InputError(message)
    recorder.phase = name
    recorder.begin()
    fitted = fit(
        frozen.rest, frozen.data, {"train": patients[data.train], "val": patients[data.val]},
        phase.logistic_regression, system.class_weights == "balanced", batch_size,
    )  # fmt: skip
    recorder.add(fitted.metrics, rate=float("nan"))
    return {
        "frozen_features": frozen.record,
        "epochs": 1,
        "best_epoch": len(recorder.rows),
        "strength": fitted.strength,
        "val_losses": [list(tried) for tried in fitted.val_losses.items()],
    }


def fit(
    rest: keras.Model,
    data: features.Data,
    patients: Mapping[str, np.ndarray],
    settings: params.Penalty,
    balanced: bool,
    batch_size: int,
) -> Fitted:
    """Fit the output layer to frozen features, which are standardised first.

    Each strength gives a :func:`cxr.training.regression.fit`. The strength with the lowest log loss
    on validation is used, and the strongest of those that tie. Log loss and not AUC: on a few
    hundred images AUC has few values and many ties near 1, it ignores whether 0.5 is the right
    threshold, and it is undefined if a class is missing.

    Each patient weighs 1, however many images and views there are, so that a patient who was
    X-rayed thirty times does not count thirty times.

    Standardisation becomes part of the output layer's kernel and bias: the model takes the features
    as they are.

    Args:
        rest: from features to the head's output, one sigmoid; its output layer's weights are set.
        data: features [n, m]; all views of the training images are used.
        patients: of the images of ``train`` and of ``val``, in the order of ``data``.
        settings: the strengths.
        balanced: whether both classes weigh the same; the total stays the number of patients.
        batch_size: images per batch, for the metrics.

    Raises:
        InputError: the training images have only one class.
    """
    from sklearn.metrics import log_loss  # takes a second to import

    rows = np.concatenate([data.train + view * len(data.train) for view in range(data.views)])
    train, val = data.labels[rows], data.labels[data.val]
    if len(np.unique(train)) < 2:
        message = (
            f"all images to train on are {CLASSES[int(train[0])]}: a logistic regression needs "
            "both classes"
        )
        raise InputError(message)
    weights = regression.patient_weights(np.tile(patients["train"], data.views), train, balanced)
    val_weights = regression.patient_weights(patients["val"], val, balanced)
    # float64, because the features may be float16 and the statistics are sums over many images.
    inputs, val_inputs = (data.inputs[of].astype("float64") for of in (rows, data.val))
    mean, scale = regression.statistics(inputs, weights)
    for given in (inputs, val_inputs):
        given -= mean
        given /= scale

    models, val_losses = {}, {}
    for strength in sorted(settings.strengths, reverse=True):
        models[strength] = regression.fit(inputs, train, weights, strength)
        probabilities = models[strength].predict_proba(val_inputs)
        loss = float(log_loss(val, probabilities, sample_weight=val_weights, labels=[0, 1]))
        log.info("strength %g: validation loss %.4f", strength, loss)
        val_losses[strength] = loss
    chosen = min(val_losses, key=val_losses.__getitem__)  # of those that tie the strongest
    best = models[chosen]
    ends = {min(val_losses): "smallest", max(val_losses): "largest"}
    if chosen in ends and len(val_losses) > 1:
        log.warning(
            "strength %g has the lowest loss and is the %s of `strengths`: one beyond it may be "
            "better still", chosen, ends[chosen],
        )  # fmt: skip

    kernel = best.coef_[0] / scale
    bias = best.intercept_[0] - mean @ kernel
    rest.get_layer(head.OUTPUT).set_weights([kernel[:, np.newaxis], np.array([bias])])
    metrics = _metrics(rest, data, {"": rows, "val_": data.val}, batch_size)
    return Fitted(chosen, val_losses, metrics)


def _metrics(
    rest: keras.Model, data: features.Data, splits: Mapping[str, np.ndarray], batch_size: int
) -> dict[str, float]:
    """Return the loss and metrics of a model on rows of the data, by their prefix."""
    rest.compile(loss=losses.loss("sigmoid"), metrics=losses.metrics("sigmoid"))
    found: dict[str, float] = {}
    for prefix, rows in splits.items():
        ordered = batches.Ordered(data.inputs, data.labels, rows, batch_size)
        values = rest.evaluate(ordered, verbose=0, return_dict=True)
        found |= {f"{prefix}{name}": value for name, value in values.items()}
    return found
