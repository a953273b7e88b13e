"""Divides a time range among the ledger's tables: whole days, the whole hours at its edges, and rows for the rest.

Rows and hourly sums are not kept for ever. Where an edge lies in a day (or an hour) without them, the range is widened
to the whole day (or hour).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from store.clock import DAY, HOUR
from store.ledger.rollups import Table


class TimeRange(NamedTuple):
    """A time range, from `start` (microseconds) until just before `end`, and the table that it is read from."""

    table: Table
    start: int
    end: int


type IsKept = Callable[[TimeRange, Table], bool]
"""Tells whether a finer table still holds all that the range's own table sums up."""

FROM_DAYS = (Table.DAYS, Table.HOURS, Table.ROWS)
FROM_HOURS = (Table.HOURS, Table.ROWS)

_UNITS = {Table.DAYS: DAY, Table.HOURS: HOUR, Table.ROWS: 1}


def divide(start: int, end: int, tables: Sequence[Table], is_kept: IsKept) -> Iterator[TimeRange]:
    """Divide the range from `start` until just before `end` among `tables`, which are ordered from coarse to fine."""
    if start >= end:
        return
    unit = _UNITS[tables[0]]
    first, last = -(-start // unit) * unit, end // unit * unit
    if first > last:
        yield from _divide_edge(start, end, tables, is_kept)
        return
    yield from _divide_edge(start, first, tables, is_kept)
    if first < last:
        yield TimeRange(tables[0], first, last)
    yield from _divide_edge(last, end, tables, is_kept)


def _divide_edge(start: int, end: int, tables: Sequence[Table], is_kept: IsKept) -> Iterator[TimeRange]:
    """Divide a range within one day or hour."""
    if start >= end:
        return
    table, *finer = tables
    unit = _UNITS[table]
    whole = TimeRange(table, start // unit * unit, start // unit * unit + unit)
    if is_kept(whole, finer[0]):
        yield from divide(start, end, finer, is_kept)
    else:
        yield whole
