"""Times of the store: whole microseconds since 1970-01-01T00:00:00Z.

An integer compares and sorts alike on every database, and has no time zone that could be lost.
"""

import re
import time
from datetime import UTC, date, datetime, timedelta, tzinfo

SECOND = 1_000_000
"""Microseconds in a second."""

MINUTE = 60 * SECOND
"""Microseconds in a minute."""

HOUR = 60 * MINUTE
"""Microseconds in an hour; hours of the ledger begin at its multiples."""

DAY = 24 * HOUR
"""Microseconds in a day; days of the ledger begin at its multiples, which is midnight in UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NEVER = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
"""The expiry of a token that does not expire; no later time can be written in RFC 3339."""

_RFC3339 = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<offset_hour>[0-9]{2}):(?P<offset_minute>[0-9]{2})))?"
)
_LIMITS = {"hour": 23, "minute": 59, "second": 60, "offset_hour": 23, "offset_minute": 59}


def now() -> int:
    """Return the machine's time in microseconds."""
    return time.time_ns() // 1000


def week_of(moment: int) -> int:
    """Return the beginning of the week of a time: its Monday, midnight UTC."""
    monday = 4 * DAY  # 1970-01-05
    return (moment - monday) // (7 * DAY) * 7 * DAY + monday


def month_of(moment: int) -> int:
    """Return the beginning of the month of a time, midnight UTC."""
    day = moment // DAY
    return (day - (_EPOCH + timedelta(days=day)).day + 1) * DAY


def midnight(day: date, zone: tzinfo) -> int:
    """Return the beginning of a day in a time zone: the first midnight of two, the end of the gap that has none.

    A day that the zone left out begins, and ends, where the next one begins.
    """
    return (datetime(day.year, day.month, day.day, tzinfo=zone) - _EPOCH) // timedelta(microseconds=1)


def date_in(moment: int, zone: tzinfo) -> date:
    """Return the date of a time in a time zone."""
    return (_EPOCH + timedelta(microseconds=moment)).astimezone(zone).date()


def to_rfc3339(microseconds: int) -> str:
    """Return a time as the API shows it: UTC, whole seconds, `Z` (RFC 3339, section 5.6)."""
    moment = _EPOCH + timedelta(seconds=microseconds // SECOND)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def to_rfc3339_exact(microseconds: int) -> str:
    """Return a time with its microseconds: UTC, `Z`; such texts sort as their times do."""
    return f"{to_rfc3339(microseconds)[:-1]}.{microseconds % SECOND:06}Z"


def to_date(microseconds: int) -> str:
    """Return the day of a time (UTC), as `2026-11-25`."""
    return to_rfc3339(microseconds)[:10]


def from_rfc3339(text: str, zone: tzinfo = UTC) -> int:
    """Read a time of RFC 3339 (section 5.6), or a date alone, which is its midnight in `zone`. Raises ValueError.

    Digits below a microsecond are cut off; a time before 1970 becomes 0, one after 9999 NEVER.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("no time of RFC 3339")
    day = date.fromisoformat(match["date"])
    if match["hour"] is None:
        return _in_range(midnight(day, zone))
    parts = {name: int(match[name] or 0) for name in _LIMITS}
    if any(parts[name] > limit for name, limit in _LIMITS.items()):
        raise ValueError("no time of a day")
    minutes = parts["hour"] * 60 + parts["minute"]
    offset = (parts["offset_hour"] * 60 + parts["offset_minute"]) * (-1 if match["sign"] == "-" else 1)
    seconds = (minutes - offset) * 60 + parts["second"]
    fraction = int((match["fraction"] or "")[:6].ljust(6, "0"))
    return _in_range(midnight(day, UTC) + seconds * SECOND + fraction)


def _in_range(moment: int) -> int:
    return min(max(moment, 0), NEVER)
