"""The classes and the splits: names that the whole pipeline agrees on."""

CLASSES = ("NORMAL", "PNEUMONIA")  # the label of a class is its index: 0, 1
SPLITS = ("train", "val", "test")
