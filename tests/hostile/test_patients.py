"""Hostile tables of patients: read as they are written, or refused in one line."""

import csv
import io
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr.data import patient
from cxr.errors import InputError
from tests.hostile import tried

TABLE = 'id,patient\ntrain/NORMAL/IM-0115-0001,Ann\ntest/x,"Bob, the 2nd"\ny,007\n'


def refusal(content: str | bytes, out) -> str:
    tried.count("tables")
    table = out / "patients.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as stop:
        patient.from_csv(table)
    tried.assert_one_line(stop.value)
    return str(stop.value)


class TestTable:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (TABLE.encode("utf-16"), "'utf-8' codec"),
            (TABLE.encode("utf-16-le"), "control characters"),
            ("id,patient\na,Zoë\n".encode("cp1252"), "'utf-8' codec"),
            (b"\xff\xfe", "'utf-8' codec"),
            (b"PK\x03\x04 a spreadsheet", "control characters"),
            ("id,patient\na,1\0\n", "control characters"),
            ("id,patient\na,\x1b[2J\n", "control characters"),
            ("", "it is empty"),
            ("\ufeff", "it is empty"),
            ("\n\n\n", "it is empty"),
            ("patient\n1\n", "has no column id, only patient"),
            ("ID,Patient\na,1\n", "has no column id, only ID, Patient"),
            ("id,id,patient\na,b,1\n", "has two columns id"),
            ("id,patient,patient\na,1,2\n", "has two columns patient"),
            ("id,patient\na,1,2\n", "a row has more cells than the header"),
            ("id,patient\na,1\na,1\n", "has 'a' more than once"),
            ("id,patient\na,1\n a ,2\n", "has 'a' more than once"),
            ('id,patient\na,=HYPERLINK("http://x")\n', "formula as the patient of 'a': give"),
            ("id,patient\na,=A1&B1\n", "has a formula as the patient of 'a': give the value"),
            ("id,patient\na,+1\n", "has a formula as the patient of 'a'"),
            ("id,patient\na,-\n", "has a formula as the patient of 'a'"),
            ("id,patient\na, @SUM(1)\n", "has a formula as the patient of 'a'"),
            ('id,patient\na,"b"c\n', "expected after"),
            (f"id,patient\na,{'x' * 200_000}\n", "field larger than field limit"),
            ("id,patient\n" + "".join(f"{'x' * 3000}{n},\n" for n in range(9)), "no patient for"),
        ],
    )
    def test_that_is_hostile_is_refused_with_the_reason(self, content, said, out):
        assert said in refusal(content, out)

    def test_of_many_bytes_is_refused_unread(self, out, monkeypatch):
        monkeypatch.setattr(patient, "MAX_TABLE", 20)
        assert "is not a CSV in UTF-8 (more than 20 bytes)" in refusal(TABLE, out)

    def test_that_is_a_pipe_is_refused_and_not_read(self, out):
        tried.count("tables")
        os.mkfifo(out / "patients.csv")
        with pytest.raises(InputError, match="is not a file: give a CSV"):
            patient.from_csv(out / "patients.csv")

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_of_any_line_ends_is_read(self, out, end, mark):
        tried.count("tables")
        text = (mark + TABLE).replace("\n", end)
        (out / "patients.csv").write_text(text, encoding="utf-8", newline="")
        assert patient.from_csv(out / "patients.csv") == {
            "train/NORMAL/IM-0115-0001": "Ann", "test/x": "Bob, the 2nd", "y": "007"
        }  # fmt: skip

    @given(st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=6))
    def test_of_any_cells_is_read_as_it_is_or_refused(self, out, cells):
        tried.count("tables")
        stream = io.StringIO()
        csv.writer(stream).writerows([("id", "patient"), *cells.items()])
        (out / "patients.csv").write_text(stream.getvalue(), encoding="utf-8", newline="")
        try:
            found = patient.from_csv(out / "patients.csv")
        except InputError as error:
            tried.assert_one_line(error)
            stripped = [key.strip() for key in cells]
            assert (
                re.search(
                    r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", stream.getvalue().replace("\r\n", "")
                )
                or len(set(stripped)) < len(stripped)
                or any(re.match(r"\s*([-=+@]|$)", value) for value in cells.values())
            )
        else:
            assert found == {key.strip(): value.strip() for key, value in cells.items()}


def test_any_bytes_give_patients_or_a_reason(out):
    for data in tried.damaged("tables", TABLE.encode(), 1500):
        (out / "patients.csv").write_bytes(data)
        try:
            found = patient.from_csv(out / "patients.csv")
        except InputError as error:
            tried.assert_one_line(error)
        else:
            assert all(found.values()) and len(found) <= 6


def test_cut_at_every_tenth_byte_loses_no_row_but_the_last(out):
    ids = ["train/NORMAL/IM-0115-0001", "test/x", "y"]
    for end in range(0, len(TABLE), 10):
        tried.count("tables")
        (out / "patients.csv").write_text(TABLE[:end])
        try:
            found = list(patient.from_csv(out / "patients.csv"))
        except InputError as error:
            tried.assert_one_line(error)
        else:
            assert found[:-1] == ids[: len(found[:-1])]
