"""The page: the answer at the top, every figure in words and numbers, nothing loaded."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxr import files
from cxr.labels import SPLITS
from cxr.report import differences, style
from cxr.report import page as pages
from cxr.report.answer import verdict
from cxr.report.results import Context, Result
from cxr.report.tables import METRICS
from tests.report.fabricate import (
    COMMIT,
    SPLIT,
    Project,
    edit,
    render,
    tables,
    terminal,
    with_settings,
    with_unknown_patients,
    write_model,
    write_project,
)

PNG = "data:image/png;base64,"  # an image inside the page


class Page(HTMLParser):
    """The resources that a page would load, its ids and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            if name in values and not str(values[name]).startswith(("#", PNG)):
                self.loaded.append(f"{tag} {name}={values[name]}")


def row(page: str, opening: str) -> str:
    """Return the first table row with this opening tag."""
    return page[page.index(opening) :].partition("</tr>")[0]


class TestHtml:
    def test_it_loads_nothing(self, page: str) -> None:
        parsed = Page(page)
        assert parsed.loaded == []
        assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in parsed.tags}
        assert "@import" not in page
        assert re.findall(r"url\((?!#)", page) == []
        assert "http" not in re.sub(PNG + '[^"]*', "", page)

    def test_ids_are_unique_and_references_resolve(self, page: str) -> None:
        ids = Page(page).ids
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', page)) <= set(ids)

    def test_figures_have_descriptions_and_headers_a_scope(self, page: str) -> None:
        tags = Page(page).tags
        drawn = [values for tag, values in tags if tag == "svg"]
        assert len(drawn) == 5
        assert all(v.get("role") == "img" and v.get("aria-label") for v in drawn)
        assert all("scope" in values for tag, values in tags if tag == "th")

    def test_every_table_can_scroll_in_its_box(self, page: str) -> None:
        boxed = re.findall(r'<div class="scroll"[^>]*>\s*<table', page)
        assert len(boxed) == page.count("<table")

    def test_colours_follow_light_and_dark_mode(self, page: str) -> None:
        drawing = page[page.index("<svg") :]
        assert "prefers-color-scheme: dark" in page
        assert re.findall(r"(?:fill|stroke): #", drawing) == []
        used = set(re.findall(r"var\(--([a-z0-9-]+)\)", page))
        defined = set(re.findall(r"--([a-z0-9-]+):", page))
        assert used <= defined

    def test_names_are_escaped(self, results: list[Result], shared: Context) -> None:
        evil = "<script>alert('$x$')</script>"
        control = results[1]
        phases = {evil: control.phases["train"] | {"trainable_layers": [evil]}}
        asked = control.record["system"]["phases"]["train"] | {"data": evil, "trainable": evil}
        changed = with_settings(control, phases={evil: asked})
        hostile = replace(
            changed,
            name=evil,
            weights=dict(control.weights) | {"weights": evil},
            record=dict(changed.record) | {"phases": phases},
            metrics=dict(control.metrics) | {"phases": {evil: control.metrics}},
            phase_predictions=control.phase_predictions.assign(phase=evil),
            history=control.history.assign(phase=[evil] * 6 + ["b$"] * 6),
            provenance=dict(control.provenance)
            | {"device": evil, "git": {"commit": evil, "changed": [evil]}},
            published={"title": evil, "split": evil, "note": evil},
        )
        source = dict(shared.source) | {"origin": evil, "licence": evil}
        text = render([hostile, replace(control, name="b")], replace(shared, source=source))
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        assert "script" not in {tag for tag, _ in Page(text).tags}


