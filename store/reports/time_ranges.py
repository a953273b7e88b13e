"""Which of the ledger's tables tell about a time: whole days, the whole hours at its edges, and rows for the rest.

Rows and hourly sums are not kept for ever. Where an edge lies in a day (or an hour) of which they are gone, the time is
widened to the whole day (or hour).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from store.clock import DAY, HOUR
from store.ledger.rollups import Table


class Stretch(NamedTuple):
    """A part of a time, from `start` (microseconds) until just before `end`, and the table that tells about it."""

    table: Table
    start: int
    end: int


type IsKept = Callable[[Stretch, Table], bool]
"""Tells whether a finer table still holds all that the stretch's own sums up."""

FROM_DAYS = (Table.DAYS, Table.HOURS, Table.ROWS)
FROM_HOURS = (Table.HOURS, Table.ROWS)

_UNITS = {Table.DAYS: DAY, Table.HOURS: HOUR, Table.ROWS: 1}


def cover(start: int, end: int, tables: Sequence[Table], is_kept: IsKept) -> Iterator[Stretch]:
    """Divide the time from `start` until just before `end` among `tables`, which are ordered from coarse to fine."""
    if start >= end:
        return
    unit = _UNITS[tables[0]]
    first, last = -(-start // unit) * unit, end // unit * unit
    if first > last:
        yield from _cover_edge(start, end, tables, is_kept)
        return
    yield from _cover_edge(start, first, tables, is_kept)
    if first < last:
        yield Stretch(tables[0], first, last)
    yield from _cover_edge(last, end, tables, is_kept)


def _cover_edge(start: int, end: int, tables: Sequence[Table], is_kept: IsKept) -> Iterator[Stretch]:
    """Divide a part of one day or hour."""
    if start >= end:
        return
    table, *finer = tables
    unit = _UNITS[table]
    whole = Stretch(table, start // unit * unit, start // unit * unit + unit)
    if is_kept(whole, finer[0]):
        yield from cover(start, end, finer, is_kept)
    else:
        yield whole
