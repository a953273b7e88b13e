"""The SQL of a usage report: one SELECT for each part of its time range, all with the same groups.

In a time zone the parts are many, as each day has its own: there the SQL joins each table with a table of its parts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from store import clock
from store.clock import DAY, HOUR, NEVER
from store.database import Database, Statement
from store.database.sql import Conditions, given, where
from store.ledger.rollups import Table
from store.ledger.usage import COLUMNS, Source
from store.reports.time_ranges import FROM_DAYS, FROM_HOURS, TimeRange
from store.reports.usage_totals import UsageSums

END = (NEVER // DAY + 1) * DAY
"""The end of an open time range: a midnight, so that there is no edge."""

COST_PART = 1_000_000
"""The parts of a cost above and below this are added up separately, as SQLite's sums have 64 bits."""


class Dimension(StrEnum):
    """A property of requests that usage can be grouped by."""

    MONTH = "month"
    WEEK = "week"
    DAY = "day"
    HOUR = "hour"
    PROJECT = "project"
    TOKEN = "token"  # noqa: S105 - a word
    MODEL = "model"
    ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Selects the requests of a report: microseconds from `start` until just before `end`, and ids; None selects all.

    `model` is the one that answered; the empty text selects requests without a known one.
    """

    start: int | None = None
    end: int | None = None
    project_id: str | None = None
    token_id: str | None = None
    model: str | None = None
    endpoint: str | None = None


class LabelledRange(NamedTuple):
    """A part of a period of a time zone, and the table that it is read from. `label` is the period's (see `Period`)."""

    table: str
    label: int
    start: int
    end: int


_COLUMNS: dict[Dimension, Sequence[str]] = {
    Dimension.MONTH: ["month"],
    Dimension.WEEK: ["week"],
    Dimension.DAY: ["day"],
    Dimension.HOUR: ["hour"],
    Dimension.PROJECT: ["project_id"],
    Dimension.TOKEN: ["project_id", "token_id"],
    Dimension.MODEL: ["model"],
    Dimension.ENDPOINT: ["endpoint"],
}
"""The columns of each dimension. A token has one project, so that both together make no more groups.

This is the only table of dimensions: the fields of groups in the API and the CLI follow from it.
"""

PERIODS: Mapping[str, Callable[[int], int]] = {"month": clock.month_of, "week": clock.week_of}
"""The columns that the database does not know, and how they follow from the day."""

COSTS = ("told_cost", "cost_where_told", "cost")
"""The last fields of UsageSums: each is two columns of a statement's rows."""

_ADDED = UsageSums._fields[: -len(COSTS)]
_SUMS = ", ".join(
    [
        *(f"SUM({name})" for name in _ADDED),
        *(f"SUM({name} / {COST_PART}), SUM({name} - {name} / {COST_PART} * {COST_PART})" for name in COSTS),
    ]
)

OPEN = "open_request"
"""Stands in a statement for the table of the requests that are still running."""

REFUSED = "refusal"
"""The table of refused requests."""

_KNOWN = ("request_bytes", "response_bytes", *COLUMNS, "cost", "told_cost")


def _source(kind: Source) -> str:
    return f"CASE WHEN usage_source = '{kind}' THEN 1 ELSE 0 END AS {kind}"


_AS_SUMS = ", ".join(
    [
        f"started_at AS start, started_at / {DAY} * {DAY} AS day, started_at / {HOUR} * {HOUR} AS hour",
        "project_id, token_id, COALESCE(model, '') AS model, endpoint, 1 AS requests, 0 AS refused",
        "CASE WHEN settled_at IS NULL THEN 1 ELSE 0 END AS in_flight",
        _source(Source.OBSERVED),
        _source(Source.ESTIMATED),
        f"CASE WHEN usage_source <> '{Source.UNKNOWN}' AND cost IS NULL THEN 1 ELSE 0 END AS unpriced",
        "CASE WHEN cost_is_minimum THEN 1 ELSE 0 END AS minimum",
        *(f"COALESCE({name}, 0) AS {name}" for name in _KNOWN),
        "CASE WHEN told_cost IS NULL THEN 0 ELSE COALESCE(cost, 0) END AS cost_where_told",
    ]
)
"""The columns of a row of the ledger, as a sum of one row."""

_REFUSALS_AS_SUMS = ", ".join(
    [
        f"started_at AS start, started_at / {DAY} * {DAY} AS day, started_at / {HOUR} * {HOUR} AS hour",
        "project_id, token_id, '' AS model, endpoint, repeats AS refused",
        *(f"0 AS {name}" for name in UsageSums._fields if name != "refused"),
    ]
)
"""The same columns of refusals."""

