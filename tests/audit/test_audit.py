"""All audits together: their files, and archives that leave nothing to find."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import files, params
from cxr.audit import audit, wording
from cxr.data import cache, manifest, split, tensors
from cxr.errors import InputError
from cxr.training.feature_files import Features

NAMES = {
    "audit.json", "duplicates.csv", "markers.csv", "shortcuts.csv", "suspects.csv", "suspects.png"
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tiny_archive, settings, split_settings) -> tuple:
    """The tiny archive as the stages before leave it: zip, manifest, images, index, features."""
    root = tmp_path_factory.mktemp("prepared")
    table, _ = manifest.build(tiny_archive, 0.0)
    table, _ = split.assign(table, split_settings(), 0)
    tensors.build(tiny_archive, table, 48, settings.tensors, root / "48")
    images, index = cache.open_cache(root / "48")
    used = pd.concat([index[index["split"] == name] for name in ("train", "val")])
    told = np.random.default_rng(0).normal(size=(len(used), 3)) + used[["label"]].to_numpy()
    return tiny_archive, table, images, index, Features("pool", 1, "float32", told)


def made(prepared: tuple, folder: Path, seed: int = 0) -> dict:
    return audit.run(*prepared, seed, folder)


class TestRun:
    def test_writes_every_file_with_plain_content(self, prepared, tmp_path):
        result = made(prepared, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == NAMES
        assert json.loads((tmp_path / "audit.json").read_text()) == result
        json.dumps(result, allow_nan=False)
        assert list(result) == [
            "patients", "duplicates", "leak", "balance", "subtypes", "large_markers", "suspects",
            "shortcuts",
        ]  # fmt: skip
        assert result["patients"]["in_two_splits"] == 0
        assert result["suspects"]["assessable"]
        shortcuts = files.read_csv(tmp_path / "shortcuts.csv")
        assert list(shortcuts.columns[:4]) == [
            "feature", "importance", "importance_low", "importance_high"
        ]  # fmt: skip
        with Image.open(tmp_path / "suspects.png") as wall:
            assert wall.mode == "L"

    def test_gives_the_same_bytes_each_time(self, prepared, tmp_path):
        for name in ("one", "other"):
            made(prepared, tmp_path / name)
        for name in NAMES:
            assert (tmp_path / "one" / name).read_bytes() == (
                tmp_path / "other" / name
            ).read_bytes(), name

    def test_without_features_has_everything_else(self, prepared, tmp_path):
        result = audit.run(*prepared[:-1], None, 0, tmp_path)
        assert not result["suspects"]["assessable"]
        assert result["shortcuts"]["sets"]["picture"]["assessable"]
        assert files.read_csv(tmp_path / "suspects.csv").empty

    def test_cache_of_another_split_is_refused(self, prepared, tmp_path):
        archive, table, images, index, features = prepared
        other = table.iloc[::-1].reset_index(drop=True)
        with pytest.raises(InputError, match=r"not those of .*dvc repro -s -f preprocess@48"):
            audit.run(archive, other, images, index, features, 0, tmp_path)
        assert not list(tmp_path.iterdir())


class TestNothingToFind:
    def constant(
        self, make_archive, jpeg, tmp_path: Path, settings: params.Params, labels: list[int]
    ) -> dict:
        """Audit grey PNGs without structure, of one size, whose names give no patient."""
        names = [f"{'PNEUMONIA' if label else 'NORMAL'}/{n}.png" for n, label in enumerate(labels)]
        zipped = make_archive("a.zip", {name: jpeg(100, kind="PNG") for name in names})
        table, _ = manifest.build(zipped, 0.0)
        splits = ["train", "val", "test"] * len(table)
        table = table.assign(split=splits[: len(table)])
        tensors.build(zipped, table, 8, settings.tensors, tmp_path / "8")
        images, index = cache.open_cache(tmp_path / "8")
        return audit.run(zipped, table, images, index, None, 0, tmp_path / "audits")

    def test_equal_constant_images_without_patients(self, make_archive, jpeg, tmp_path, settings):
        labels = [0, 1] * 6
        result = self.constant(make_archive, jpeg, tmp_path, settings, labels)
        assert result["patients"]["in_two_splits"] is None and result["leak"] is None
        assert result["duplicates"]["exact"]["groups"] == 1
        assert result["duplicates"]["exact"]["across_labels"] == 1
        assert result["shortcuts"]["alarm"] is None
        reasons = [found["reason"] for found in result["shortcuts"]["groups"].values()]
        assert all(reasons)
        said = list(wording.lines(result))
        assert said[0] == "12 patients, ? in two splits"
        assert sum("not assessable" in line for line in said) == 3


def test_kermanys_duplicates_patients_and_leaks(real_manifest, real_archive, settings, tmp_path):
    """Known figures of the real archive, whatever its resolution (docs/RESULTS.md)."""
    table, _ = split.assign(real_manifest, settings.split, settings.seed)
    tensors.build(real_archive, table, 64, settings.tensors, tmp_path / "64")
    images, index = cache.open_cache(tmp_path / "64")
    result = audit.run(real_archive, table, images, index, None, 0, tmp_path / "audits")
    assert result["patients"]["patients"] == 4097
    assert result["patients"]["in_two_splits"] == 0
    exact = result["duplicates"]["exact"]
    assert (exact["groups"], exact["images"]) == (30, 62)
    assert result["duplicates"]["in_test_and_rest"] == 0
    assert (result["leak"]["low"], result["leak"]["high"]) == (195, 235)
    assert result["shortcuts"]["groups"]["geometry"]["val"]["auc"] > 0.7


def test_findings_are_said_in_lines(prepared, tmp_path):
    said = "\n".join(wording.lines(made(prepared, tmp_path)))
    assert ", 0 in two splits" in said
    assert "exact duplicates: " in said and "near duplicates: " in said
    assert "an image-level split would put" in said
    assert "large markers in training: 0 of " in said
    assert "suspect labels: " in said
    assert "shortcuts, picture: val AUC" in said


def test_an_undefined_auc_is_said(prepared, tmp_path):
    result = made(prepared, tmp_path)
    undefined = {"auc": None, "auc_low": None, "auc_high": None}
    result["shortcuts"]["sets"]["all"]["val"] = undefined
    result["leak"] = None
    said = "\n".join(wording.lines(result))
    assert "shortcuts, all: val AUC undefined, test AUC" in said
    assert "image-level" not in said
