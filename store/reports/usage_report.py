"""Usage reports: adds up requests, tokens and costs from the ledger, by groups.

A time range is exact as far as its rows are kept (see `time_ranges`), and so are the days, weeks and months of a time
zone (see `local_ranges`); without one they are those of UTC. Requests that are still running count, as `in_flight`, so
that a report counts all admitted requests.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from store.clock import DAY
from store.database import Row
from store.errors import InvalidRequest
from store.ledger.rollups import Table
from store.management import names
from store.reports import time_zones
from store.reports.kept import not_kept
from store.reports.local_ranges import labelled_ranges
from store.reports.time_ranges import TimeRange, divide
from store.reports.usage_query import (
    COST_PART,
    COSTS,
    END,
    PERIODS,
    Dimension,
    LabelledRange,
    UsageFilter,
    bounds,
    columns,
    keys,
    labelled_statements,
    statement,
    tables_of,
)
from store.reports.usage_totals import UsageSums
from store.store import Store

MAX_GROUPS = 50_000
"""Maximum groups of a report: more would take the process's memory, and no one could read them."""


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """The sums of one group. Fields that the report is not grouped by are None.

    `month`, `week` and `day` are their first dates, as midnights in UTC; a week begins on Monday. `hour` is its
    beginning. A token is shown with its project. `model` and the names are None where they are unknown; deleted
    projects and tokens have their last names.
    """

    sums: UsageSums
    month: int | None = None
    week: int | None = None
    day: int | None = None
    hour: int | None = None
    project_id: str | None = None
    project_name: str | None = None
    token_id: str | None = None
    token_name: str | None = None
    model: str | None = None
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Groups, ordered by time and then by cost, the highest first; `start` and `end` are the time range added up.

    They differ from those of the filter where only whole days, or hours, are kept. `timezone` is the name of the time
    zone whose months, weeks and days the groups are.
    """

    start: int | None
    end: int | None
    timezone: str
    totals: UsageSums
    groups: Sequence[UsageGroup]


class UsageReports:
    """Adds up usage. Each method raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def report(self, by: Sequence[Dimension], about: UsageFilter, zone: ZoneInfo | None = None) -> UsageReport:
        """Group the requests that a filter selects, by months, weeks and days of a time zone (None: UTC).

        By nothing, they are one group. Grouped by hours, it shows the hours that are kept, and no others. Raises
        InvalidRequest over MAX_GROUPS, and where days of the time zone cannot be told apart any more.
        """
        with self._database.snapshot():
            if zone is not None and "day" in columns(by):
                about, merged = self._read_local(by, about, zone)
            else:
                about, merged = self._read(by, about)
            if len(merged) > MAX_GROUPS:
                raise _too_many()
            groups = self._named([_group(by, key, sums) for key, sums in merged.items()])
        return UsageReport(
            start=about.start,
            end=about.end,
            timezone=zone.key if zone else time_zones.UTC,
            totals=UsageSums.total(merged.values()),
            groups=sorted(groups, key=_order),
        )

    def totals(self, about: UsageFilter) -> UsageSums:
        """Add up the requests that a filter selects."""
        return self.report((), about).totals

    def _read(self, by: Sequence[Dimension], about: UsageFilter) -> tuple[UsageFilter, dict[Row, UsageSums]]:
        """Return the filter with the time range that is added up, and the groups."""
        end = END if about.end is None else about.end
        ranges = list(divide(about.start or 0, end, tables_of(by), self._is_kept))
        about = _widened(about, ranges)
        sql, parameters = statement(by, about, ranges)
        most = MAX_GROUPS * (len(ranges) + 2)
        rows = self._database.execute(sql, [*parameters, most + 1])
        if len(rows) > most:  # several days of a month are one group
            raise _too_many()
        merged: dict[Row, UsageSums] = {}
        _merge(merged, rows, by)
        return about, merged

    def _read_local(
        self, by: Sequence[Dimension], about: UsageFilter, zone: ZoneInfo
    ) -> tuple[UsageFilter, dict[Row, UsageSums]]:
        """Return the same in a time zone, read period by period."""
        merged: dict[Row, UsageSums] = {}
        start, end = self._with_requests(about)
        if start >= end:
            return about, merged
        if end - start > MAX_GROUPS * DAY:
            raise _too_many()
        ranges = labelled_ranges(self._database, by, start, end, zone)
        for sql, parameters in labelled_statements(self._database, by, about, ranges, MAX_GROUPS + 1):
            _merge(merged, self._database.execute(sql, parameters), by)
            if len(merged) > MAX_GROUPS:
                raise _too_many()
        return _widened(about, ranges), merged

    def _with_requests(self, about: UsageFilter) -> tuple[int, int]:
        """Return the time range of a filter without the days (UTC) before the first request and after the last one."""
        (found,) = self._database.execute(*bounds(about))
        starts = [int(start) // DAY * DAY for start in found if start is not None]
        first, last = (min(starts), max(starts) + DAY) if starts else (0, 0)
        return max(about.start or 0, first), last if about.end is None else min(about.end, last)

    def _is_kept(self, whole: TimeRange, finer: Table) -> bool:
        return not not_kept(self._database, whole.table, [whole.start], finer)

    def _named(self, groups: Sequence[UsageGroup]) -> Iterator[UsageGroup]:
        projects = names.of_projects(self._database, {group.project_id for group in groups if group.project_id})
        tokens = names.of_tokens(self._database, {group.token_id for group in groups if group.token_id})
        return (
            dataclasses.replace(
                group,
                project_name=projects.get(group.project_id or ""),
                token_name=tokens.get(group.token_id or ""),
            )
            for group in groups
        )


def _widened(about: UsageFilter, ranges: Sequence[TimeRange | LabelledRange]) -> UsageFilter:
    """Return the filter with the time range that all parts cover; an open end stays open."""
    start = about.start and min([about.start, *(part.start for part in ranges)])
    end = about.end and max([about.end, *(part.end for part in ranges)])
    return dataclasses.replace(about, start=start, end=end)


def _too_many() -> InvalidRequest:
    return InvalidRequest(f"The report has more than {MAX_GROUPS} groups: group by less, or for a shorter time.")


def _merge(merged: dict[Row, UsageSums], rows: Sequence[Row], by: Sequence[Dimension]) -> None:
    """Add rows to the sums of each group, by its `keys`."""
    names, wanted = columns(by), keys(by)
    has_periods = not PERIODS.keys().isdisjoint(wanted)
    for row in rows:
        key = row[: len(names)]
        if has_periods:
            found = dict(zip(names, key, strict=True))
            key = tuple([PERIODS[name](found["day"]) if name in PERIODS else found[name] for name in wanted])
        numbers = [int(number or 0) for number in row[len(names) :]]  # SUM is NULL without rows
        parts = numbers[-2 * len(COSTS) :]
        costs = [high * COST_PART + low for high, low in zip(parts[::2], parts[1::2], strict=True)]
        sums = UsageSums._make([*numbers[: -len(parts)], *costs])
        before = merged.get(key)
        merged[key] = sums if before is None else UsageSums.total((before, sums))


def _group(by: Sequence[Dimension], key: Row, sums: UsageSums) -> UsageGroup:
    fields = dict(zip(keys(by), key, strict=True))
    return UsageGroup(sums, **{**fields, "model": fields.get("model") or None})


def _order(group: UsageGroup) -> tuple[object, ...]:
    ids = (group.project_id, group.token_id, group.model, group.endpoint)
    times = (group.month or 0, group.week or 0, group.day or 0, group.hour or 0)
    return (*times, -group.sums.cost, -group.sums.requests, *(text or "" for text in ids))
