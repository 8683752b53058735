"""The page: the answer at the top, every figure in words and numbers, nothing loaded."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxr import files
from cxr.labels import SPLITS
from cxr.report import differences, picture, states, style
from cxr.report import page as pages
from cxr.report.answer import verdict
from cxr.report.results import Context, Result
from cxr.report.tables import METRICS
from tests.report.fabricate import (
    COMMIT,
    SPLIT,
    Project,
    data_of,
    edit,
    render,
    shown,
    tables,
    terminal,
    with_settings,
    with_unknown_patients,
    write_model,
    write_project,
)

PICTURE = "data:image/jpeg;base64,"  # an image inside the page


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
            if name in values and not str(values[name]).startswith(("#", PICTURE)):
                self.loaded.append(f"{tag} {name}={values[name]}")


def section(page: str, name: str) -> str:
    """Return a section by the id of its heading, without its tags."""
    found = page[page.index(f'id="{name}"') :].partition("</section>")[0]
    return " ".join(re.sub("<[^>]*>", " ", found).split())


class TestHtml:
    def test_it_loads_nothing(self, page: str) -> None:
        parsed = Page(page)
        assert parsed.loaded == []
        assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in parsed.tags}
        assert "@import" not in shown(page)
        assert "url(" not in shown(page)
        assert "http" not in shown(page)

    def test_ids_are_unique_and_references_resolve(self, everything: str) -> None:
        ids = Page(everything).ids
        assert len(ids) == len(set(ids))
        referring = r'(?:href="#|for="|aria-labelledby=")([^"]+)'
        assert set(re.findall(referring, shown(everything))) <= set(ids)

    def test_charts_have_descriptions_and_headers_a_scope(self, everything: str) -> None:
        specs = json.loads(data_of(everything))["specs"]
        assert all(spec["description"] for spec in specs.values())
        tags = Page(everything).tags
        assert {values["data-chart"] for _, values in tags if "data-chart" in values} == set(specs)
        assert all("scope" in values for tag, values in tags if tag == "th")
        assert all(values.get("alt") for tag, values in tags if tag == "img")

    def test_each_chart_names_tables_that_the_page_has(self, everything: str) -> None:
        content = json.loads(data_of(everything))
        named = set(re.findall(r'"name":"(\w+)","format"|"format":[^}]*}},"name":"(\w+)"',
                               json.dumps(content["specs"], separators=(",", ":"))))  # fmt: skip
        assert {one or other for one, other in named} == set(content["datasets"])

    def test_colours_follow_light_and_dark_mode(self, everything: str) -> None:
        assert "prefers-color-scheme: dark" in everything
        assert re.findall(r'"#[0-9a-fA-F]{3,6}"', data_of(everything)) == []
        used = set(re.findall(r"var\(--([a-z0-9-]+)\)", everything))
        defined = set(re.findall(r"--([a-z0-9-]+):", everything))
        assert used <= defined

    def test_it_is_small(self, everything: str) -> None:
        assert len(everything) < 3_000_000

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
        assert "<script>alert" not in text
        assert "&lt;script&gt;" in text
        assert "\\u003cscript>alert" in data_of(text)
        assert [tag for tag, _ in Page(text).tags].count("script") == 2  # the data and the code


class TestTop:
    def test_the_answer_comes_first(self, page: str) -> None:
        answer = page.index("Yes: pretrained weights give the higher test AUC.")
        assert answer < page.index('id="systems"') < page.index('id="against"')
        assert page.count("not for diagnosis") == page.count("<header") + page.count("<footer") == 2

    def test_every_section_is_in_the_contents(self, everything: str, page: str) -> None:
        for text, count in ((everything, 11), (page, 7)):
            named = re.findall(r'<li><a href="#(\w+)">', text)
            assert re.findall(r'<section aria-labelledby="(\w+)">', text) == named
            assert len(named) == count

    def test_every_pair_is_listed_with_its_kind(
        self, page: str, results: list[Result], shared: Context
    ) -> None:
        words = section(page, "pairs")
        assert (
            "controlled differs in initial weights, batch size (62 against 16), layers trained "
            "(block 5 and head against all layers)" in words
        )
        assert "not a controlled comparison also differs in number of phases (2 against 1)" in words
        assert page.count('class="uncontrolled"') == 1
        for result in results:
            assert f"AUC {result.test['auc']:.3f}, 150 s" in words
        (pair,) = differences.pairs(results, shared)
        assert pair.difference.interval is not None
        low, high = pair.difference.interval
        assert f"{pair.difference.value:+.3f} {low:+.3f} to {high:+.3f} pretrained better" in words

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

    def test_a_system_without_an_evaluation_has_a_row_that_says_so(
        self, results: list[Result], shared: Context
    ) -> None:
        names = {"cnn": states.NO_MODEL, "probe": states.NO_EVALUATION, "late": states.NOT_RUN}
        text = render(results, replace(shared, systems={**shared.systems, **names}))
        words = section(text, "systems")
        for name in ("cnn", "probe"):
            assert f"{name} not evaluated {names[name]}" in words
        rows = re.findall(r'<th scope="row" role="rowheader"[^>]*>(.*?)</th>', text)
        assert rows[len(results) :][:2] == ["probe", "cnn"]  # after the others
        assert re.search("Not run: .* and late[.]", words)

    def test_one_system_has_no_pairs(self, results: list[Result], shared: Context) -> None:
        assert 'id="pairs"' not in render(results[:1], shared)


class TestSections:
    def test_published_figures_stand_with_ours_and_their_split(
        self, page: str, results: list[Result]
    ) -> None:
        words = section(page, "published")
        assert SPLIT in words
        assert f"0.9895 ours {results[0].test['auc']:.3f}" in words

    def test_without_published_figures_there_is_no_table(
        self, results: list[Result], shared: Context
    ) -> None:
        assert 'id="published"' not in render(results[1:], shared)

    def test_phases_with_their_gain(self, page: str, phased: Result, shared: Context) -> None:
        words = section(page, "training")
        ((before, after),) = differences.phase_results([phased], shared).values()
        assert f"{before.test['auc']:.3f}" in words
        for gain in (after.gain, after.perturbed_gain):
            assert gain is not None
            assert gain.interval is not None
            low, high = gain.interval
            assert f"{gain.value:+.3f} {low:+.3f} to {high:+.3f}" in words

    def test_the_largest_samples_are_shown(self, results: list[Result], shared: Context) -> None:
        text = render([results[0], with_settings(results[1], image_size=225)], shared)
        ((_, image),) = [tag for tag in Page(text).tags if tag[0] == "img"]
        assert image["src"] == picture.inline(results[1].samples)
        assert "rotation 30, shear 0.2, zoom 0.2, horizontal flip, channel shift 0.9" in text

    def test_the_details_of_each_system(self, page: str) -> None:
        words = section(page, "details")
        assert "block5_conv1 block5_conv2 head_dense_1" in words
        assert "restores the weights of the epoch with the lowest validation loss" in words

    def test_the_commit_of_each_model_and_how_to_rebuild(self, page: str) -> None:
        assert page.count(f"commit {COMMIT[:12]}") == 3
        assert f"git checkout {COMMIT[:12]}" in page

    def test_without_an_audit_nothing_is_said_of_what_is_not_anatomy(self, page: str) -> None:
        assert "no anatomy" not in page

    def test_what_not_every_run_has(self, everything: str) -> None:
        assert "Platt scaling" in data_of(everything)
        assert "9 to 14 of 26 test images" in section(everything, "against")
        assert "no anatomy" in section(everything, "systems")
        words = section(everything, "conditions")
        assert "Lungs masked" in words
        assert "clinic" in words
        assert "p &lt; 0.001" in section(everything, "comparisons")
        assert "0.950 to 0.970" in section(everything, "seeds")
        assert "1 right about PNEUMONIA, 1 right about NORMAL" in everything
        assert "0.625" in section(everything, "gallery")


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
        text = shown(render(results, shared))
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
        assert "None" not in shown(render([last], shared))


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
            "markers.csv", "model_card.json", "model_card.md", "phases.csv", "roc.png",
            "subtypes.csv", "training_curves.png",
        ]  # fmt: skip
        for name in names:
            found = (written / name).read_bytes()
            assert found == (tmp_path / name).read_bytes(), name
            for word in (str(written), str(project.root), "Matplotlib"):
                assert word.encode() not in found
