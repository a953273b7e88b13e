import pytest

from store.database.sql import given, storable, where


def test_conditions_with_parameters_are_joined() -> None:
    conditions = {
        "a = ?": given(1),
        "b = ?": given(None),
        "(c = ? OR d = ?)": ("x", "y"),
        "e IS NULL": (),
        "f = ?": given(0),
    }
    assert where(conditions) == ("a = ? AND (c = ? OR d = ?) AND e IS NULL AND f = ?", [1, "x", "y", 0])


def test_without_conditions_every_row_matches() -> None:
    assert where({"a = ?": None}) == ("1 = 1", [])


@pytest.mark.parametrize("code", [0, 0xD800, 0xDFFF])
def test_nul_and_lone_surrogates_are_replaced(code: int) -> None:
    assert storable(f"a{chr(code)}b") == "a\ufffdb"


def test_any_other_text_is_stored_as_it_is() -> None:
    text = "\x01 \x7f \ue000 \U0010ffff"
    assert storable(text) == text
