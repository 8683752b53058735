"""Parameters as `dvc exp run -S` reads them."""

import pytest
from dvc.utils.hydra import to_hydra_overrides

from cxr.tracking import rebuilding


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (3, "3"), (None, "null"), (1e-05, "1e-05"), ([4, 5], "[4, 5]"), ("all", "all"),
        ("null", '"null"'), ("1e3", '"1e3"'), ("a b", '"a b"'), ("/abs/x.zip", "/abs/x.zip"),
    ],
)  # fmt: skip
def test_values_are_written_so_that_dvc_reads_the_same(value, written):
    assert rebuilding.value_text(value) == written
    (read,) = to_hydra_overrides([f"key={written}"])
    assert read.value() == value


@pytest.mark.parametrize(
    ("used", "there", "expected"),
    [
        ({"a.b": 1}, {"a.b": 1}, {}),
        ({"a.b": 1}, {"a.b": 2}, {"a.b": "1"}),
        ({"a.b": 1}, {"c": 2}, {"+a.b": "1"}),
        ({"a.b": "youden"}, {"a.b.least": 0.9}, {"a.b": "youden"}),
        ({"a.b.least": 0.9}, {"a.b": "youden"}, {"a.b": "{least: 0.9}"}),
        ({"a.b.least": [5]}, {"a.b.other": 3, "a.c": 1}, {"+a.b.least": "[5]"}),
    ],
)
def test_what_differs_is_given_as_dvc_reads_it(used, there, expected):
    assert rebuilding.overrides(used, there) == expected
