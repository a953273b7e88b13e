"""Divides the time of a report among the days, weeks or months of a time zone, and each of these among the tables.

Where one of them begins in the middle of a day of UTC, or of an hour, that day or hour is divided. If it is not kept
finely enough for that, the report is refused: it would count requests on another day than their own.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn
from zoneinfo import ZoneInfo

from store.clock import DAY, to_date
from store.database import Database
from store.errors import InvalidRequest
from store.ledger.rollups import TABLES, Table
from store.reports.kept import not_kept
from store.reports.periods import Period, label_at, periods
from store.reports.time_ranges import IsKept, TimeRange, divide
from store.reports.usage_query import OPEN, REFUSED, Dimension, LabelledRange, period_of, tables_of

type Divided = Sequence[tuple[Period, Sequence[TimeRange]]]
"""Periods, each with its parts in the order of time."""


def labelled_ranges(
    database: Database, by: Sequence[Dimension], start: int, end: int, zone: ZoneInfo
) -> Sequence[LabelledRange]:
    """Return the parts of each month, week or day between two times, as a report by `by` tells them apart.

    Each has parts of the tables of sums and rows, and one of open and of refused requests. Like those of `divide`, they
    reach beyond these times where no finer sums are kept, but never beyond their period. Raises InvalidRequest where
    they would.
    """
    tables = tables_of(by)
    found = [(period, period.within(start, end)) for period in periods(start, end, zone, period_of(by))]
    is_kept = _is_kept(database, [part for _, part in found], tables)
    divided = [(period, list(divide(part.begins, part.ends, tables, is_kept))) for period, part in found]
    if beyond := [*_beyond(divided)]:
        _refuse(*max(beyond), zone)
    return [*_labelled(divided)]


def _is_kept(database: Database, parts: Iterable[Period], tables: Sequence[Table]) -> IsKept:
    """Look up, at once, all days and hours in whose middle a part begins or ends."""
    edges = {edge for part in parts for edge in (part.begins, part.ends)}
    missing = {}
    for table, finer in itertools.pairwise(tables):
        width = TABLES[table]
        missing[table] = not_kept(database, table, {edge // width * width for edge in edges if edge % width}, finer)
    return lambda whole, _finer: whole.start not in missing[whole.table]


def _beyond(divided: Divided) -> Iterator[tuple[int, Table]]:
    """Return the edges of periods that a part reaches beyond, each with the part's table."""
    for period, parts in divided:
        if parts[0].start < period.begins:
            yield period.begins, parts[0].table
        if parts[-1].end > period.ends:
            yield period.ends, parts[-1].table


def _refuse(edge: int, table: Table, zone: ZoneInfo) -> NoReturn:
    day = to_date(label_at(edge, zone) + DAY)
    kept, other = ("days (UTC)", "") if table is Table.DAYS else ("hours", " for a time zone of whole hours,")
    raise InvalidRequest(
        f"Before {day} only the sums of {kept} are kept, which do not tell the days of {zone.key} apart: "
        f"ask from {day} on,{other} or without a time zone."
    )


def _labelled(divided: Divided) -> Iterator[LabelledRange]:
    for period, parts in divided:
        for part in parts:
            yield LabelledRange(part.table, period.label, part.start, part.end)
        for table in (OPEN, REFUSED):
            yield LabelledRange(table, period.label, parts[0].start, parts[-1].end)
