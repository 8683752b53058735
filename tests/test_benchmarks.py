"""Benchmarks run at toy size and leave the results alone; README.md shows what is recorded."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from benchmarks import measure, readme
from cxr import files
from cxr.report import style
from tests.paths import PYTHONPATH, ROOT

# A soak kills trainings for half an hour; tests/training/test_killed.py kills some.
BENCHMARKS = [name for name in readme.names() if name != "soak"]
TABLE = pd.DataFrame({"name": ["a|b", "c"], "seconds": [1234.5, None], "images": [1000, 2]})


def results() -> dict[str, str]:
    return {path.name: files.file_sha256(path) for path in measure.RESULTS.iterdir()}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_runs_at_toy_size_and_leaves_the_results_alone(name, tmp_path):
    before = results()
    environment = os.environ | {"PYTHONPATH": PYTHONPATH, "TMPDIR": str(tmp_path)}
    environment.pop("KERAS_BACKEND", None)  # part of the recorded command
    ran = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--toy"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    (path,) = tmp_path.glob(f"benchmark-*/{name}.json")
    text = path.read_text(encoding="utf-8")
    result = json.loads(text)
    assert result["command"] == f"python -m benchmarks.{name} --toy"
    assert result["machine"] and result["cores"] >= 1 and result["versions"]["numpy"]
    assert result["title"] and result["rows"]
    assert str(ROOT) not in text and str(tmp_path) not in text
    assert results() == before


def test_make_bench_runs_them_all():
    environment = {key: value for key, value in os.environ.items() if key != "BENCHMARKS"}
    said = subprocess.check_output(["make", "-n", "bench"], cwd=ROOT, env=environment, text=True)
    (listed,) = re.findall(r"^for name in (.*); do", said, flags=re.MULTILINE)
    assert sorted(listed.split()) == BENCHMARKS


def test_readme_is_rendered_from_the_recorded_results():
    assert readme.README.read_text(encoding="utf-8") == readme.render(), (
        "run `python -m benchmarks.readme`"
    )


def test_every_recorded_result_has_its_benchmark_and_both_plots():
    recorded = {path.stem for path in measure.RESULTS.glob("*.json")}
    assert recorded <= set(readme.names())
    plots = {path.stem.removesuffix(measure.DARK) for path in measure.RESULTS.glob("*.png")}
    assert plots <= recorded
    for name in plots:
        assert (measure.RESULTS / f"{name}{measure.DARK}.png").is_file()


def test_candidates_take_turns_after_one_untimed_call_of_each():
    calls: list[str] = []
    seconds = measure.paired({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_the_median_over_the_pairs_not_the_ratio_of_the_medians():
    seconds = {"a": [2.0, 30.0, 9.0], "b": [1.0, 10.0, 10.0]}
    assert measure.medians(seconds) == {"a": 9.0, "b": 10.0}
    assert measure.ratio(seconds, "a", "b") == 2.0


def test_a_result_has_no_path_of_this_machine(tmp_path, monkeypatch):
    (tmp_path / "xrays.zip").touch()
    monkeypatch.setattr(
        sys, "argv", ["x", "--archive", str(tmp_path / "xrays.zip"), "--rounds", "3"]
    )
    monkeypatch.setitem(sys.modules, "__main__", measure)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert measure.command() == "python -m benchmarks.measure --archive xrays.zip --rounds 3"


def test_missing_values_and_numbers_reach_the_readme(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    figure = measure.bars({"a": 1.0, "b": 2.0}, "seconds", "b")
    measure.write("soak", "Title", "python -m x", TABLE, ["A note."], figure, toy=False)
    section = readme.render().partition("## Title")[2]
    assert "| name | seconds | images |\n| --- | ---: | ---: |\n" in section
    assert r"| a\|b | 1,234 | 1,000 |" in section and "| c |  | 2 |" in section
    assert '<source media="(prefers-color-scheme: dark)" srcset="results/soak-dark.png">' in section
    assert "- A note." in section and "```\npython -m x\n```" in section


def test_a_benchmark_without_a_result_is_listed_as_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    text = readme.render()
    for name in readme.names():
        section = text.partition(f"## {name}: not measured\n")[2].partition("\n## ")[0]
        assert re.search(rf"```\n.*python -m benchmarks\.{name}\b.*\n```", section), name


def test_the_plot_for_dark_pages_has_the_reports_dark_colours(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    figure = measure.bars({"a": 1.0, "b": 2.0}, "seconds", "b")
    measure.write("x", "Title", "python -m x", TABLE, [], figure, toy=False)
    (axes,) = figure.axes
    dark = {style.DARK[colour] for colour in (style.COLOURS[0], style.COLOURS[7])}
    assert {to_hex(bar.get_facecolor()) for bar in axes.patches} == dark
    assert to_hex(figure.get_facecolor()) == style.DARK[style.PAPER]
    assert to_hex(axes.xaxis.label.get_color()) == style.DARK[style.INK]
    light, darkened = (tmp_path / f"x{end}.png" for end in ("", measure.DARK))
    assert light.read_bytes() != darkened.read_bytes()


def test_weights_are_found_by_their_backbone(tmp_path):
    for name in ("vgg16_imagenet.weights.h5", "mobilenet_v2.weights.h5"):
        (tmp_path / name).touch()
    assert measure.weights(tmp_path, "vgg16") == tmp_path / "vgg16_imagenet.weights.h5"
    assert measure.weights(tmp_path, "resnet18") is None
    assert measure.weights(None, "vgg16") is None
    assert isinstance(measure.weights(tmp_path, "mobilenet_v2"), Path)