class TestTop:
    def test_the_answer_comes_first(self, page: str) -> None:
        answer = page.index("Yes: pretrained weights give the higher test AUC.")
        assert answer < page.index("All systems") < page.index("Can I believe it?")
        assert page.count("not for diagnosis") == page.count("<header") + page.count("<footer") == 2

    def test_every_pair_is_listed_with_its_kind(self, page: str) -> None:
        header = page[page.index("<header") : page.index("</header>")]
        controlled, uncontrolled = header.split("<tbody>")[1].split("</tr>")[:2]
        assert (
            'controlled<br><span class="small">differs in initial weights, batch size (62 against '
            "16), layers trained (block 5 and head against all layers)</span>" in controlled
        )
        assert "pretrained better" in controlled
        assert (
            'not a controlled comparison<br><span class="small">also differs in number of phases '
            "(2 against 1)</span>" in uncontrolled
        )
        assert "uncontrolled" in uncontrolled

    def test_a_pair_has_its_aucs_times_and_difference(
        self, page: str, results: list[Result], shared: Context
    ) -> None:
        header = page[page.index("<header") : page.index("</header>")]
        for result in results:
            assert f"AUC {result.test['auc']:.3f}, 150 s</span>" in header
        (pair,) = differences.pairs(results, shared)
        assert pair.difference.interval is not None
        low, high = pair.difference.interval
        assert f"{pair.difference.value:+.3f}" in header
        assert f"({low:+.3f} to {high:+.3f})" in header

    def test_without_a_controlled_pair_the_obstacle_is_named(
        self, results: list[Result], shared: Context
    ) -> None:
        text = render([results[0], with_settings(results[1], class_weights=None)], shared)
        assert "This run cannot answer: no two systems differ in the initial weights alone." in text
        assert "also differ in class weights (balanced against none).</p>" in text
        assert '<header class="none">' in text

    def test_warnings_are_below_the_headline(self, results: list[Result], shared: Context) -> None:
        text = render(results, with_unknown_patients(shared, 3))
        assert '<header class="warned">' in text
        assert '<p class="warning">3 of 240 images have no known patient' in text

    def test_one_system_has_no_pairs(self, results: list[Result], shared: Context) -> None:
        assert 'class="pairs"' not in render(results[:1], shared)


class TestSystems:
    def test_published_figures_are_under_ours_with_their_split(self, page: str) -> None:
        found = row(page, '<tr class="published">')
        for words in (SPLIT, "0.9895", "362"):
            assert words in found
        assert page.count('<tr class="published">') == 1

    def test_published_figures_of_a_phase_are_under_it(
        self, phased: Result, shared: Context
    ) -> None:
        phases = {
            "features": {"test": {"accuracy": 0.7825}, "epochs": 25},
            "finetune": {"perturbed": {"accuracy": 0.7348}},
        }
        text = render([replace(phased, published={"split": "none", "phases": phases})], shared)
        first, last = re.findall('<tr class="published">.*?</tr>', text, flags=re.DOTALL)
        assert "published, after features" in first
        assert "<td>0.7825</td>" in first
        assert ">25<" in first.replace("\n", "")
        assert "accuracy 0.7348</td>" in last
        assert "0.7825" not in last

    def test_earlier_phases_are_under_their_system(
        self, page: str, phased: Result, results: list[Result], shared: Context
    ) -> None:
        found = row(page, '<tr class="earlier">')
        before = phased.metrics["phases"]["features"]
        assert ">after features</th>" in found
        for figure in (before["test"]["auc"], before["perturbed"]["auc"], before["test"]["recall"]):
            assert f">{figure:.3f}" in found
        assert page.count('<tr class="earlier">') == 1
        alone = render(results, shared)
        assert '<tr class="earlier">' not in alone
        assert ">Gain</th>" not in alone

    def test_perturbed_metrics(self, page: str, results: list[Result]) -> None:
        for result in results:
            assert f">{result.perturbed['auc']:.3f}<br>" in page
            assert f"accuracy {result.perturbed['accuracy']:.3f}</span>" in page

    def test_the_largest_samples_are_shown(self, results: list[Result], shared: Context) -> None:
        text = render([results[0], with_settings(results[1], image_size=225)], shared)
        ((_, image),) = [tag for tag in Page(text).tags if tag[0] == "img"]
        encoded = str(image["src"]).removeprefix(PNG)
        assert base64.b64decode(encoded) == b"\x89PNG of vgg16_scratch"
        assert "rotation 30, shear 0.2, zoom 0.2, horizontal flip, channel shift 0.9" in text

    def test_the_details_of_each_phase(self, page: str, phased: Result, shared: Context) -> None:
        details = page[page.index('id="details"') :]
        assert details.count(">features</th>") == 1
        assert "5 of 10,000" in details
        assert "block5_conv1 block5_conv2 head_dense_1" in details
        assert "restores the weights of the epoch with the lowest validation loss" in details
        ((_, after),) = differences.phase_results([phased], shared).values()
        for gain in (after.gain, after.perturbed_gain):
            assert gain is not None
            assert gain.interval is not None
            assert f">{gain.value:+.3f}<br>" in details
            assert f"({gain.interval[0]:+.3f} to {gain.interval[1]:+.3f})" in details

    def test_the_commit_of_each_model(self, page: str) -> None:
        assert page.count(f"commit {COMMIT[:12]}") == 3


