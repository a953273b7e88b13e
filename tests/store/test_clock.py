import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import clock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def test_now_is_the_time_in_microseconds() -> None:
    before = time.time()
    now = clock.now() / clock.SECOND
    assert before - 0.001 <= now <= time.time() + 0.001


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (999_999, "1970-01-01T00:00:00Z"),
        (1_700_000_000 * clock.SECOND, "2023-11-14T22:13:20Z"),
        (clock.NEVER, "9999-12-31T23:59:59Z"),
    ],
)
def test_a_time_is_shown_in_utc_and_whole_seconds(microseconds: int, text: str) -> None:
    assert clock.to_rfc3339(microseconds) == text


@given(st.integers(0, clock.NEVER), st.integers(0, clock.NEVER))
def test_written_times_sort_as_the_times_do(one: int, other: int) -> None:
    earlier, later = sorted((one, other))
    assert clock.to_rfc3339(earlier) <= clock.to_rfc3339(later)


def test_a_time_may_be_written_with_its_microseconds_or_as_a_day() -> None:
    assert clock.to_rfc3339_exact(1_700_000_000 * clock.SECOND + 5) == "2023-11-14T22:13:20.000005Z"
    assert clock.to_date(1_700_000_000 * clock.SECOND) == "2023-11-14"


@given(st.integers(0, clock.NEVER))
def test_a_written_time_is_read_as_it_was(microseconds: int) -> None:
    assert clock.from_rfc3339(clock.to_rfc3339_exact(microseconds)) == microseconds


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-02", clock.DAY),
        ("1970-01-01T01:00:00Z", clock.HOUR),
        ("1970-01-01t01:00:00z", clock.HOUR),
        ("1970-01-01T01:00:00.5Z", clock.HOUR + clock.SECOND // 2),
        ("1970-01-01T01:00:00.0000019999Z", clock.HOUR + 1),
        ("1970-01-01T01:30:00+01:30", 0),
        ("1969-12-31T23:00:00-02:00", clock.HOUR),
        ("1990-12-31T23:59:60Z", 662_688_000 * clock.SECOND),
        ("0001-01-01T00:00:00+23:59", 0),
        ("9999-12-31T23:59:59-23:59", clock.NEVER),
    ],
)
def test_times_of_rfc_3339_are_read(text: str, microseconds: int) -> None:
    assert clock.from_rfc3339(text) == microseconds


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2024-11-25", "Europe/Berlin", "2024-11-24T23:00:00Z"),
        ("2024-07-01", "America/New_York", "2024-07-01T04:00:00Z"),
        ("2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00:00Z"),  # one o'clock: there is no midnight
        ("2026-11-25T00:00:00Z", "Europe/Berlin", "2026-11-25T00:00:00Z"),
        ("2026-11-25T00:00:00+05:30", "Europe/Berlin", "2026-11-24T18:30:00Z"),
        ("0001-01-01", "Asia/Tokyo", "1970-01-01T00:00:00Z"),
        ("9999-12-31", "America/New_York", "9999-12-31T05:00:00Z"),
    ],
)
def test_a_date_alone_is_the_midnight_of_a_time_zone(text: str, zone: str, expected: str) -> None:
    moment = clock.from_rfc3339(text, ZoneInfo(zone))
    assert clock.to_rfc3339(moment) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026",
        "2026-11",
        "2026-02-30",
        "2026-13-01",
        "0000-01-01",
        "20261125",
        "2026-11-25T00:00:00",
        "2026-11-25 00:00:00Z",
        "2026-11-25T24:00:00Z",
        "2026-11-25T00:60:00Z",
        "2026-11-25T00:00:61Z",
        "2026-11-25T00:00:00 01:00",
        "2026-11-25T00:00:00+24:00",
        "2026-11-25T00:00:00+0100",
        "2026-11-25T00:00Z",
        "2026-11-25\n",
        " 2026-11-25",
        "\u0662026-11-25",
        "2026-11-25T00:00:00.Z",
        "1700000000",
    ],
)
def test_a_text_that_is_no_time_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        clock.from_rfc3339(text)


@given(st.integers(0, clock.NEVER // clock.SECOND))
def test_weeks_begin_on_monday_and_months_on_the_first(second: int) -> None:
    moment = EPOCH + timedelta(seconds=second)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    time = second * clock.SECOND + 7
    assert clock.week_of(time) == (midnight - timedelta(days=moment.weekday()) - EPOCH) // timedelta(microseconds=1)
    assert clock.month_of(time) == (midnight.replace(day=1) - EPOCH) // timedelta(microseconds=1)
