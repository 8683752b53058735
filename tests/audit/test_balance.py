"""The classes and subtypes of each split."""

from cxr.audit import balance
from tests.audit.made import manifest

TABLE = manifest(
    [("train", 0, "a"), ("train", 1, "b"), ("train", 1, "c"), ("train", 1, "d"), ("test", 1, "e")],
    subtype=["", "bacteria", "virus", "virus", ""],
)


def test_classes_are_counted_in_each_split():
    assert balance.classes(TABLE) == {
        "train": {"NORMAL": 1, "PNEUMONIA": 3, "prevalence": 0.75},
        "val": {"NORMAL": 0, "PNEUMONIA": 0, "prevalence": None},
        "test": {"NORMAL": 0, "PNEUMONIA": 1, "prevalence": 1.0},
    }


def test_subtypes_are_counted_in_each_split():
    none = {"bacteria": 0, "virus": 0}
    expected = {"train": {"bacteria": 1, "virus": 2}, "val": none, "test": none}
    assert balance.subtypes(TABLE) == expected


def test_names_without_subtypes_give_none():
    assert balance.subtypes(manifest([("train", 1, "a")])) == {"train": {}, "val": {}, "test": {}}
