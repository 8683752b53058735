"""The metrics under shift, computed from the predictions of the stage ``shift`` alone."""

from typing import Any

import numpy as np
import pandas as pd

from cxr.evaluation import calibration, intervals, metrics

VALIDATION, CURVE, MASKED, EXTERNAL = "validation", "curve", "masked", "external"
NONE = "none"  # the kind of images that are not shifted
COLUMNS = (
    "set", "kind", "strength", "n", "auc", "auc_low", "auc_high", "brier", "ece", "accuracy",
)  # fmt: skip


def evaluate(
    predictions: pd.DataFrame, threshold: float, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Compute the metrics of each set, kind and strength, and what they come to.

    Args:
        predictions: ``shifts/<system>/predictions.csv``: set, kind, strength, id, split, label,
            patient, probability. External images of a split train or val are not counted.
        threshold: an image at or above it counts as PNEUMONIA, 0 to 1; chosen elsewhere.
        seed: ``seed`` of params.yaml, for the resampling of patients.

    Returns:
        The table shift.csv, with the columns :data:`COLUMNS`; metrics are NaN if they are
        undefined. And the value of ``shift`` in metrics.json:

        - ``validation`` and ``curve``, the latter of the test set: ``auc`` of the images as they
          are; ``shifted_auc``, the mean over the kinds; ``by_kind``, the mean over each one's
          strengths.
        - ``masked``: ``centre`` and ``outside``, each ``auc``, ``auc_low``, ``auc_high``.
        - ``external``: of each archive the metrics of
          :func:`cxr.evaluation.intervals.summarise`, ``ece``, ``n``, and ``known``, the number of
          images that are not counted.

        A metric that is undefined is None there.

    Raises:
        InputError: a probability is NaN.
    """
    metrics.check(predictions)
    known = predictions["split"].isin(("train", "val")) & (predictions["set"] == EXTERNAL)
    used = predictions[~known]
    table = _table(used, threshold, seed)
    sets = {name: rows.drop(columns="set") for name, rows in table.groupby("set", sort=False)}
    empty = table.iloc[:0]
    masked = sets.get(MASKED, empty).set_index("kind")
    interval = ["auc", "auc_low", "auc_high"]
    return table, {
        VALIDATION: _means(sets.get(VALIDATION, empty)),
        CURVE: _means(sets.get(CURVE, empty)),
        MASKED: {kind: _nones(row[interval]) for kind, row in masked.iterrows()},
        EXTERNAL: _external(predictions[predictions["set"] == EXTERNAL], known, threshold, seed),
    }


def shifted_validation(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and probabilities of the validation images under every shift, both [n].

    A threshold that is chosen on them holds for other hospitals rather than for this one. Every
    shift has the same images, so each counts alike.

    Raises:
        InputError: a probability is NaN.
    """
    metrics.check(predictions)
    rows = predictions[(predictions["set"] == VALIDATION) & (predictions["kind"] != NONE)]
    return rows["label"].to_numpy(int), rows["probability"].to_numpy(float)


def _table(predictions: pd.DataFrame, threshold: float, seed: int) -> pd.DataFrame:
    rows = []
    for key, found in predictions.groupby(["set", "kind", "strength"], sort=False):
        labels, probabilities = found["label"].to_numpy(int), found["probability"].to_numpy(float)
        low, high = intervals.auc_interval(
            labels, probabilities, found["patient"].to_numpy(), seed
        ) or (None, None)
        auc = metrics.auc(labels, probabilities)
        brier = float(np.mean((probabilities - labels) ** 2))
        accuracy = float(np.mean((probabilities >= threshold) == (labels == 1)))
        rows.append(
            [
                *key,
                len(found),
                auc,
                low,
                high,
                brier,
                calibration.expected_error(labels, probabilities),
                accuracy,
            ]
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = list(COLUMNS[4:])
    return table.astype(dict.fromkeys(numbers, float))


def _means(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the AUC of images as they are, and the mean over kinds of the others."""
    plain = rows.loc[rows["kind"] == NONE, "auc"]
    kinds = rows[rows["kind"] != NONE].groupby("kind", sort=False)["auc"].mean()
    return {
        **_nones({"auc": plain.mean(), "shifted_auc": kinds.mean()}),
        "by_kind": _nones(kinds),
    }


def _external(
    predictions: pd.DataFrame, known: pd.Series, threshold: float, seed: int
) -> dict[str, Any]:
    """Return the metrics of each archive, at the prevalence that it has."""
    result: dict[str, Any] = {}
    for name, of_name in predictions.groupby("kind", sort=False):
        left_out = known[of_name.index]
        found = of_name[~left_out]
        given = found["label"].to_numpy(int), found["probability"].to_numpy(float)
        patients = found["patient"].to_numpy()
        result[str(name)] = {
            **intervals.summarise(*given, patients, seed, threshold, metrics.EVEN),
            "ece": calibration.expected_error(*given) if len(found) else None,
            "n": len(found),
            "known": int(left_out.sum()),
        }
    return result


def _nones(values: Any) -> dict[str, float | None]:
    """Return numbers as JSON has them, with None in the place of NaN."""
    return {str(k): None if np.isnan(v) else float(v) for k, v in dict(values).items()}
