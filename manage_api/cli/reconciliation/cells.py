"""Reads the cells of an export: days and numbers, exactly or not at all.

A text that could mean two numbers is refused: `1,234` is 1.234 dollars in some countries.
"""

import re
from decimal import Context, Decimal, Inexact, InvalidOperation

from store.clock import DAY, NEVER, SECOND, from_rfc3339

EXACT = Context(prec=200, traps=[Inexact, InvalidOperation])
"""Adds what `count` and `amount` return without rounding, for more rows than a file can have."""

_UNIX_SECONDS = re.compile(r"[0-9]{9,10}")
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ Tt]([0-9:]+(?:\.[0-9]+)?)(\D.*)?")
_COUNT = re.compile(r"([0-9]{1,18}|[0-9]{1,3}(?:,[0-9]{3}){1,5})(?:\.0{1,2})?")
_AMOUNT = re.compile(
    r"(-?)\$?((?:[0-9]{1,15}|[0-9]{1,3}(?:,[0-9]{3}){1,4}(?=\.))(?:\.[0-9]{1,40})?(?:[eE]-[0-9]{1,2})?)"
)


def day(text: str) -> int:
    """Return the UTC day of a date, an RFC 3339 time or Unix seconds: its midnight, in microseconds.

    A time may have a blank in the place of the `T`; without an offset it is UTC. Raises ValueError.
    """
    if _UNIX_SECONDS.fullmatch(text):
        moment = int(text) * SECOND
    else:
        time = _TIME.fullmatch(text)
        moment = from_rfc3339(f"{time[1]}T{time[2]}{time[3] or 'Z'}" if time else text)
    if not 0 < moment < NEVER:  # from_rfc3339 moves other times into these bounds
        raise ValueError("no time of this age")
    return moment // DAY * DAY


def count(text: str) -> Decimal:
    """Return a whole number, such as `1234`, `1,234` or `1234.0`. Raises ValueError."""
    match = _COUNT.fullmatch(text)
    if match is None:
        raise ValueError("no whole number")
    return Decimal(match[1].replace(",", ""))


def amount(text: str) -> Decimal:
    """Return an amount of dollars, such as `0.05`, `-1.5e-05`, `$12.30` or `1,234.56`. Raises ValueError."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError("no amount")
    return Decimal(match[1] + match[2].replace(",", ""))
