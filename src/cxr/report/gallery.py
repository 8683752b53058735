"""Grad-CAM galleries, and what the maps come to over the whole test set."""

from collections.abc import Sequence
from dataclasses import dataclass

from cxr.report import picture, wording
from cxr.report.results import Result

_FACTS = {
    "centre_share": "Share of the maps' mass inside the centre",
    "centre_share_predicted": "The same, of images called PNEUMONIA",
    "centre_share_even": "The same, of an even map",
    "randomised_correlation": "Absolute correlation with the maps of randomised weights",
}
_CELLS = {"TP": "right about PNEUMONIA", "TN": "right about NORMAL",
          "FP": "wrongly called PNEUMONIA", "FN": "wrongly called NORMAL"}  # fmt: skip


@dataclass(frozen=True)
class Gallery:
    """The gallery of one system.

    Attributes:
        result: the system.
        picture: data URL.
        description: which images it shows.
        facts: figures over the whole test set, in words.
    """

    result: Result
    picture: str
    description: str
    facts: dict[str, str]


def galleries(results: Sequence[Result]) -> list[Gallery]:
    """Return the galleries that there are."""
    return [
        Gallery(
            result, picture.inline(result.gallery_picture), _description(result), _facts(result)
        )
        for result in results
        if result.gallery_picture is not None
    ]


def _description(result: Result) -> str:
    """Return how many images of each cell of the confusion matrix there are."""
    if result.gallery is None:
        return f"Images with Grad-CAM maps of {result.name}."
    counts = result.gallery["cell"].value_counts()
    cells = [f"{counts[cell]} {words}" for cell, words in _CELLS.items() if cell in counts.index]
    return f"Images with Grad-CAM maps of {result.name}: {', '.join(cells)}."


def _facts(result: Result) -> dict[str, str]:
    found = result.metrics.get("explanations") or {}
    known = {words: found.get(key) for key, words in _FACTS.items()}
    return {
        words: wording.number(value)
        for words, value in known.items()
        if isinstance(value, int | float)
    }
