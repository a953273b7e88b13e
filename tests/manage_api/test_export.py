import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manage_api import export


def test_lines_end_as_rfc_4180_wants_them() -> None:
    objects: list[dict[str, object]] = [
        {"name": 'a "b", c\nd', "requests": 5, "more": 1},
        {"name": None, "requests": 0},
    ]
    written = export.write_csv(["name", "requests"], objects)
    assert written == 'name,requests\r\n"a ""b"", c\nd",5\r\n,0\r\n'


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\tx", "\rx", "\nx", "\uff1d1", "=cmd|' /C calc'!A0"]
)
def test_a_formula_gets_an_apostrophe(text: str) -> None:
    written = export.write_csv(["name"], [{"name": text}])
    _, (cell,) = csv.reader(io.StringIO(written, newline=""))
    assert cell == f"'{text}"


@pytest.mark.parametrize("text", ["Search", "gpt-4o", "2026-11-25", "0.0000435", "/v1/models", "a=b", "a@b", ""])
def test_other_texts_are_not_changed(text: str) -> None:
    assert export.write_csv(["name", "x"], [{"name": text, "x": 1}]) == f"name,x\r\n{text},1\r\n"


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_csv_can_be_read_back(text: str) -> None:
    written = export.write_csv(["name", "x"], [{"name": text, "x": 1}])
    _, (cell, number) = csv.reader(io.StringIO(written, newline=""))
    assert (cell.removeprefix("'") if not text.startswith("'") else cell) == text
    assert number == "1"


def test_parts_join_to_one_file() -> None:
    objects = [{"name": name, "x": number} for number, name in enumerate("abc")]
    parts = [*export.csv_parts(["name", "x"], ([each] for each in objects))]
    assert "".join(parts) == export.write_csv(["name", "x"], objects)
    assert len(parts) == 4


def test_lists_and_objects_are_json() -> None:
    changes = {"name": {"before": None, "after": "=1"}}
    written = export.write_csv(["ids", "changes"], [{"ids": ["a", "b"], "changes": changes}])
    _, (ids, shown) = csv.reader(io.StringIO(written, newline=""))
    assert json.loads(ids) == ["a", "b"]
    assert json.loads(shown) == changes
