"""The mean of several systems: by hand, against one system alone, and what cannot be averaged."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr import ensemble, files, params
from cxr.errors import InputError
from cxr.evaluation import evaluation, intervals, shift
from cxr.evaluation.predictions import Predictions

MANIFEST = pd.DataFrame(
    {
        "id": [f"x{n:02d}" for n in range(24)],
        "split": ["train", "val", "test"] * 8,
        "label": [0, 0, 0, 1, 1, 1] * 4,
        "patient": [f"p{n // 3:02d}" for n in range(24)],
    }
)
TEST = MANIFEST[MANIFEST["split"] == "test"]
SETTINGS = params.Evaluate(
    threshold="youden", threshold_from="validation", prevalence=None, false_alarms_per_miss=4,
    external={},
)  # fmt: skip


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 100)


def shifted_rows() -> pd.DataFrame:
    """Rows of shifted images, as `shift` lists them."""
    tables = []
    for name, split in (("validation", "val"), ("curve", "test")):
        rows = MANIFEST[MANIFEST["split"] == split]
        for kind, strength in (("none", 0.0), ("gamma", 1.6)):
            about = rows.assign(set=name, kind=kind, strength=strength)
            tables.append(about[ensemble.SHIFTED])
    return pd.concat(tables, ignore_index=True)


def probabilities(seed: int, rows: pd.DataFrame) -> np.ndarray:
    """Draw probabilities that depend on the label, with 7 digits."""
    noise = np.random.default_rng(seed).normal(size=len(rows))
    return (1 / (1 + np.exp(1 - 2 * rows["label"].to_numpy() - noise))).round(7)


def write(root: Path, system: str, seed: int) -> None:
    """Write what the stages shift and evaluate leave of a system of two phases."""
    last = MANIFEST.assign(probability=probabilities(seed, MANIFEST))
    of_test = last[last["split"] == "test"]
    phases = [
        of_test.assign(
            phase=phase,
            probability=of_test["probability"] if phase == "finetune" else 0.5,
            perturbed_probability=probabilities(seed + 10, of_test),
        )
        for phase in ("head", "finetune")
    ]
    columns = ["phase", "id", "label", "probability", "perturbed_probability"]
    shifted = shifted_rows()
    files.write_csv(root / "evaluations" / system / "predictions.csv", last.drop(columns="patient"))
    files.write_csv(root / "evaluations" / system / "phases.csv", pd.concat(phases)[columns])
    files.write_csv(
        root / "shifts" / system / "predictions.csv",
        shifted.assign(probability=probabilities(seed + 20, shifted)),
    )


def change(path: Path, row: int, column: str, value: object) -> None:
    """Change a cell of a table."""
    table = files.read_csv(path)
    table[column] = table[column].astype(object)
    table.loc[row, column] = value
    files.write_csv(path, table)


def read(root: Path, *systems: str) -> list[ensemble.Member]:
    folders = root / "evaluations", root / "shifts"
    return [ensemble.read(system, *folders, MANIFEST) for system in systems]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, system in enumerate(("one", "two", "three")):
        write(tmp_path, system, seed)
    return tmp_path


def member(name: str, values: list[float], perturbed: list[float]) -> ensemble.Member:
    """A member with two images, both of the test set and both shifted."""
    images = pd.DataFrame(
        {"id": ["a", "b"], "split": "test", "label": [0, 1], "patient": ["p", "q"]}
    )
    phases = images[["id", "label", "patient"]].assign(
        phase="train", probability=values, perturbed_probability=perturbed
    )
    shifted = images.assign(set="curve", kind="none", strength=0.0, probability=values[::-1])
    return ensemble.Member(name, Predictions(images.assign(probability=values), phases), shifted)


class TestMean:
    def test_is_that_of_each_image(self):
        members = [
            member("one", [0.1, 0.9], [0.2, 0.4]),
            member("two", [0.3, 0.5], [0.6, 0.8]),
            member("three", [0.5, 0.4], [0.1, 0.0]),
        ]
        predicted, shifted = ensemble.mean(members)
        assert predicted.images["probability"].tolist() == [0.3, 0.6]
        assert predicted.phases["probability"].tolist() == [0.3, 0.6]
        assert predicted.phases["perturbed_probability"].tolist() == [0.3, 0.4]
        assert predicted.phases["phase"].tolist() == [ensemble.PHASE] * 2
        assert shifted["probability"].tolist() == [0.6, 0.3]
        for table in (predicted.images, predicted.phases, shifted):
            assert table["id"].tolist() == ["a", "b"] and table["label"].tolist() == [0, 1]
            assert table["patient"].tolist() == ["p", "q"]

    def test_has_seven_digits(self):
        members = [member(str(n), [n / 7, 0.1], [0.1, n / 11]) for n in range(3)]
        predicted, shifted = ensemble.mean(members)
        for table in (predicted.images, predicted.phases, shifted):
            assert (table["probability"] == table["probability"].round(7)).all()

    @pytest.mark.parametrize("count", [1, 2, 3, 7])
    def test_of_equal_members_is_evaluated_as_one_alone(self, root, count):
        (alone,) = read(root, "one")
        predicted, shifted = ensemble.mean([alone] * count)
        ours = evaluation.evaluate(predicted, shifted, SETTINGS, 0)
        theirs = evaluation.evaluate(alone.predictions, alone.shifted, SETTINGS, 0)
        assert list(ours.pop("phases").values()) == list(theirs.pop("phases").values())
        assert ours == theirs
        for one, other in zip(
            shift.evaluate(shifted, 0.4, 0), shift.evaluate(alone.shifted, 0.4, 0), strict=True
        ):
            assert one.equals(other) if isinstance(one, pd.DataFrame) else one == other

    def test_of_a_system_and_its_mirror_knows_nothing(self, root):
        (one,) = read(root, "one")
        mirrored = one.predictions.images.assign(
            probability=1 - one.predictions.images["probability"]
        )
        other = ensemble.Member(
            "mirror", Predictions(mirrored, one.predictions.phases), one.shifted
        )
        assert set(ensemble.mean([one, other])[0].images["probability"]) == {0.5}


class TestRead:
    def test_the_last_phase_and_the_patients(self, root):
        (one,) = read(root, "one")
        assert set(one.predictions.phases["phase"]) == {"finetune"}
        assert one.predictions.phases["patient"].tolist() == TEST["patient"].tolist()
        assert one.predictions.images["patient"].tolist() == MANIFEST["patient"].tolist()

    @pytest.mark.parametrize(
        "path",
        ["evaluations/two/predictions.csv", "evaluations/two/phases.csv",
         "shifts/two/predictions.csv"],
    )  # fmt: skip
    def test_a_system_that_was_not_evaluated_is_named(self, root, path):
        (root / path).unlink()
        with pytest.raises(InputError, match="is missing, so two cannot") as stop:
            read(root, "one", "two")
        assert "dvc repro evaluate@two" in str(stop.value) and path in str(stop.value)

    @pytest.mark.parametrize(
        ("path", "column", "value", "says"),
        [
            ("predictions.csv", "id", "x99", "row 3 is x99 test 0 against x02 test 0"),
            ("predictions.csv", "label", 1, "row 3 is x02 test 1 against x02 test 0"),
            ("predictions.csv", "split", "val", "row 3 is x02 val 0 against x02 test 0"),
        ],
    )
    def test_other_images_than_the_manifests_are_refused(self, root, path, column, value, says):
        change(root / "evaluations/two" / path, 2, column, value)
        with pytest.raises(InputError, match="are not of the same images") as stop:
            read(root, "one", "two")
        assert says in str(stop.value)
        assert "evaluations/two/predictions.csv and splits/manifest.csv" in str(stop.value)

    def test_another_number_of_images_is_refused(self, root):
        path = root / "evaluations/two/phases.csv"
        files.write_csv(path, files.read_csv(path).iloc[:-1])
        with pytest.raises(InputError, match="7 rows against 8"):
            read(root, "two")

    def test_another_order_is_refused(self, root):
        path = root / "evaluations/two/predictions.csv"
        files.write_csv(path, files.read_csv(path).iloc[::-1])
        with pytest.raises(InputError, match="are not of the same images"):
            read(root, "two")

    @pytest.mark.parametrize(
        ("path", "column"),
        [
            ("evaluations/two/predictions.csv", "probability"),
            ("evaluations/two/phases.csv", "perturbed_probability"),
            ("shifts/two/predictions.csv", "probability"),
        ],
    )
    def test_a_probability_that_is_not_a_number_names_its_system(self, root, path, column):
        table = files.read_csv(root / path)
        change(root / path, len(table) - 1, column, np.nan)
        with pytest.raises(InputError, match="two: the model's probability is NaN for x"):
            read(root, "one", "two")


@pytest.mark.parametrize(
    ("column", "value"),
    [("id", "x99"), ("label", 0), ("strength", 1.2), ("kind", "blur"), ("split", "val"),
     ("patient", "p99"), ("set", "masked")],
)  # fmt: skip
def test_members_with_other_shifted_images_are_refused(root, column, value):
    change(root / "shifts/two/predictions.csv", 31, column, value)
    with pytest.raises(InputError) as stop:
        ensemble.mean(read(root, "one", "two"))
    said = str(stop.value)
    assert "shifts/two/predictions.csv and shifts/one/predictions.csv are not of" in said
    assert "row 32 is" in said and "dvc repro" in said
