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


def test_on_a_terminal_the_longest_texts_are_cut() -> None:
    columns = {"name": "name", "model": "model", "n": "requests", "id": "id"}
    row = {"name": "A long name of a project", "model": "検索検索検索検索検索", "n": 1234567, "id": "0123456789abcdef"}
    whole = table.write(columns, [row])
    assert table.write(columns, [row], width=200) == whole
    assert table.write(columns, [row], width=60, whole={"id"}).splitlines() == [
        "name            model             requests  id",
        "A long name o…  検索検索検索検…  1,234,567  0123456789abcdef",
    ]
    for width in (80, 60, 45):
        assert max(len(line) for line in table.write(columns, [row], width=width, whole={"id"}).splitlines()) <= width
    assert table.write(columns, [row], width=1, whole={"id"}).splitlines()[1].split() == [
        *("A", "long", "…", "検索検…", "1,234,567", "0123456…")
    ]


def test_on_a_terminal_dispensable_columns_are_left_out_first() -> None:
    columns = {"name": "name", "time": "time", "id": "id"}
    row = {"name": "Search", "time": "12:00", "id": "0123456789"}
    for width, titles in ((25, "name time id"), (24, "name time"), (12, "name"), (5, "name")):
        text = table.write(columns, [row], width=width, dispensable=("id", "time", "none"))
        assert " ".join(text.splitlines()[0].split()) == titles
