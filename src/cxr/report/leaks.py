"""Leaks between the test set and the rest, counted in the manifest."""

import pandas as pd


def unknown_patients(manifest: pd.DataFrame) -> int:
    """Return how many images have no known patient; each of them counts as its own patient."""
    return int((~manifest["patient_known"].astype(bool)).sum())


def in_test_and_rest(manifest: pd.DataFrame, column: str) -> tuple[int, int]:
    """Return how many values of a column are in the test set and in training or validation.

    Returns:
        The number of such values, and the number of test images that have them.
    """
    tested = manifest["split"] == "test"
    shared = manifest[column].isin(manifest.loc[~tested, column]) & tested
    return int(manifest.loc[shared, column].nunique()), int(shared.sum())
