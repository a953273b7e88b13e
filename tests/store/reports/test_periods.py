"""Days, weeks and months of time zones. The dates are of changes of their clocks."""

import itertools
from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.clock import DAY, HOUR, date_in, from_rfc3339, month_of, to_date, to_rfc3339, week_of
from store.reports.periods import Period, label_at, periods

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    *("Europe/Berlin", "Europe/London", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"),
    *("Pacific/Kiritimati", "Pacific/Pago_Pago", "Atlantic/Azores", "America/Havana", "America/Nuuk", "UTC"),
]


def days(zone: str, start: str, end: str) -> list[tuple[str, str, float]]:
    """Return the dates of the days between two times, their beginnings, and their lengths in hours."""
    found = periods(from_rfc3339(start), from_rfc3339(end), ZoneInfo(zone), int)
    return [(to_date(day.label), to_rfc3339(day.begins)[5:16], (day.ends - day.begins) / HOUR) for day in found]


@pytest.mark.parametrize(
    ("zone", "start", "end", "expected"),
    [
        (
            "Europe/Berlin",
            "2024-03-30T12:00:00Z",
            "2024-04-01T12:00:00Z",
            [("2024-03-30", "03-29T23:00", 24), ("2024-03-31", "03-30T23:00", 23), ("2024-04-01", "03-31T22:00", 24)],
        ),
        (
            "Europe/Berlin",
            "2024-10-27T12:00:00Z",
            "2024-10-27T23:00:00Z",
            [("2024-10-27", "10-26T22:00", 25)],
        ),
        ("Australia/Lord_Howe", "2024-04-07", "2024-04-07T01:00:00Z", [("2024-04-07", "04-06T13:00", 24.5)]),
        ("Asia/Kolkata", "2024-01-01", "2024-01-01T18:30:00Z", [("2024-01-01", "12-31T18:30", 24)]),
        # Midnight does not exist: the day begins at one o'clock.
        ("America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T13:00:00Z", [("2018-11-04", "11-04T03:00", 23)]),
        ("America/Havana", "2019-03-10T12:00:00Z", "2019-03-10T13:00:00Z", [("2019-03-10", "03-10T05:00", 23)]),
        # Midnight exists twice.
        ("America/Havana", "2019-11-03T12:00:00Z", "2019-11-03T13:00:00Z", [("2019-11-03", "11-03T04:00", 25)]),
        # At the end of the day its last hour exists twice.
        ("America/Sao_Paulo", "2018-02-17T12:00:00Z", "2018-02-17T13:00:00Z", [("2018-02-17", "02-17T02:00", 25)]),
        # Samoa left out 30 December.
        (
            "Pacific/Apia",
            "2011-12-30T09:59:59Z",
            "2011-12-30T10:00:01Z",
            [("2011-12-29", "12-29T10:00", 24), ("2011-12-31", "12-30T10:00", 24)],
        ),
        ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:01Z", [("2011-12-31", "12-30T10:00", 24)]),
    ],
)
def test_days_begin_at_their_first_instant(zone: str, start: str, end: str, expected: list[object]) -> None:
    assert days(zone, start, end) == expected


def test_weeks_and_months_are_days_with_the_same_key() -> None:
    start, end = from_rfc3339("2026-10-14", BERLIN), from_rfc3339("2026-11-20", BERLIN)
    months = list(periods(start, end, BERLIN, month_of))
    assert [to_date(month_of(month.label)) for month in months] == ["2026-10-01", "2026-11-01"]
    assert months[0].ends == months[1].begins == from_rfc3339("2026-10-31T23:00:00Z")
    weeks = list(periods(start, end, BERLIN, week_of))
    assert [to_date(week_of(week.label)) for week in weeks] == [
        *("2026-10-12", "2026-10-19", "2026-10-26", "2026-11-02", "2026-11-09", "2026-11-16")
    ]
    assert (weeks[1].ends - weeks[1].begins, weeks[2].ends - weeks[2].begins) == (7 * DAY + HOUR, 7 * DAY)


def test_the_first_and_the_last_period_go_on_beyond_the_times() -> None:
    start, end = from_rfc3339("2026-10-14", BERLIN), from_rfc3339("2026-10-15", BERLIN)
    (month,) = periods(start, end, BERLIN, month_of)
    assert (month.begins, month.ends) == (start - 2 * DAY, end + 3 * DAY)
    assert month.within(start, end) == Period(month.label, start, end)


times = st.integers(from_rfc3339("2010-01-01"), from_rfc3339("2037-01-01"))


@given(times, st.integers(0, 400 * DAY), st.sampled_from(ZONES), st.sampled_from([int, week_of, month_of]))
def test_periods_join_without_gaps_and_have_the_dates_of_their_times(
    start: int, length: int, name: str, key: Callable[[int], int]
) -> None:
    zone, end = ZoneInfo(name), start + length
    found = list(periods(start, end, zone, key))
    if length:
        assert found[0].begins <= start < found[0].ends
        assert found[-1].begins < end <= found[-1].ends
    for one, other in itertools.pairwise(found):
        assert one.ends == other.begins
        assert one.label < other.label
        assert key(one.label) != key(other.label)
    for period in found:
        for moment in (period.begins, period.ends - 1, (period.begins + period.ends) // 2):
            assert key(label_at(moment, zone)) == key(period.label), to_rfc3339(moment)
        assert date_in(period.begins - 1, zone) < date_in(period.begins, zone)
