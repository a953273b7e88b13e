"""Usage reports: adds up requests, tokens and costs from the ledger, by groups.

A time range is exact as far as its rows are kept (see `time_ranges`). Requests that are still running count, as
`in_flight`, so that a report counts all admitted requests.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from store.database import Row
from store.errors import InvalidRequest
from store.ledger.rollups import Table
from store.management import names
from store.reports.time_ranges import FROM_DAYS, FROM_HOURS, TimeRange, divide
from store.reports.usage_query import COST_PART, COSTS, END, PERIODS, Dimension, UsageFilter, columns, keys, statement
from store.reports.usage_totals import UsageSums
from store.store import Store

MAX_GROUPS = 50_000
"""Maximum groups of a report: more would take the process's memory, and no one could read them."""


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """The sums of one group. Fields that the report is not grouped by are None.

    `month`, `week`, `day` and `hour` are their beginnings, in UTC; a week begins on Monday. A token is shown with its
    project. `model` and the names are None where they are unknown; deleted projects and tokens have their last names.
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

    They differ from those of the filter where only whole days, or hours, are kept.
    """

    start: int | None
    end: int | None
    totals: UsageSums
    groups: Sequence[UsageGroup]


class UsageReports:
    """Adds up usage. Each method raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def report(self, by: Sequence[Dimension], about: UsageFilter) -> UsageReport:
        """Group the requests that a filter selects; by nothing, as one group. Raises InvalidRequest over MAX_GROUPS.

        Grouped by hours, it shows the hours that are kept, and no others.
        """
        with self._database.snapshot():
            about, rows = self._read(by, about)
            merged = _merged(rows, by)
            if len(merged) > MAX_GROUPS:
                raise _too_many()
            groups = self._named([_group(by, key, sums) for key, sums in merged.items()])
        return UsageReport(
            start=about.start,
            end=about.end,
            totals=UsageSums.total(merged.values()),
            groups=sorted(groups, key=_order),
        )

    def totals(self, about: UsageFilter) -> UsageSums:
        """Add up the requests that a filter selects."""
        return self.report((), about).totals

    def _read(self, by: Sequence[Dimension], about: UsageFilter) -> tuple[UsageFilter, Sequence[Row]]:
        """Return the filter with the time range that is added up, and the groups of each part of it."""
        tables = FROM_HOURS if Dimension.HOUR in by else FROM_DAYS
        ranges = list(divide(about.start or 0, END if about.end is None else about.end, tables, self._is_kept))
        about = _widened(about, ranges)
        sql, parameters = statement(by, about, ranges)
        most = MAX_GROUPS * (len(ranges) + 2)
        rows = self._database.execute(sql, [*parameters, most + 1])
        if len(rows) > most:  # several days of a month are one group
            raise _too_many()
        return about, rows

    def _is_kept(self, whole: TimeRange, finer: Table) -> bool:
        """Tell whether the finer table still has every settled request that the sums of a day or an hour count."""
        number, time = ("COUNT(settled_at)", "started_at") if finer is Table.ROWS else ("SUM(requests)", "start")
        ((summed, kept),) = self._database.execute(
            f"SELECT (SELECT SUM(requests) FROM {whole.table} WHERE start = ?),"  # noqa: S608 - no data
            f" (SELECT {number} FROM {finer} WHERE {time} >= ? AND {time} < ?)",
            [whole.start, whole.start, whole.end],
        )
        return int(summed or 0) == int(kept or 0)

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


def _widened(about: UsageFilter, ranges: Sequence[TimeRange]) -> UsageFilter:
    """Return the filter with the time range that all parts cover; an open end stays open."""
    start = about.start and min([about.start, *(part.start for part in ranges)])
    end = about.end and max([about.end, *(part.end for part in ranges)])
    return dataclasses.replace(about, start=start, end=end)


def _too_many() -> InvalidRequest:
    return InvalidRequest(f"The report has more than {MAX_GROUPS} groups: group by less, or for a shorter time.")


def _merged(rows: Sequence[Row], by: Sequence[Dimension]) -> dict[Row, UsageSums]:
    """Add up the rows of each group, by its `keys`."""
    names, wanted = columns(by), keys(by)
    has_periods = not PERIODS.keys().isdisjoint(wanted)
    merged: dict[Row, UsageSums] = {}
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
    return merged


def _group(by: Sequence[Dimension], key: Row, sums: UsageSums) -> UsageGroup:
    fields = dict(zip(keys(by), key, strict=True))
    return UsageGroup(sums, **{**fields, "model": fields.get("model") or None})


def _order(group: UsageGroup) -> tuple[object, ...]:
    ids = (group.project_id, group.token_id, group.model, group.endpoint)
    times = (group.month or 0, group.week or 0, group.day or 0, group.hour or 0)
    return (*times, -group.sums.cost, -group.sums.requests, *(text or "" for text in ids))
