from collections.abc import Iterator
from datetime import UTC
from zoneinfo import ZoneInfo

import flask
import pytest

from manage_api.pages import filters
from store.clock import DAY, HOUR, NEVER, from_rfc3339, to_rfc3339

NOW = from_rfc3339("2026-11-25T13:30:00Z")
"""A Wednesday."""

BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")


@pytest.fixture(autouse=True)
def _application(app: flask.Flask) -> Iterator[None]:
    with app.test_request_context("/"):
        yield


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("1h", "2026-11-25T12:30:00Z"),
        ("7 days", "2026-11-18T13:30:00Z"),
        ("today", "2026-11-25T00:00:00Z"),
        ("Yesterday", "2026-11-24T00:00:00Z"),
        ("this week", "2026-11-23T00:00:00Z"),
        ("last week", "2026-11-16T00:00:00Z"),
        ("this month", "2026-11-01T00:00:00Z"),
        ("last month", "2026-10-01T00:00:00Z"),
        ("2026-11-03", "2026-11-03T00:00:00Z"),
        ("2026-11-03 08:15", "2026-11-03T08:15:00Z"),
        ("2026-11-03T08:15:30", "2026-11-03T08:15:30Z"),
        ("2026-11-03T08:15:30+02:00", "2026-11-03T06:15:30Z"),
    ],
)
def test_times_are_read_as_people_write_them(given: str, expected: str) -> None:
    assert to_rfc3339(filters.read_moment(given, NOW, UTC)) == expected


@pytest.mark.parametrize(
    ("given", "zone", "expected"),
    [
        ("today", BERLIN, "2026-11-24T23:00:00Z"),
        ("today", KOLKATA, "2026-11-24T18:30:00Z"),
        ("this month", BERLIN, "2026-10-31T23:00:00Z"),
        ("last month", BERLIN, "2026-09-30T22:00:00Z"),
        ("2026-07-01", BERLIN, "2026-06-30T22:00:00Z"),
        ("2026-07-01 12:00", BERLIN, "2026-07-01T10:00:00Z"),
        ("2026-11-03T08:15:30Z", BERLIN, "2026-11-03T08:15:30Z"),
        ("1h", BERLIN, "2026-11-25T12:30:00Z"),
    ],
)
def test_days_are_those_of_the_time_zone(given: str, zone: ZoneInfo, expected: str) -> None:
    assert to_rfc3339(filters.read_moment(given, NOW, zone)) == expected


def test_times_beyond_all_that_is_kept_are_its_ends() -> None:
    assert filters.read_moment("999999d", NOW, UTC) == 0
    assert filters.read_moment("0001-01-01 00:00", NOW, BERLIN) == 0
    assert filters.read_moment("9999-12-31 23:59:59", NOW, UTC) == NEVER
    assert filters.read_moment("last month", 0, UTC) < HOUR


@pytest.mark.parametrize(
    "given", ["", "soon", "1", "-1h", "2026-02-30", "2026-11-03 24:00", "2026-11-03 8:15", "11/03/2026", "today\n"]
)
def test_other_texts_are_no_times(given: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        filters.read_moment(given, NOW, UTC)


def test_last_month_of_january_is_december() -> None:
    january = from_rfc3339("2027-01-15")
    assert to_rfc3339(filters.read_moment("last month", january, UTC)) == "2026-12-01T00:00:00Z"
    assert to_rfc3339(filters.read_moment("last week", january - 10 * DAY, UTC)) == "2026-12-28T00:00:00Z"


def test_an_address_keeps_its_query_but_for_the_changes() -> None:
    query = {"endpoint": "/v1/a?b&c", "by": ["day", "model"], "from": "1h"}
    address = filters.address("pages.requests.index", query, **{"from": None, "cursor": "x"})
    assert address == "/requests?endpoint=%2Fv1%2Fa%3Fb%26c&by=day&by=model&cursor=x"
    assert filters.address("pages.requests.index", {}) == "/requests"
