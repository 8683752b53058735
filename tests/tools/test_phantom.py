"""The phantoms: what the archive holds, that it can be rebuilt, and that nothing gives it away."""

import io
import re
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from cxr.errors import InputError
from tools import phantom
from tools.phantom import __main__ as command
from tools.phantom import anatomy, archive, blob, disease, drawing, plan, shadows, textures, view
from tools.phantom.patient import Kind, Patient

TINY = (40, 72)  # pixels a side: seconds for hundreds of images
BACTERIA = Patient("bacteria", "person7_bacteria")
VIRUS = Patient("virus", "person7_virus")
NORMAL = Patient("normal", "IM-0007")

NAME = re.compile(
    r"chest_xray/(?P<official>train|test)/"
    r"(NORMAL/(?P<normal>(NORMAL2-)?IM-\d{4})-\d{4}(-\d{4})?"
    r"|PNEUMONIA/(?P<sick>person\d+_(bacteria|virus))_\d+)\.jpeg"
)


class Stored(NamedTuple):
    """One file read back from an archive, by nothing but its name and bytes."""

    path: str
    official: str
    patient: str
    sick: bool
    mode: str
    pixels: np.ndarray
    bytes: int


def read(archive: Path) -> list[Stored]:
    """Read an archive back; every name must be of Kaggle's form."""
    files = []
    with zipfile.ZipFile(archive) as opened:
        for path in opened.namelist():
            name = NAME.fullmatch(path)
            assert name, path
            content = opened.read(path)
            image = Image.open(io.BytesIO(content))
            patient = name["normal"] or name["sick"]
            sick = name["sick"] is not None
            pixels = np.asarray(image)
            files.append(
                Stored(path, name["official"], patient, sick, image.mode, pixels, len(content))
            )
    return files