# The start of a sum is its day or hour without computing: SQLite groups by it in the order of the primary key.
_FROM: dict[str, str] = {
    Table.DAYS: f"(SELECT *, start AS day, 0 AS in_flight, 0 AS refused FROM {Table.DAYS})",  # noqa: S608 - no data
    Table.HOURS: (
        f"(SELECT *, start / {DAY} * {DAY} AS day, start AS hour, 0 AS in_flight, 0 AS refused"  # noqa: S608
        f" FROM {Table.HOURS})"
    ),
    Table.ROWS: f"(SELECT {_AS_SUMS} FROM {Table.ROWS} WHERE settled_at IS NOT NULL)",  # noqa: S608 - no data
    OPEN: OPEN,
    REFUSED: f"(SELECT {_REFUSALS_AS_SUMS} FROM {REFUSED})",  # noqa: S608 - no data
}

# Separate, as the few open requests have an index of their own; a condition on their time or token would scan all the
# others.
_OPEN_REQUESTS = (
    f"{OPEN} AS MATERIALIZED"  # noqa: S608 - no data
    f" (SELECT {_AS_SUMS} FROM {Table.ROWS} WHERE settled_at IS NULL)"
)


def keys(by: Sequence[Dimension]) -> Sequence[str]:
    """Return the columns that a report is grouped by, in the order of the table."""
    return list(dict.fromkeys(column for dimension in _COLUMNS if dimension in by for column in _COLUMNS[dimension]))


def columns(by: Sequence[Dimension]) -> Sequence[str]:
    """Return the columns of a statement's rows, before the sums."""
    return list(dict.fromkeys("day" if column in PERIODS else column for column in keys(by)))


def tables_of(by: Sequence[Dimension]) -> Sequence[Table]:
    """Return the tables that a report is read from, from coarse to fine."""
    return FROM_HOURS if Dimension.HOUR in by else FROM_DAYS


def period_of(by: Sequence[Dimension]) -> Callable[[int], object]:
    """Return the function that tells days apart as far as a report does: by their months, weeks or days (labels)."""
    wanted = [PERIODS.get(name, int) for name in keys(by) if name == "day" or name in PERIODS]
    return lambda label: [period(label) for period in wanted]


def statement(by: Sequence[Dimension], about: UsageFilter, ranges: Sequence[TimeRange]) -> tuple[str, list[object]]:
    """Return a SELECT for each range, one for open requests and one for refused ones; several may return a group.

    The SQL has one parameter more than are returned: the maximum number of rows.
    """
    names = columns(by)
    selects, parameters = [], []
    for table, begins, ends in (*ranges, (OPEN, about.start, about.end), (REFUSED, about.start, about.end)):
        conditions, values = where(
            {
                "start >= ?": given(begins or None),
                "start < ?": given(None if ends == END else ends),
                **_selection(about),
            }
        )
        selects.append(
            f"SELECT {', '.join([*names, _SUMS])} FROM {_FROM[table]} AS part"  # noqa: S608 - no data
            f" WHERE {conditions}{_grouping(names)}"
        )
        parameters += values
    return f"WITH {_OPEN_REQUESTS} {' UNION ALL '.join(selects)} LIMIT ?", parameters


def labelled_statements(
    database: Database, by: Sequence[Dimension], about: UsageFilter, ranges: Sequence[LabelledRange], limit: int
) -> Iterator[Statement]:
    """Return a SELECT for the ranges of each table, or several; their column `day` is the label of the ranges.

    Each returns a group once, and `limit` rows at most.
    """
    names = ["label" if name == "day" else name for name in columns(by)]
    conditions, values = where(_selection(about))
    for table, source in _FROM.items():
        of_table = [(each.label, each.start, each.end) for each in ranges if each.table == table]
        for rows in database.tables(["BIGINT"] * 3, of_table) if of_table else ():
            sql = (
                f"WITH {f'{_OPEN_REQUESTS}, ' if table == OPEN else ''}period (label, begins, ends) AS ({rows.sql})"  # noqa: S608
                f" SELECT {', '.join([*names, _SUMS])} FROM {database.in_ranges('period', source)}"
                f" WHERE {conditions}{_grouping(names)} LIMIT ?"
            )
            yield Statement(sql, [*rows.parameters, *values, limit])


def bounds(about: UsageFilter) -> Statement:
    """Return a SELECT of the first and the last start of each table that has requests of a filter, at any time."""
    conditions, values = where(_selection(about))
    tables = (Table.DAYS, OPEN, REFUSED)
    # Separate, as each is found at an end of an index.
    firsts_and_lasts = [
        f"(SELECT {which}(start) FROM {_FROM[table]} AS part WHERE {conditions})"  # noqa: S608 - no data
        for which in ("MIN", "MAX")
        for table in tables
    ]
    return Statement(f"WITH {_OPEN_REQUESTS} SELECT {', '.join(firsts_and_lasts)}", values * len(firsts_and_lasts))


def _selection(about: UsageFilter) -> Conditions:
    """Return the conditions of a filter but those of its time."""
    return {
        "project_id = ?": given(about.project_id),
        "token_id = ?": given(about.token_id),
        "model = ?": given(about.model),
        "endpoint = ?": given(about.endpoint),
    }


def _grouping(names: Sequence[str]) -> str:
    return f" GROUP BY {', '.join(names)}" if names else ""
