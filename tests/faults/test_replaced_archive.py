"""The archive is replaced under a running stage: an error in one line, never a mixture."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from cxr import files, params
from cxr.data import image
from cxr.errors import InputError
from stages import preprocess, split
from tools import phantom

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> list[Path]:
    """Two archives with the same names inside and other images."""
    folder = tmp_path_factory.mktemp("archives")
    one, other = folder / "1.zip", folder / "2.zip"
    phantom.write_archive(one, seed=1, images=40, size_range=(40, 64))
    with zipfile.ZipFile(one) as given, zipfile.ZipFile(other, "w") as written:
        names = given.namelist()
        for name, another in zip(names, names[1:] + names[:1], strict=True):
            written.writestr(name, given.read(another))
    return [one, other]


@pytest.fixture
def small(split_settings, settings: params.Params) -> params.Params:
    patients = str(ROOT / settings.split.patients)
    chosen = split_settings().model_copy(update={"patients": patients})
    return settings.model_copy(update={"split": chosen})


@pytest.fixture
def project(tmp_path: Path, monkeypatch, archives) -> Path:
    """A folder with the first archive; the stages do not log."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cxr.tracking.client.write", lambda *_, **__: None)
    Path("raw").mkdir()
    shutil.copyfile(archives[0], "raw/xrays.zip")
    return tmp_path


def rename_over(new: Path) -> None:
    shutil.copyfile(new, "raw/new.zip")
    Path("raw/new.zip").replace("raw/xrays.zip")


def write_into(new: Path) -> None:
    Path("raw/xrays.zip").write_bytes(new.read_bytes())


def remove(_: Path) -> None:
    Path("raw/xrays.zip").unlink()


def during(monkeypatch: pytest.MonkeyPatch, change, new: Path) -> None:
    """Change the archive when the stage has decoded its tenth image."""
    whole, calls = image.decode, []

    def decode(data: bytes):
        calls.append(1)
        if len(calls) == 10:
            change(new)
        return whole(data)

    monkeypatch.setattr(image, "decode", decode)


@pytest.mark.parametrize("change", [rename_over, write_into, remove])
@pytest.mark.parametrize("stage", ["split", "preprocess"])
def test_while_a_stage_reads_it(project, archives, small, monkeypatch, stage, change):
    work = {
        "split": lambda: split.work(small),
        "preprocess": lambda: preprocess.work(small, 32),
    }
    if stage == "preprocess":
        split.work(small)
    with monkeypatch.context() as replaced:
        during(replaced, change, archives[1])
        with pytest.raises(InputError) as end:
            work[stage]()
    assert "raw/xrays.zip" in str(end.value) or "images cannot be used" in str(end.value)
    assert "\n" not in str(end.value)
    made = Path({"split": "splits", "preprocess": "tensors/32"}[stage])
    assert not (made / "provenance.json").exists()

    # Both stages run again, as `dvc repro` would do it, and agree.
    shutil.copyfile(archives[1], "raw/xrays.zip")
    split.work(small)
    preprocess.work(small, 32)
    md5 = files.file_md5("raw/xrays.zip")
    for folder in ("splits", "tensors/32"):
        note = files.read_json(f"{folder}/provenance.json")
        assert note["inputs"]["raw/xrays.zip"] == md5


def test_between_split_and_preprocess(project, archives, small):
    split.work(small)
    rename_over(archives[1])
    with pytest.raises(
        InputError, match=r"not the file that was split; run `dvc repro -s -f split`"
    ):
        preprocess.work(small, 32)
    assert not list(Path("tensors/32").iterdir())


def test_the_same_content_under_another_time_is_no_change(project, small, monkeypatch):
    """As DVC does when it links an output into its cache."""

    def touch(_: Path) -> None:
        os.utime("raw/xrays.zip", (1, 1))

    during(monkeypatch, touch, Path())
    split.work(small)
    assert Path("splits/provenance.json").is_file()
