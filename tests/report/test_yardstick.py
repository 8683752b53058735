"""The linear probe as the yardstick: who beats it, in the tables and on the page."""

import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from cxr.evaluation import intervals
from cxr.report import page as pages
from cxr.report import wording
from cxr.report.answer import verdict
from cxr.report.columns import columns
from cxr.report.differences import Difference, Yardstick, pairs, phase_results, yardstick
from cxr.report.results import Context, Result
from tests.report.fabricate import data_of, render, shown, tables, terminal

SENTENCE = "The yardstick is probe, a linear probe on frozen features: its test AUC is "


def compared(results: list[Result], shared: Context) -> Yardstick:
    found = yardstick(results, shared)
    assert found is not None
    return found


def with_outcomes(results: list[Result], shared: Context) -> list[Result]:
    """Make one system perfect, one the probe's equal, and one its reverse."""
    probe, *others = results
    perfect = probe.predictions.assign(probability=probe.predictions["label"].astype(float))
    reverse = perfect.assign(probability=1 - perfect["probability"])
    tables = [perfect, probe.predictions, reverse]
    return [
        probe,
        *(replace(r, predictions=table) for r, table in zip(others, tables, strict=True)),
    ]


class TestYardstick:
    def test_is_the_first_system_of_logistic_regressions_alone(
        self, probed: list[Result], shared: Context
    ) -> None:
        assert [result.is_probe for result in probed] == [True, False, False, False]
        second = replace(probed[0], name="second")
        assert compared([probed[1], probed[0], second], shared).probe.name == "probe"

    def test_is_none_where_a_phase_trains_by_gradient_descent(
        self, probed: list[Result], shared: Context
    ) -> None:
        system = probed[0].record["system"]
        gradient = probed[1].record["system"]["phases"]["train"]
        phases = system["phases"] | {"train": gradient}
        record = dict(probed[0].record) | {"system": system | {"phases": phases}}
        assert yardstick([replace(probed[0], record=record)], shared) is None
        assert yardstick(probed[1:], shared) is None

    def test_compares_every_other_system_with_the_probe_over_the_same_patients(
        self, probed: list[Result], shared: Context
    ) -> None:
        found = compared(probed, shared)
        assert list(found.differences) == ["vgg16_transfer", "vgg16_scratch", "vgg16_gap_phases"]
        for result in probed[1:]:
            one, other = (
                r.predictions[r.predictions["split"] == "test"] for r in (result, probed[0])
            )
            patients = shared.manifest.set_index("id")["patient"][one["id"]].to_numpy()
            difference = found.differences[result.name]
            assert difference.value == pytest.approx(result.test["auc"] - probed[0].test["auc"])
            assert difference.interval == intervals.auc_difference_interval(
                one["label"].to_numpy(), one["probability"].to_numpy(),
                other["probability"].to_numpy(), patients, shared.seed,
            )  # fmt: skip

    def test_is_no_part_of_a_pair(self, probed: list[Result], shared: Context) -> None:
        assert pairs(probed, shared) == pairs(probed[1:], shared)
        one, other = verdict(probed, shared), verdict(probed[1:], shared)
        assert replace(one, yardstick=None) == other

    def test_has_three_outcomes(self, probed: list[Result], shared: Context) -> None:
        found = compared(with_outcomes(probed, shared), shared).differences.values()
        assert [difference.outcome for difference in found] == ["better", "open", "worse"]


class TestText:
    def test_says_who_beats_it(self, probed: list[Result], shared: Context) -> None:
        lines = terminal(with_outcomes(probed, shared), shared)
        start = next(place for place, line in enumerate(lines) if line.startswith(SENTENCE))
        auc = f"{probed[0].test['auc']:.3f}"
        assert " ".join(" ".join(lines[start : start + 2]).split()) == (
            f"{SENTENCE}{auc}, and every trained network has to beat it."
        )
        ends = [line.split(" AUC, ")[1] for line in lines[start + 2 : start + 5]]
        assert ends == [
            "beats it",
            "does not beat it",
            "is worse",
        ]
        assert lines[start + 3] == "  vgg16_scratch: +0.000 AUC, does not beat it"

    def test_has_it_first(self, probed: list[Result], shared: Context) -> None:
        lines = terminal(probed, shared)
        rule = next(place for place, line in enumerate(lines) if line.startswith("---"))
        assert lines[rule + 1].startswith("probe ")

    def test_is_the_same_without_one(self, probed: list[Result], shared: Context) -> None:
        assert "probe" not in "\n".join(terminal(probed[1:], shared))


