from decimal import Decimal

import pytest

from manage_api.cli.reconciliation import cells
from store.clock import to_rfc3339


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-10-01", "2026-10-01"),
        ("2026-10-01T23:59:59Z", "2026-10-01"),
        ("2026-10-01T00:00:00+00:00", "2026-10-01"),
        ("2026-10-01T23:30:00-01:00", "2026-10-02"),
        ("2026-10-01 23:59:59", "2026-10-01"),
        ("2026-10-01T23:59:59.713", "2026-10-01"),
        ("2026-10-01 00:30:00.5+01:00", "2026-09-30"),
        ("1759622400", "2025-10-05"),
        ("1759708799", "2025-10-05"),
        ("999999999", "2001-09-09"),
    ],
)
def test_a_day_is_read(text: str, day: str) -> None:
    assert to_rfc3339(cells.day(text)) == f"{day}T00:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        *("", "20261001", "10/01/2026", "01.10.2026", "2026-10", "2026-13-01", "2026-02-30", "1759622400000", "-1"),
        *("0001-01-01", "1970-01-01", "2026-10-01T24:00:00Z", "2026-10-01 1:00", "2026-10-01 01:00:00 PST"),
        *("2026-10-01T00:00:00Z\n", "1759622400.5", "\u0661\u0667\u0665\u0669\u0666\u0662\u0662\u0664\u0660\u0660"),
    ],
)
def test_another_text_is_no_day(text: str) -> None:
    with pytest.raises(ValueError, match=r"no|must|day|month|invalid"):
        cells.day(text)


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("1234", 1234), ("59200.0", 59200), ("1,234", 1234), ("1,234,567.00", 1234567)]
)
def test_a_count_is_read(text: str, number: int) -> None:
    assert cells.count(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1.5", "1.000", "1.234.567", "12,34", "1,2345", "1 234", "1_000", "1e3", "NaN", "\u0661", "9" * 19],
)
def test_another_text_is_no_count(text: str) -> None:
    with pytest.raises(ValueError, match="no whole number"):
        cells.count(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.8958740000000000", "0.895874"),
        ("12", "12"),
        ("-0.10", "-0.1"),
        ("$12.30", "12.3"),
        ("-$1,234.50", "-1234.5"),
        ("1,234,567.89", "1234567.89"),
        ("1.5e-05", "0.000015"),
    ],
)
def test_an_amount_is_read(text: str, number: str) -> None:
    assert cells.amount(text) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    [
        *("", "1,234", "12,30", "1.234,56", "1 234.00", "\u20ac12.30", "12.30 USD", "(12.30)", "1_0.0", "NaN"),
        *("Infinity", "1e5", "1.23E+05", "1e-999", ".", "--1", "\u0661.0"),
    ],
)
def test_another_text_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        cells.amount(text)


def test_sums_are_exact() -> None:
    large, small = cells.amount("999999999999999"), cells.amount("1e-99")
    assert cells.EXACT.subtract(cells.EXACT.add(large, small), large) == small
