"""Times as the store keeps them: whole microseconds since 1970-01-01T00:00:00Z.

An integer compares and sorts alike on every database, and carries no time zone that could be lost.
"""

import time
from datetime import UTC, datetime, timedelta

SECOND = 1_000_000
"""Microseconds in a second."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NEVER = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
"""The expiry of a token that does not expire; no later time can be written in RFC 3339."""


def now() -> int:
    """Return the machine's time in microseconds."""
    return time.time_ns() // 1000


def to_rfc3339(microseconds: int) -> str:
    """Write a time as the API does: UTC, whole seconds, `Z` (RFC 3339, section 5.6)."""
    moment = _EPOCH + timedelta(seconds=microseconds // SECOND)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