class TestTables:
    def test_a_system_has_its_difference(self, probed: list[Result], shared: Context) -> None:
        rows, _ = tables(probed, shared)
        found = compared(probed, shared).differences["vgg16_scratch"]
        assert found.interval is not None
        columns = ["probe_difference", "probe_difference_low", "probe_difference_high"]
        assert rows.loc[2, columns].tolist() == [found.value, *found.interval]
        assert rows.loc[0, columns].isna().all()  # the probe itself
        without, _ = tables(probed[1:], shared)
        assert without[columns].isna().all(axis=None)

    def test_its_phase_has_a_strength_and_no_learning_rate(
        self, probed: list[Result], shared: Context
    ) -> None:
        _, phases = tables(probed, shared)
        assert phases.loc[0, ["epochs", "best_epoch", "strength"]].tolist() == [1, 1, 100]
        assert pd.isna(phases.loc[0, "learning_rate"])
        assert phases.loc[1:, "strength"].isna().all()


class TestPage:
    def test_names_it(self, probed: list[Result], shared: Context) -> None:
        assert SENTENCE in " ".join(render(probed, shared).split())

    def test_every_other_system_has_its_difference(
        self, probed: list[Result], shared: Context
    ) -> None:
        changed = with_outcomes(probed, shared)
        (column,) = [
            found
            for found in columns(changed, compared(changed, shared))
            if found.label == "AUC minus probe"
        ]
        assert column.cells["probe"].notes == ["the yardstick"]
        assert column.cells["probe"].order is None
        for name, words in zip(
            ("vgg16_transfer", "vgg16_scratch", "vgg16_gap_phases"),
            ("beats it", "does not beat it", "is worse"),
            strict=True,
        ):
            found = compared(changed, shared).differences[name]
            assert found.value is not None
            assert column.cells[name].text == wording.signed(found.value)
            assert column.cells[name].notes[-1] == words

    def test_is_the_same_without_one(self, probed: list[Result], shared: Context) -> None:
        text = render(probed[1:], shared)
        for words in ("yardstick", "linear probe", "AUC minus"):
            assert words not in shown(text)

    def test_details_of_its_phase(self, probed: list[Result], shared: Context) -> None:
        text = render(probed[:1], shared)
        details = text[text.index('id="details"') :]
        assert "average of block4_pool and block5_pool, dense 512" in details
        assert "penalty&#39;s strengths 100 and 10,000 the one with the lowest" in details
        assert "strength 100 chosen" in details
        assert "validation loss by strength: 10,000 0.250, 100 0.125" in details
        assert not re.search(r"\b(nan|NaN|None)\b", shown(text))

    def test_has_no_learning_curves(self, probed: list[Result], shared: Context) -> None:
        text = render(probed, shared)
        specs = json.loads(data_of(text))["specs"]
        titles = [specs[f"epochs-{place}-auc"]["title"]["text"] for place in range(3)]
        assert titles == [f"{result.name}: AUC" for result in probed[1:]]
        assert "epochs-3-auc" not in specs

    def test_alone_is_a_report_too(self, probed: list[Result], shared: Context, tmp_path) -> None:
        table = pages.write(probed[:1], shared, tmp_path)
        assert SENTENCE in table
        assert "AUC minus" not in shown((tmp_path / "index.html").read_text(encoding="utf-8"))


def test_one_class_is_undefined(probed: list[Result], shared: Context) -> None:
    sick = [replace(r, predictions=r.predictions.assign(label=1)) for r in probed]
    found = compared(sick, shared).differences
    assert set(found.values()) == {Difference(None, None)}
    assert "AUC, undefined" in "\n".join(terminal(sick, shared))
    assert phase_results(probed, shared)["probe"][0].gain is None
