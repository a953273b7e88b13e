from decimal import Decimal

from manage_api.cli import table


def test_columns_are_in_line_and_numbers_to_the_right() -> None:
    objects: list[dict[str, object]] = [
        {"name": "Search", "requests": 1234, "cost": Decimal("0.00004350")},
        {"name": None, "requests": 5, "cost": None},
    ]
    assert table.write({"name": "project", "requests": "requests", "cost": "cost (USD)"}, objects) == (
        "project  requests  cost (USD)\nSearch      1,234    0.000044\n-               5           -\n"
    )


def test_a_number_that_is_written_already_stands_on_the_right() -> None:
    objects: list[dict[str, object]] = [{"n": table.NumberText("1,234.5")}, {"n": 7}]
    assert table.write({"n": "n"}, objects) == "      n\n1,234.5\n      7\n"


def test_a_table_without_rows_has_its_titles() -> None:
    assert table.write({"a": "one", "b": "two"}, []) == "one  two\n"


def test_control_characters_are_not_written() -> None:
    text = table.write({"a": "a"}, [{"a": "x\x1b[2J\ny\u202e"}])
    assert text == "a\nx\ufffd[2J\ufffdy\ufffd\n"


def test_wide_characters_take_two_columns() -> None:
    assert table.write({"a": "a", "b": "b"}, [{"a": "検索", "b": "x"}, {"a": "e\u0301", "b": "y"}]) == (
        "a     b\n検索  x\ne\u0301     y\n"
    )