def auc(scores: list[float], positive: list[bool]) -> float:
    """Share of pairs of a positive and a negative that the score puts in order; ties half."""
    values, sick = np.asarray(scores, float), np.asarray(positive)
    difference = values[sick][:, None] - values[~sick][None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def equal_pairs(files: list[Stored]) -> list[tuple[Stored, Stored]]:
    """Pairs of files with the same pixels."""
    seen = defaultdict(list)
    for file in files:
        seen[file.pixels.shape, file.pixels.tobytes()].append(file)
    return [(a, b) for group in seen.values() for i, a in enumerate(group) for b in group[i + 1 :]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 40 images, as the other tests of the project make it."""
    path = tmp_path_factory.mktemp("phantom") / "tiny.zip"
    phantom.write_archive(path, seed=1, images=40, size_range=TINY)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Stored]:
    """The sample archive's 300 files, drawn small."""
    path = tmp_path_factory.mktemp("phantom") / "whole.zip"
    phantom.write_archive(path, seed=0, size_range=TINY)
    return read(path)


class TestDraw:
    """One image."""

    def test_is_a_grey_image_of_the_size_the_view_says(self):
        pixels = drawing.draw(NORMAL, 0)
        taken = view.of(NORMAL, 0)
        assert pixels.dtype == np.uint8
        assert pixels.shape == (taken.height, taken.width)
        assert pixels.min() < 20 and pixels.max() > 180

    def test_stays_within_the_size_range(self):
        for number in range(50):
            taken = view.of(Patient("normal", f"IM-{number:04d}"), 0, (50, 60))
            assert 50 <= taken.width <= 60 and 50 <= taken.height <= 60

    def test_does_not_depend_on_what_was_drawn_before(self):
        first = drawing.draw(BACTERIA, 3, size_range=TINY)
        for patient in (NORMAL, VIRUS, BACTERIA):
            drawing.draw(patient, 0, size_range=TINY)
        np.testing.assert_array_equal(first, drawing.draw(BACTERIA, 3, size_range=TINY))

    def test_leaves_numpys_global_state_alone(self):
        before = np.random.get_state()[1].copy()
        drawing.draw(VIRUS, 0, size_range=TINY)
        np.testing.assert_array_equal(before, np.random.get_state()[1])

    def test_shows_dark_lungs_beside_a_bright_heart(self):
        """Patches in the middle of each lung and over the heart, on the image's right."""
        lungs, hearts, mirrored = [], [], []
        for number in range(12):
            patient = Patient("normal", f"IM-{number:04d}")
            x, y = view.grid(view.of(patient, 0))
            pixels = drawing.draw(patient, 0).astype(float)

            def patch(cx: float, cy: float, x=x, y=y, pixels=pixels) -> float:
                return float(pixels[np.hypot(x - cx, y - cy) < 0.08].mean())

            lungs.append((patch(-0.5, 0.05) + patch(0.5, -0.15)) / 2)
            hearts.append(patch(0.22, 0.22))
            mirrored.append(patch(-0.35, 0.22))
        assert (np.array(hearts) > np.array(lungs) + 25).all()
        assert (np.array(hearts) > np.array(mirrored) + 15).all()

    def test_a_patients_images_differ_less_than_patients_do(self):
        def thumb(number: int, image: int) -> np.ndarray:
            pixels = drawing.draw(Patient("normal", f"IM-{number:04d}"), image, size_range=TINY)
            return np.asarray(Image.fromarray(pixels).resize((32, 32)), float)

        images = np.array([[thumb(number, image) for image in (0, 1)] for number in range(8)])
        within = np.abs(images[:, 0] - images[:, 1]).mean()
        between = np.abs(images[:-1] - images[1:]).mean()
        assert 0 < within < 0.7 * between

    @pytest.mark.parametrize("patient", [BACTERIA, VIRUS], ids=lambda patient: patient.kind)
    def test_opacities_brighten_the_lungs_and_nothing_else(self, patient: Patient):
        sick = drawing.draw(patient, 0).astype(int)
        healthy = drawing.draw(patient, 0, opacities=False).astype(int)
        x, y = view.grid(view.of(patient, 0))
        body = anatomy.of(patient)
        lungs = (np.abs(x) < body.cage + 0.05) & (y > body.apex - 0.1) & (y < body.base + 0.4)
        np.testing.assert_allclose(sick[~lungs], healthy[~lungs], atol=2)
        assert (sick - healthy)[lungs].max() > 30
        assert (sick - healthy)[lungs].mean() > 1

    def test_a_normal_patient_has_no_opacities(self):
        with_, without = drawing.draw(NORMAL, 0), drawing.draw(NORMAL, 0, opacities=False)
        np.testing.assert_array_equal(with_, without)

    def test_bacteria_take_mostly_one_lung_and_viruses_both(self):
        def balance(kind: Kind, number: int) -> float:
            """Opacity of the less affected lung as a share of the other's."""
            found = disease.of(Patient(kind, f"person{number}_{kind}"), 0)
            sides = [0.0, 0.0]
            for one in found.blobs:
                sides[one.x > 0] += one.strength * one.radius_x * one.radius_y
            return min(sides) / max(sides)

        bacteria = [balance("bacteria", number) for number in range(40)]
        viruses = [balance("virus", number) for number in range(40)]
        assert np.median(bacteria) == 0
        assert np.median(viruses) > 0.4

    def test_shadows_darken_healthy_lungs_too(self, monkeypatch: pytest.MonkeyPatch):
        """The brightness of a lung must not tell the classes apart."""
        with_ = drawing.draw(NORMAL, 0).astype(int)
        monkeypatch.setattr(shadows, "of", lambda patient: ())
        without = drawing.draw(NORMAL, 0).astype(int)
        assert (with_ - without).min() >= -1
        assert (with_ - without).max() > 15

    def test_an_opacity_is_patchy_and_a_shadow_is_smooth(self):
        """Texture, not brightness, is what a network has to learn."""
        x, y = np.meshgrid(np.linspace(-0.2, 0.2, 80), np.linspace(-0.2, 0.2, 80))
        x, y = x.astype(np.float32), y.astype(np.float32)
        one = blob.Blob(0.0, 0.0, 0.8, 0.8, strength=0.8, softness=0.5)
        opacity = drawing._opacity(disease.Disease((one,)), textures.of(BACTERIA), x, y)
        shadow = shadows.share((one,), x, y)
        assert opacity.min() < 0.2 and opacity.max() > 0.6
        assert np.ptp(shadow) < 0.05

    def test_the_kind_changes_neither_body_nor_view(self):
        """No acquisition shortcut: the class has no way into size, exposure or pose."""
        as_sick = Patient("bacteria", NORMAL.name)
        assert view.of(NORMAL, 2) == view.of(as_sick, 2)
        assert shadows.of(NORMAL) == shadows.of(as_sick)
        assert anatomy.of(NORMAL) == anatomy.of(as_sick)


class TestPlan:
    """Which files there are."""

    def test_counts_follow_kermanys(self):
        files = plan.files(0)
        kinds = Counter(file.patient.kind for file in files)
        assert len(files) == 300
        assert kinds["normal"] == 81  # 27 %
        assert kinds["bacteria"] == 142  # 65 % of the other 219
        assert sum(file.official == "test" for file in files) == pytest.approx(45, abs=1)
        assert sum(file.mode == "RGB" for file in files) == 6

    @pytest.mark.parametrize("images", [plan.MIN_IMAGES, 25, 31, 40, 77])
    @pytest.mark.parametrize("seed", range(5))
    def test_every_kind_is_there_however_small(self, images: int, seed: int):
        files = plan.files(seed, images)
        assert len(files) == len({file.path for file in files}) == images
        assert all(NAME.fullmatch(file.path) for file in files)
        assert {(file.patient.kind, file.official) for file in files} == {
            (kind, official)
            for kind in ("normal", "bacteria", "virus")
            for official in ("train", "test")
        }
        assert {file.patient.kind == "normal" for file in files if file.mode == "RGB"} == {
            True,
            False,
        }
        drawn = Counter((file.patient, file.image) for file in files)
        assert sorted(drawn.values())[-2:] == [1, 2]
        names = [file.path.rsplit("/", 1)[1] for file in files]
        assert any(re.fullmatch(r"IM-\d{4}-\d{4}-\d{4}\.jpeg", name) for name in names)
        assert any(re.fullmatch(r"IM-\d{4}-\d{4}\.jpeg", name) for name in names)
        assert any(name.startswith("NORMAL2-IM-") for name in names)
        several = Counter(NAME.fullmatch(file.path).group("normal", "sick") for file in files)
        kinds = {(sick or "_normal").split("_")[1] for (_, sick), n in several.items() if n > 1}
        assert kinds == {"normal", "bacteria", "virus"}
        assert max(several.values()) <= plan.MAX_IMAGES_A_PATIENT

    @pytest.mark.parametrize("images", [40, 300])
    def test_some_person_numbers_are_two_patients_on_both_sides(self, images: int):
        """Keyed by `personN` alone, a patient would seem to sit in train and in test."""
        sides = defaultdict(set)
        for file in plan.files(0, images):
            if file.patient.kind != "normal":
                person = file.patient.name.split("_")[0]
                sides[person].add((file.patient.kind, file.official))
        assert any({("bacteria", "train"), ("virus", "test")} <= found for found in sides.values())
        assert sum(len(found) > 1 for found in sides.values()) < len(sides) / 2

    def test_another_seed_gives_other_names(self):
        assert {file.path for file in plan.files(0)} != {file.path for file in plan.files(1)}

    def test_refuses_too_few_images_and_says_how_many_it_needs(self):
        with pytest.raises(InputError, match=r"24 or more.*got 23"):
            plan.files(0, 23)

    def test_refuses_a_negative_seed(self):
        with pytest.raises(InputError, match="seed must be 0 or more, got -1"):
            plan.files(-1)


class TestArchive:
    """The zip, read back by names and bytes alone."""

    def test_same_arguments_give_the_same_bytes(self, tiny: Path, tmp_path: Path):
        again = tmp_path / "again.zip"
        phantom.write_archive(again, seed=1, images=40, size_range=TINY)
        assert again.read_bytes() == tiny.read_bytes()

    def test_another_seed_gives_other_bytes(self, tiny: Path, tmp_path: Path):
        other = tmp_path / "other.zip"
        phantom.write_archive(other, seed=2, images=24, size_range=TINY)
        pixels = {file.pixels.tobytes() for file in read(tiny)}
        assert not pixels & {file.pixels.tobytes() for file in read(other)}

    def test_is_stored_sorted_and_undated(self, tiny: Path):
        with zipfile.ZipFile(tiny) as archive:
            entries = archive.infolist()
        assert [entry.filename for entry in entries] == sorted(e.filename for e in entries)
        assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}

    def test_a_tiny_one_has_every_kind(self, tiny: Path):
        files = read(tiny)
        assert len(files) == 40
        assert {(file.official, file.sick) for file in files} == {
            (official, sick) for official in ("train", "test") for sick in (False, True)
        }
        assert {(file.mode, file.sick) for file in files} == {
            (mode, sick) for mode in ("L", "RGB") for sick in (False, True)
        }
        assert any(count > 2 for count in Counter(file.patient for file in files).values())
        assert len(equal_pairs(files)) == 1

    def test_has_one_pair_of_equal_pixels_under_two_patients(self, whole: list[Stored]):
        pairs = equal_pairs(whole)
        assert len(pairs) == 1
        first, second = pairs[0]
        assert first.patient != second.patient
        assert (first.official, first.sick) == (second.official, second.sick)
        assert Counter(file.patient for file in whole)[second.patient] == 1

    def test_no_patient_is_in_both_official_parts(self, whole: list[Stored]):
        sides = defaultdict(set)
        for file in whole:
            sides[file.patient].add(file.official)
        assert {len(found) for found in sides.values()} == {1}
        assert 0.4 * len(whole) < len(sides) < 0.8 * len(whole)

    def test_rgb_files_hold_grey_in_both_classes(self, whole: list[Stored]):
        coloured = [file for file in whole if file.mode == "RGB"]
        assert {file.sick for file in coloured} == {False, True}
        assert len(coloured) == 6
        for file in coloured:
            assert np.ptp(file.pixels, axis=2).max() == 0

    def test_sizes_and_shapes_vary(self, whole: list[Stored]):
        sizes = {file.pixels.shape[:2] for file in whole}
        ratios = np.array([width / height for height, width in sizes])
        assert len(sizes) > 100
        assert np.mean(ratios > 1) > 0.9  # landscape mostly
        assert np.ptp(ratios) > 0.4

    @pytest.mark.parametrize(
        "measure",
        [
            lambda file: file.pixels.mean(),
            lambda file: np.median(file.pixels),
            lambda file: file.pixels.std(),
            lambda file: file.pixels.shape[0],
            lambda file: file.pixels.shape[1],
            lambda file: file.pixels.shape[1] / file.pixels.shape[0],
            lambda file: file.bytes,
            lambda file: file.bytes / np.prod(file.pixels.shape[:2]),
            lambda file: file.mode == "RGB",
        ],
        ids=[
            "mean",
            "median",
            "contrast",
            "height",
            "width",
            "aspect",
            "bytes",
            "bytes_a_pixel",
            "mode",
        ],
    )
    def test_no_shortcut_tells_the_classes_apart(self, whole: list[Stored], measure):
        found = auc([measure(file) for file in whole], [file.sick for file in whole])
        assert 0.25 < found < 0.75

    def test_the_jpeg_quality_is_the_same_in_both_classes(self, tiny: Path):
        tables = set()
        with zipfile.ZipFile(tiny) as archive:
            for path in archive.namelist():
                image = Image.open(io.BytesIO(archive.read(path)))
                tables.add(tuple(image.quantization[0]))
        assert len(tables) == 1

    def test_a_failed_write_leaves_the_old_archive_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        target = tmp_path / "phantoms.zip"
        target.write_bytes(b"old")

        def fail(*_: object) -> bytes:
            raise KeyboardInterrupt

        monkeypatch.setattr(archive, "encode", fail)
        with pytest.raises(KeyboardInterrupt):
            phantom.write_archive(target, seed=1, images=40, size_range=TINY)
        assert target.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [target]

    @pytest.mark.parametrize("limits", [(31, 40), (60, 50)])
    def test_refuses_bad_size_limits(self, tmp_path: Path, limits: tuple[int, int]):
        with pytest.raises(InputError, match=f"got {limits[0]} and {limits[1]}"):
            phantom.write_archive(tmp_path / "a.zip", size_range=limits)
        assert not list(tmp_path.iterdir())


class TestCommandLine:
    """`python -m tools.phantom`."""

    def test_writes_what_the_function_writes_and_sums_it_up(
        self, tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ):
        out = tmp_path / "new" / "phantoms.zip"
        caplog.set_level("INFO", logger="tools.phantom.__main__")
        size = [str(side) for side in TINY]
        command.main(["--out", str(out), "--seed", "1", "--images", "40", "--size", *size])
        assert out.read_bytes() == tiny.read_bytes()
        assert "40 images (11 NORMAL, 29 PNEUMONIA)" in caplog.text

    def test_says_what_is_wrong_with_an_argument(self, capsys: pytest.CaptureFixture[str]):
        with pytest.raises(SystemExit) as stop:
            command.main(["--images", "3"])
        assert stop.value.code == 2
        assert "images must be 24 or more" in capsys.readouterr().err
