"""The recorded runs, and the documents that are made from them."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cxr import files, params
from cxr.errors import InputError
from cxr.evaluation import intervals, metrics
from tools.results import differences, rebuild, records, render, tables

NAMES = records.names()
RECORDS = records.read_all()


@pytest.fixture(params=NAMES)
def record(request: pytest.FixtureRequest) -> records.Record:
    return RECORDS[request.param]


def test_documents_and_plots_are_those_of_the_records():
    for path, text in render.rendered(RECORDS).items():
        there = path.read_text(encoding="utf-8")
        same = same_drawing(there, text) if path.suffix == ".svg" else there == text
        assert same, f"{path.name}: run `make results`"


def test_a_drawing_with_another_value_is_another():
    drawn = (records.ROOT / "docs" / "answer.svg").read_text(encoding="utf-8")
    assert same_drawing(drawn, drawn)
    (moved,) = re.findall(r'x="([0-9.]+)"', drawn)[:1]
    assert not same_drawing(drawn, drawn.replace(f'x="{moved}"', f'x="{float(moved) + 1}"'))


class TestRecords:
    """Each record is whole, agrees with itself, and can be run with the code as it is now."""

    def test_metrics_are_those_of_its_predictions(self, record: records.Record):
        rows = record.predictions
        labels, patients = rows["label"].to_numpy(), rows["patient"].to_numpy()
        for part, column in (("test", "probability"), ("perturbed", "perturbed_probability")):
            found, probabilities = record.metrics[part], rows[column].to_numpy()
            assert found["auc"] == pytest.approx(metrics.auc(labels, probabilities), abs=1e-9)
            ends = intervals.auc_interval(labels, probabilities, patients, record.seed)
            assert (found["auc_low"], found["auc_high"]) == pytest.approx(ends, abs=1e-6)
        counts = metrics.confusion(
            labels, rows["probability"].to_numpy(), record.metrics["threshold"]
        )
        assert counts == {name: record.metrics["test"][name] for name in counts}

    def test_mlflow_had_the_same_auc(self, record: records.Record):
        assert record.about["mlflow"]["test/auc"] == pytest.approx(record.metrics["test"]["auc"])

    def test_names_no_file_of_the_machine_that_ran_it(self, record: records.Record):
        for path in (records.FOLDER / record.name).iterdir():
            assert not re.search(r'["=]/\w', path.read_text(encoding="utf-8")), path

    def test_commit_and_hashes_are_full(self, record: records.Record):
        about = record.about
        assert re.fullmatch("[0-9a-f]{40}", about["commit"])
        for file in (about["archive"], *about["weights"].values()):
            assert re.fullmatch("[0-9a-f]{64}", file["sha256"])

    def test_its_command_fits_params_yaml_as_it_is_now(
        self, record: records.Record, tmp_path: Path
    ):
        weights = {name: rebuild.shell(f"/w/{name}.h5") for name in record.about["weights"]}
        words = shlex.split(record.commands(rebuild.shell("/a b/x.zip"), weights)[-1])
        given = [word for word, before in zip(words[1:], words, strict=False) if before == "-S"]
        merged = OmegaConf.load(records.ROOT / "params.yaml")
        OmegaConf.set_struct(merged, True)
        for override in OverridesParser.create().parse_overrides(given):
            OmegaConf.update(merged, override.key_or_group, override.value(), merge=True)
        OmegaConf.save(merged, tmp_path / "params.yaml")
        found = params.load(tmp_path / "params.yaml")
        assert found.source == "/a b/x.zip"
        assert found.split.protocol == record.protocol
        assert found.seed == record.seed
        for system in record.members or [record.system]:
            assert found.system(system).weights == (f"/w/{system}.h5" if weights else None)
        if record.members:
            assert list(found.ensemble(record.system)) == record.members
            assert words[-1] == f"ensemble@{record.system}"
        else:
            assert found.system(record.system).image_size == record.image_size
            assert words[-1] == f"evaluate@{record.system}"


class TestDifference:
    """AUC minus AUC, paired where the test images are the same."""

    def test_same_predictions_differ_by_nothing(self):
        one = RECORDS[NAMES[0]]
        found = differences.difference(one, one)
        assert (found.value, found.interval) == (0, (0, 0))

    def test_value_by_hand_in_any_order_of_rows(self):
        right = made([0.1, 0.2, 0.8, 0.9])
        wrong = made([0.8, 0.2, 0.1, 0.9])  # of four pairs, one is in order, and ...
        found = differences.difference(right, reverse(wrong))
        assert found.value == pytest.approx(1 - metrics.auc(*pairs(wrong)))

    def test_other_images_are_resampled_on_their_own(self):
        one, other = made([0.1, 0.8, 0.2, 0.9]), made([0.1, 0.8, 0.2, 0.9], first=100)
        found = differences.difference(one, other)
        assert found.value == 0
        low, high = found.interval
        assert low < 0 < high  # paired, both ends would be 0


def test_listed_markers_are_of_recorded_images():
    marked = files.read_csv(records.FOLDER / "markers.csv")
    tested = RECORDS["views-official"].predictions
    assert set(marked.loc[marked["split"] == "test", "id"]) <= set(tested["id"])


class TestSeeds:
    """Runs that differ in their seed alone stand in one row."""

    def test_runs_are_grouped_by_all_other_settings(self):
        found = [seeded(0), seeded(2), seeded(1), seeded(1, freeze_blocks="2"), seeded(1, "other")]
        (group,) = records.seeds({str(n): record for n, record in enumerate(found)})
        assert [record.seed for record in group] == [0, 1, 2]
        assert {record.system for record in group} == {"one"}

    def test_row_by_hand(self):
        said = tables.seeds([[seeded(0, auc=0.90), seeded(1, auc=0.96)]])
        cells = [cell.strip() for cell in said.splitlines()[-1].strip("|").split("|")]
        # Intervals are 0.04 wide; the range over seeds is 0.06.
        assert cells == [
            "`one`", "64", "grouped", "0.900 (0), 0.960 (1)", "0.930", "0.060", "0.040", "seeds",
        ]  # fmt: skip


class TestRebuild:
    """The files that a run was made from are checked before anything runs."""

    def test_another_file_is_refused_with_both_hashes(self, tmp_path: Path):
        path = tmp_path / "x.zip"
        path.write_bytes(b"other")
        expected = {"name": "kermany-224.zip", "sha256": "0" * 64}
        with pytest.raises(InputError, match=f"{files.file_sha256(path)}.*{'0' * 64}"):
            rebuild.checked(str(path), expected, "--archive")

    def test_weights_are_looked_for_in_the_folder(self, tmp_path: Path):
        assert rebuild.in_folder(str(tmp_path), {"name": "w.h5"}) == str(tmp_path / "w.h5")
        assert rebuild.in_folder(None, {"name": "w.h5"}) is None

    @pytest.mark.parametrize("path", [None, "/nowhere/x.zip"])
    def test_missing_file_is_named(self, path: str | None):
        expected = {"name": "kermany-224.zip", "sha256": "0" * 64}
        with pytest.raises(InputError, match=f"--archive is {path or 'missing'}.*kermany-224.zip"):
            rebuild.checked(path, expected, "--archive")

    def test_unknown_record_lists_those_there_are(self):
        with pytest.raises(InputError, match=f"no recorded run is named x: there are .*{NAMES[0]}"):
            records.read("x")

    def test_figures_stand_beside_each_other(self):
        before = RECORDS[NAMES[0]].metrics
        now = json.loads(json.dumps(before))
        now["test"]["auc"] -= 0.25
        said = rebuild.compare(before, now)
        assert "-0.2500" in said
        assert said.count("+0.0000") == 3


def test_a_block_without_a_template_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "x.md").write_text("<!-- from results/: nothing -->\n<!-- end -->")
    monkeypatch.setattr(records, "ROOT", tmp_path)
    with pytest.raises(InputError, match=r"x.md has a block nothing"):
        render._document("x.md", {})


def test_undefined_figures_are_dashes():
    assert tables.number(None) == "-"
    assert tables.interval({"auc": 0.5, "auc_low": None, "auc_high": None}) == "0.500"
    assert (
        tables.interval({"auc": 0.5, "auc_low": 0.25, "auc_high": 1.0}) == "0.500 (0.250 to 1.000)"
    )


def same_drawing(one: str, other: str) -> bool:
    """Whether two SVGs show the same: another processor may round coordinates otherwise.

    Matplotlib's ids are hashes of coordinates, so they are left out.
    """
    shapes, places = [], []
    for text in (one, other):
        text = re.sub(r'(id="|url\(#|href="#)[mpC][0-9a-z_]{8,}', r"\1", text)
        places.append(np.array(re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text), dtype=float))
        shapes.append(re.sub(r"-?\d+\.?\d*(?:e-?\d+)?", "0", text))
    return shapes[0] == shapes[1] and np.allclose(*places, rtol=0, atol=0.01)


def made(probabilities: list[float], first: int = 0) -> records.Record:
    """A record of four test images, two of each class, each of a patient of its own."""
    count = len(probabilities)
    rows = pd.DataFrame(
        {
            "id": [f"{first + n:03}" for n in range(count)],
            "label": [0, 0, 1, 1],
            "patient": [f"p{first + n}" for n in range(count)],
            "probability": probabilities,
        }
    )
    empty = pd.DataFrame()
    return records.Record("made", {"settings": {}}, {}, {}, empty, rows, empty)


def seeded(seed: int, system: str = "one", auc: float = 0.9, **settings: str) -> records.Record:
    """A record with a seed, written down only where it is not the default."""
    given = settings | ({"seed": str(seed)} if seed else {})
    return replace(
        made([0.1, 0.2, 0.8, 0.9]),
        about={"system": system, "members": [], "settings": given},
        train={"system": {"image_size": 64}},
        metrics={"test": {"auc": auc, "auc_low": auc - 0.02, "auc_high": auc + 0.02}},
    )


def reverse(one: records.Record) -> records.Record:
    return replace(one, predictions=one.predictions[::-1])


def pairs(one: records.Record) -> tuple[np.ndarray, np.ndarray]:
    return one.predictions["label"].to_numpy(), one.predictions["probability"].to_numpy()