class TestDegenerate:
    def test_undefined_metrics_are_dashes(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, vgg16_transfer=2.0, vgg16_scratch=2.0)

        def undefine(value: dict[str, Any]) -> None:
            phases = [found for phase in value["phases"].values() for found in phase.values()]
            for found in (*(value[n] for n in (*SPLITS, "perturbed")), *phases):
                found |= dict.fromkeys(METRICS)
                found |= {"tn": 0, "fp": 0, "auc_low": None, "auc_high": None}

        for name in ("vgg16_transfer", "vgg16_scratch"):
            folder = tmp_path / "evaluations" / name
            edit(folder / "metrics.json", undefine)
            for file in ("predictions.csv", "phases.csv"):
                files.write_csv(folder / file, files.read_csv(folder / file).assign(label=1))
            for file in ("roc.csv", "precision_recall.csv"):
                files.write_csv(folder / file, files.read_csv(folder / file).iloc[:0])
        results, shared = project.collect("vgg16_transfer", "vgg16_scratch"), project.context()
        assert verdict(results, shared).outcome == "unknown"
        text = re.sub(PNG + '[^"]*', "", render(results, shared))
        assert not re.search(r"\b(nan|NaN|None)\b", text)
        rows, _ = tables(results, shared)
        assert rows[["auc", "perturbed_auc"]].isna().all(axis=None)
        assert "nan" not in "".join(terminal(results, shared))

    def test_one_system_of_one_epoch(self, tmp_path: Path) -> None:
        project = write_project(tmp_path, vgg16_scratch=0.0)
        write_model(tmp_path, "vgg16_scratch", None, {"train": 1})
        text = render(project.collect("vgg16_scratch"), project.context())
        assert "(1 epoch, 40.0 s each)" in text

    def test_a_phase_that_restores_no_epoch(self, results: list[Result], shared: Context) -> None:
        phases = {"train": results[1].phases["train"] | {"best_epoch": None}}
        last = replace(results[1], record=dict(results[1].record) | {"phases": phases})
        assert "None" not in re.sub(PNG + '[^"]*', "", render([last], shared))


class TestWrite:
    @pytest.fixture(scope="class")
    def written(
        self, results: list[Result], shared: Context, tmp_path_factory: pytest.TempPathFactory
    ) -> Path:
        folder = tmp_path_factory.mktemp("reports")
        table = pages.write(results, shared, folder)
        assert (folder / "comparison.txt").read_text(encoding="utf-8") == table + "\n"
        return folder

    def test_the_tables_are_those_of_the_results(
        self, written: Path, results: list[Result], shared: Context
    ) -> None:
        rows, phases = tables(results, shared)
        pd.testing.assert_frame_equal(files.read_csv(written / "phases.csv"), phases)
        found = files.read_csv(written / "comparison.csv")
        pd.testing.assert_frame_equal(found, rows, check_dtype=False)

    def test_the_same_results_give_the_same_bytes(
        self, written: Path, project: Project, results: list[Result], shared: Context,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        with style.mpl.rc_context({"font.size": 20, "axes.grid": False}):  # a matplotlibrc
            pages.write(results, shared, tmp_path)
        names = sorted(path.name for path in written.iterdir())
        assert names == [
            "comparison.csv", "comparison.txt", "comparisons.csv", "confusion.png", "index.html",
            "phases.csv", "roc.png", "training_curves.png",
        ]  # fmt: skip
        for name in names:
            found = (written / name).read_bytes()
            assert found == (tmp_path / name).read_bytes(), name
            for word in (str(written), str(project.root), "Matplotlib"):
                assert word.encode() not in found
