"""The shortcut alarm: how well the class is told by what is not anatomy.

A gradient-boosted baseline sees file properties, borders, markers and framing, and no lungs. What
it reaches, a network may reach for the same reason.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from cxr import seeding
from cxr.audit import properties
from cxr.evaluation import intervals, metrics
from cxr.training import regression

ALARM = (
    0.75  # AUC on validation or test from which the alarm is raised, if its interval excludes 0.5
)
REPEATS = 20  # permutations of a group
ONE_CLASS = "the training images have only one class"


def assess(
    table: pd.DataFrame, manifest: pd.DataFrame, seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Fit the baseline on train to each group of properties and to the sets of groups.

    Args:
        table: the properties, one row per image.
        manifest: label, split and patient of the same images.
        seed: ``seed`` of params.yaml.

    Returns:
        ``alarm``, whether a group or a set reaches an AUC of 0.75 on validation or test, with an
        interval above 0.5 (None if nothing can be assessed); ``groups`` and ``sets``, each by name:
        ``assessable``; ``reason``, why not, or None; and for ``val`` and ``test`` ``auc``,
        ``auc_low``, ``auc_high`` (95 %, patients resampled; None where undefined). And the table of
        groups by permutation importance, see :func:`importances`, with ``auc_val`` and
        ``auc_test`` of the group alone: where two groups tell the class, neither may be important.
    """
    # Where other work runs beside it, threads of so small a fit wait 50 times as long as they work.
    with threadpool_limits(limits=1, user_api="openmp"):
        return _assessed(table, manifest, seed)


def fit(inputs: pd.DataFrame, manifest: pd.DataFrame, seed: int) -> HistGradientBoostingClassifier:
    """Fit the baseline to the training images, where each patient weighs the same.

    Shallow trees of a few leaves, without early stopping, so that a few dozen images suffice and
    the result depends on no further split.
    """
    train = (manifest["split"] == "train").to_numpy()
    labels = manifest["label"].to_numpy()[train]
    weights = regression.patient_weights(manifest["patient"].to_numpy()[train], labels, False)
    model = HistGradientBoostingClassifier(
        max_iter=100, max_leaf_nodes=8, min_samples_leaf=5, l2_regularization=1.0,
        early_stopping=False, random_state=seeding.derive(seed, "shortcuts"),
    )  # fmt: skip
    return model.fit(inputs.to_numpy()[train], labels, sample_weight=weights)


def importances(
    model: Any,
    inputs: pd.DataFrame,
    varying: Mapping[str, Sequence[str]],
    manifest: pd.DataFrame,
    seed: int,
) -> pd.DataFrame:
    """Return how much AUC on validation the baseline of all groups loses without each of them.

    All properties of a group are permuted together between the images (Breiman 2001), so that
    properties of a group, which say nearly the same, cannot stand in for each other.

    Returns:
        One row per group, the most important first: ``feature``, the group; ``importance``, the
        mean loss over 20 permutations, with ``importance_low`` and ``importance_high``, their 2.5th
        and 97.5th percentile; ``properties`` that vary. Importances are NaN for groups that cannot
        be assessed, and if validation lacks a class.
    """
    val = (manifest["split"] == "val").to_numpy()
    labels, values = manifest["label"].to_numpy()[val], inputs.to_numpy()[val]
    whole = None if model is None or not len(labels) else metrics.auc(labels, _of(model, values))
    rows = []
    for name, columns in varying.items():
        losses = np.full(REPEATS, np.nan)
        draws = seeding.generator(seed, "permutation", name)
        places = [list(inputs.columns).index(column) for column in columns]
        if whole is not None and len(places):
            for repeat in range(REPEATS):
                permuted = values.copy()
                permuted[:, places] = values[draws.permutation(len(values))][:, places]
                losses[repeat] = whole - (metrics.auc(labels, _of(model, permuted)) or 0.0)
        low, high = np.percentile(losses, [2.5, 97.5])
        rows.append((name, losses.mean(), low, high, " ".join(columns)))
    names = ["feature", "importance", "importance_low", "importance_high", "properties"]
    found = pd.DataFrame(rows, columns=names)
    return found.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def _assessed(
    table: pd.DataFrame, manifest: pd.DataFrame, seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Fit the baseline to everything that varies; see :func:`assess`."""
    varying = properties.varying(table[(manifest["split"] == "train").to_numpy()])
    sets = {name: [c for group in of for c in varying[group]] for name, of in
            properties.SETS.items()}  # fmt: skip
    one_class = manifest.loc[manifest["split"] == "train", "label"].nunique() < 2
    reasons = {name: group.reason for name, group in properties.GROUPS.items()}
    reasons |= dict.fromkeys(sets, "none of its groups can be assessed")
    found: dict[str, dict[str, Any]] = {}
    models: dict[str, Any] = {}
    for name, columns in (varying | sets).items():
        if one_class or not columns:
            reason = ONE_CLASS if one_class else reasons[name]
            found[name] = {"assessable": False, "reason": reason, "val": None, "test": None}
            continue
        models[name] = fit(table[columns], manifest, seed)
        rated = {
            split: _rated(models[name], table[columns], manifest, split, seed)
            for split in ("val", "test")
        }
        found[name] = {"assessable": True, "reason": None} | rated
    rates = [result[split] for result in found.values() for split in ("val", "test")]
    known = [rated for rated in rates if rated and rated["auc_low"] is not None]
    raised = any(rated["auc"] >= ALARM and rated["auc_low"] > 0.5 for rated in known)
    result = {
        "alarm": raised if known else None,
        "sets": {name: found[name] for name in sets},
        "groups": {name: found[name] for name in varying},
    }
    table = importances(models.get("all"), table[sets["all"]], varying, manifest, seed)
    for split in ("val", "test"):
        alone = [(found[name][split] or {}).get("auc") for name in table["feature"]]
        table[f"auc_{split}"] = pd.Series(alone, dtype=float)
    return result, table


def _rated(
    model: Any, inputs: pd.DataFrame, manifest: pd.DataFrame, split: str, seed: int
) -> dict[str, float | None]:
    """Return the AUC of the baseline on a split, and its interval."""
    rows = (manifest["split"] == split).to_numpy()
    if not rows.any():
        return {"auc": None, "auc_low": None, "auc_high": None}
    labels, patients = (manifest[name].to_numpy()[rows] for name in ("label", "patient"))
    probabilities = _of(model, inputs.to_numpy()[rows])
    interval = intervals.auc_interval(labels, probabilities, patients, seed)
    low, high = interval or (None, None)
    return {"auc": metrics.auc(labels, probabilities), "auc_low": low, "auc_high": high}


def _of(model: Any, values: np.ndarray) -> np.ndarray:
    return model.predict_proba(values)[:, 1]
