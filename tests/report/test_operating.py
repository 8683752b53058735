"""The predictions that the sliders count, and where the sliders start."""

from dataclasses import replace

import pandas as pd
import pytest

from cxr.report import operating
from cxr.report.results import Result


def with_predictions(result: Result, labels: list[int], probabilities: list[float]) -> Result:
    table = pd.DataFrame({"split": "test", "label": labels, "probability": probabilities})
    return replace(result, predictions=table)


def test_images_with_equal_probabilities_are_one_row(results: list[Result]) -> None:
    result = with_predictions(results[0], [0, 1, 1, 1], [0.25, 0.99999, 0.99998, 0.5])
    frame = operating.predictions([result]).frame
    assert frame.to_dict("list") == {
        "system": [result.name] * 3,
        "label": [0, 1, 1],
        "p": [0.25, 0.5, 0.9999],
        "n": [1, 1, 2],
    }


@pytest.mark.parametrize("cut", [0.0, 0.001, 0.29, 0.57, 0.999, 1.0])
def test_rounding_moves_no_image_over_a_threshold_of_the_slider(
    cut: float, results: list[Result]
) -> None:
    near = [min(1.0, max(0.0, cut + step)) for step in (-1e-4, -1e-9 - 1e-5, 0, 1e-5)]
    result = with_predictions(results[0], [1] * 4, near)
    frame = operating.predictions([result]).frame
    assert frame.loc[frame["p"] >= cut, "n"].sum() == sum(p >= cut for p in near)


def test_all_images_of_the_test_set_are_there(results: list[Result]) -> None:
    frame = operating.predictions(results).frame
    for result in results:
        tested = result.predictions[result.predictions["split"] == "test"]
        rows = frame[frame["system"] == result.name]
        assert rows["n"].sum() == len(tested)
        counts = result.test["tp"], result.test["fp"]
        called = rows[rows["p"] >= result.metrics["threshold"]].groupby("label")["n"].sum()
        assert (called.get(1, 0), called.get(0, 0)) == counts


def test_the_sliders_start_at_the_applied_threshold_and_the_prevalence(
    results: list[Result],
) -> None:
    metrics = dict(results[0].metrics) | {"threshold": 0.12345, "prevalence": 0.003}
    changed = replace(results[0], metrics=metrics)
    assert operating.starting_threshold(changed) == 0.123
    assert operating.starting_prevalence([changed]) == 0.01  # the lowest of the slider
    counts = results[0].test
    share = (counts["tp"] + counts["fn"]) / sum(counts[key] for key in ("tp", "fn", "tn", "fp"))
    assert operating.starting_prevalence(results) == round(share, 2)
