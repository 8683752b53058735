"""The patient of an image: from known file names, and from the user's own table."""

import re
from pathlib import Path

import pytest

from cxr.data import patient
from cxr.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


class TestFromPath:
    @pytest.mark.parametrize(
        ("name", "expected", "subtype"),
        [
            ("IM-0115-0001", "normal-IM-0115", ""),
            ("IM-0115-0002", "normal-IM-0115", ""),
            ("IM-0187-0001-0002", "normal-IM-0187", ""),
            ("NORMAL2-IM-0383-0001", "normal-NORMAL2-IM-0383", ""),
            ("NORMAL2-IM-0383-0001-0002", "normal-NORMAL2-IM-0383", ""),
            ("person23_bacteria_78", "bacteria-23", "bacteria"),
            ("person23_virus_56", "virus-23", "virus"),
            ("person1_virus_6", "virus-1", "virus"),
            ("person1946_bacteria_4874", "bacteria-1946", "bacteria"),
            ("NORMAL-115218-0001", "normal-115218", ""),
            ("BACTERIA-7422-0001", "bacteria-7422", "bacteria"),
            ("VIRUS-1010-0002", "virus-1010", "virus"),
        ],
    )
    def test_knows_kaggles_and_mendeleys_names(self, name, expected, subtype):
        assert patient.from_path(name) == (expected, subtype)
        assert patient.from_path(f"a/train/PNEUMONIA/{name}.jpeg") == (expected, subtype)

    @pytest.mark.parametrize(
        "name",
        ["scan", "person_bacteria_1", "xperson1_virus_2", "IM-0115", "NORMAL-1", "VIRUS-1-x"],
    )
    def test_knows_no_patient_for_another_name(self, name):
        assert patient.from_path(f"NORMAL/{name}.png") == (None, "")


class TestFromCsv:
    @pytest.fixture
    def table(self, tmp_path) -> Path:
        return tmp_path / "patients.csv"

    def refused(self, table: Path, content: str | bytes) -> str:
        """Return the message about a bad table, without the name that it begins with."""
        table.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(InputError) as stop:
            patient.from_csv(table)
        message = str(stop.value)
        assert message.startswith(f"split.patients: {table} ") and "\n" not in message
        return message.removeprefix(f"split.patients: {table} ")

    def test_the_shipped_table_is_empty(self):
        assert (ROOT / "sources/patients.csv").read_bytes() == b"id,patient\n"
        assert patient.from_csv(ROOT / "sources/patients.csv") == {}

    def test_numbers_and_words_like_na_stay_text(self, table):
        table.write_text("id,patient\n001,007\nNORMAL/a,NA\nb,1e3\n")
        assert patient.from_csv(table) == {"001": "007", "NORMAL/a": "NA", "b": "1e3"}

    def test_spaces_a_byte_order_mark_and_other_columns_do_not_matter(self, table):
        table.write_bytes(b"\xef\xbb\xbfage,patient,id\r\n4, Ann ,a\r\n,Bob, b\r\n")
        assert patient.from_csv(table) == {"a": "Ann", "b": "Bob"}

    def test_names_beyond_ascii_are_read(self, table):
        table.write_bytes("id,patient\na,Zoë\n".encode())
        assert patient.from_csv(table) == {"a": "Zoë"}

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("id;patient\na;1\n", "has no column id, only id;patient: give a CSV in UTF-8 with"),
            ("id,who\na,1\n", "has no column patient, only id, who: give a CSV in UTF-8 with"),
            ("", "is not a CSV in UTF-8 (it is empty): give"),
            ("id,patient\na,Zoë\n".encode("latin-1"), "is not a CSV in UTF-8 ('utf-8' codec"),
            ('id,patient\na,"1\n', "is not a CSV in UTF-8 (unexpected end of data)"),
            ("id,patient\na,1\nb,2\na,1\n", "has 'a' more than once: give each id one row"),
            ("id,patient\na,1\nb,\n", "has no patient for 'b': give one, or remove the row"),
            ("id,patient\na\n", "has no patient for 'a': give"),
            ("id,patient\na,  \n", "has no patient for 'a': give"),
            (
                "id,patient\n" + "".join(f"x{n},\n" for n in range(5)),
                "has no patient for 'x0', 'x1', 'x2' and 2 more: give",
            ),
        ],
        ids=[
            "semicolons",
            "no patient column",
            "empty",
            "not UTF-8",
            "an open quote",
            "an id twice",
            "an empty patient",
            "a short row",
            "spaces",
            "many",
        ],
    )
    def test_a_bad_table_is_refused(self, table, content, said):
        assert self.refused(table, content).startswith(said)

    def test_the_message_shows_what_an_id_looks_like(self, table):
        message = self.refused(table, "a,b\n")
        assert "the ids are those of splits/manifest.csv, such as train/NORMAL/IM-0115" in message

    def test_a_missing_table_is_refused(self, table):
        with pytest.raises(
            InputError, match=r"patients.csv is not a file: give a CSV in UTF-8 with"
        ):
            patient.from_csv(table)


class TestCheckIds:
    def test_accepts_some_and_all_of_the_archives_ids(self):
        patient.check_ids([], ["a"])
        patient.check_ids({"a": "1"}, ["a", "b"])
        patient.check_ids(["b", "a"], ["a", "b"])

    def test_refuses_unknown_ids_and_shows_a_known_one(self):
        said = (
            "split.patients: the archive has no image with the id 'a.png', 'x', 'y' and 1 more: "
            "use the ids of splits/manifest.csv, such as 'NORMAL/a'"
        )
        with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
            patient.check_ids(["z", "y", "NORMAL/b", "a.png", "x"], ["NORMAL/b", "NORMAL/a"])
