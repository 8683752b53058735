"""The figures: scikit-learn's displays with our colours, and the samples."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from cxr import files
from cxr.report import figures, learning, style
from cxr.report.results import Result
from tests.report.fabricate import Project


def drawn(figure: Figure) -> str:
    """Draw a figure and return its text."""
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(Text))


@pytest.fixture(scope="module")
def tested(results: list[Result]) -> list[figures.Tested]:
    return [
        figures.Tested(r.name, r.colour, r.test, r.perturbed, r.roc, r.precision_recall)
        for r in results
    ]


@pytest.fixture(scope="module")
def one_class() -> figures.Tested:
    """A test set of PNEUMONIA alone."""
    metrics = {"auc": None, "auc_low": None, "auc_high": None, "tp": 3, "fn": 1, "tn": 0, "fp": 0}
    return figures.Tested(
        "one", style.COLOURS[0], metrics, metrics, pd.DataFrame({"fpr": [], "tpr": []}),
        pd.DataFrame({"recall": [1.0, 0.0], "precision": [1.0, 1.0]}),
    )  # fmt: skip


class TestRoc:
    def test_it_has_each_curve_with_its_auc_and_colour(self, tested: list[figures.Tested]) -> None:
        (axes,) = figures.roc(tested).axes
        lines = {str(line.get_label()): line for line in axes.lines}
        for system in tested:
            auc, low, high = (system.metrics[key] for key in ("auc", "auc_low", "auc_high"))
            line = lines[f"{system.name}: AUC {auc:.3f} ({low:.3f} to {high:.3f})"]
            np.testing.assert_array_equal(line.get_xdata(), system.roc["fpr"])
            np.testing.assert_array_equal(line.get_ydata(), system.roc["tpr"])
            assert line.get_color() == system.colour

    def test_the_dot_is_at_the_threshold(self, tested: list[figures.Tested]) -> None:
        (axes,) = figures.roc(tested[:1]).axes
        counts = tested[0].metrics
        expected = (
            counts["fp"] / (counts["fp"] + counts["tn"]),
            counts["tp"] / (counts["tp"] + counts["fn"]),
        )
        (dot,) = [line for line in axes.lines if line.get_marker() == "o"]
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == pytest.approx(expected)

    def test_one_class_has_no_curve(self, one_class: figures.Tested) -> None:
        drawing = drawn(figures.roc([one_class]))
        assert "one: no AUC, one class" in drawing


class TestPrecisionRecall:
    def test_it_has_each_curve_and_the_chance_level(self, tested: list[figures.Tested]) -> None:
        (axes,) = figures.precision_recall(tested[:1]).axes
        curve, chance = axes.lines[0], axes.lines[-1]
        np.testing.assert_array_equal(curve.get_xdata(), tested[0].precision_recall["recall"])
        assert chance.get_ydata()[0] == 60 / 80  # three quarters of the patients

    def test_the_dot_is_at_the_threshold(self, tested: list[figures.Tested]) -> None:
        (axes,) = figures.precision_recall(tested[:1]).axes
        (dot,) = [line for line in axes.lines if line.get_marker() == "o"]
        expected = (tested[0].metrics["recall"], tested[0].metrics["precision"])
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == pytest.approx(expected)

    def test_normal_alone_can_be_drawn(self, one_class: figures.Tested) -> None:
        metrics = dict(one_class.metrics) | {"tp": 0, "fn": 0, "tn": 4}
        empty = pd.DataFrame({"recall": [], "precision": []})
        system = figures.Tested("n", style.COLOURS[0], metrics, metrics, one_class.roc, empty)
        assert drawn(figures.precision_recall([system]))


class TestConfusion:
    def test_it_has_counts_and_percentages_of_the_row(self, tested: list[figures.Tested]) -> None:
        axes = figures.confusion(tested).axes[0]
        cells = {text.get_position(): text.get_text() for text in axes.texts}
        tp, fn, tn = (tested[0].metrics[key] for key in ("tp", "fn", "tn"))
        assert cells[(1, 1)] == f"{tp}\n{100 * tp / (tp + fn):.1f} %"
        assert cells[(0, 1)].startswith(f"{fn}\n")  # predicted NORMAL, PNEUMONIA in truth
        assert cells[(0, 0)].startswith(f"{tn}\n")

    def test_its_text_has_one_colour_in_every_cell(self, tested: list[figures.Tested]) -> None:
        axes = figures.confusion(tested).axes[0]
        assert {text.get_color() for text in axes.texts} == {style.INK}

    def test_a_row_without_images(self, one_class: figures.Tested) -> None:
        (axes,) = figures.confusion([one_class]).axes
        assert [text.get_text() for text in axes.texts][:2] == ["0\n0.0 %", "0\n0.0 %"]

    def test_four_systems_leave_the_last_panels_empty(self, tested: list[figures.Tested]) -> None:
        panels = figures.confusion([*tested, *tested]).axes
        assert [panel.axison for panel in panels] == [True] * 4 + [False] * 2


class TestLearning:
    def test_the_ring_is_at_the_best_epoch(self, phased: Result) -> None:
        system = learning.Learning("a", style.COLOURS[0], phased.history, [3, 11])
        loss, _ = learning.curves([system]).axes
        (ring,) = [line for line in loss.lines if line.get_label() == "best epoch"]
        assert list(ring.get_xdata()) == [3, 11]
        expected = phased.history.set_index("epoch").loc[[3, 11], "val_loss"]
        np.testing.assert_array_equal(ring.get_ydata(), expected)
        assert {text.get_text() for text in loss.texts} == {"features", "finetune"}

    def test_one_epoch(self, phased: Result) -> None:
        system = learning.Learning("a", style.COLOURS[0], phased.history.iloc[:1], [])
        assert drawn(learning.curves([system]))

    def test_undefined_aucs(self, phased: Result) -> None:
        history = phased.history.assign(auc=np.nan, val_auc=np.nan)
        system = learning.Learning("a", style.COLOURS[0], history, [1])
        assert drawn(learning.curves([system]))


def test_samples_are_above_their_perturbed_versions() -> None:
    clean = np.arange(3 * 4 * 4, dtype="uint8").reshape(3, 4, 4)
    panels = figures.samples(clean, 255 - clean).axes
    shown = [panel.images[0].get_array() for panel in panels]
    np.testing.assert_array_equal(shown, np.concatenate([clean, 255 - clean]))
    assert (panels[0].get_title("left"), panels[3].get_title("left")) == ("clean", "perturbed")


def test_figures_of_one_system_are_written_beside_its_curves(
    project: Project, results: list[Result], tmp_path: Path
) -> None:
    for name in ("roc", "precision_recall"):
        table = files.read_csv(project.root / f"evaluations/vgg16_transfer/{name}.csv")
        files.write_csv(tmp_path / f"{name}.csv", table)
    figures.write("vgg16_transfer", results[0].metrics, results[0].history, tmp_path)
    for name in ("training_curves", "roc", "precision_recall", "confusion"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
