"""The SQL of a usage report: one SELECT for each part of its time range, all with the same groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from store import clock
from store.clock import DAY, HOUR, NEVER
from store.database.sql import given, where
from store.ledger.rollups import Table
from store.ledger.usage import COLUMNS, Source
from store.reports.time_ranges import TimeRange
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

_OPEN = "open_request"
_REFUSED = "refusal"
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
    _OPEN: _OPEN,
    _REFUSED: f"(SELECT {_REFUSALS_AS_SUMS} FROM {_REFUSED})",  # noqa: S608 - no data
}

# Separate, as the few open requests have an index of their own; a condition on their time or token would scan all the
# others.
_WITH_OPEN = (
    f"WITH {_OPEN} AS MATERIALIZED"  # noqa: S608 - no data
    f" (SELECT {_AS_SUMS} FROM {Table.ROWS} WHERE settled_at IS NULL) "
)


def keys(by: Sequence[Dimension]) -> Sequence[str]:
    """Return the columns that a report is grouped by, in the order of the table."""
    return list(dict.fromkeys(column for dimension in _COLUMNS if dimension in by for column in _COLUMNS[dimension]))


def columns(by: Sequence[Dimension]) -> Sequence[str]:
    """Return the columns of a statement's rows, before the sums."""
    return list(dict.fromkeys("day" if column in PERIODS else column for column in keys(by)))


def statement(by: Sequence[Dimension], about: UsageFilter, ranges: Sequence[TimeRange]) -> tuple[str, list[object]]:
    """Return a SELECT for each range, one for open requests and one for refused ones; several may return a group.

    The SQL has one parameter more than are returned: the maximum number of rows.
    """
    names = columns(by)
    selects, parameters = [], []
    for table, begins, ends in (*ranges, (_OPEN, about.start, about.end), (_REFUSED, about.start, about.end)):
        conditions, values = where(
            {
                "start >= ?": given(begins or None),
                "start < ?": given(None if ends == END else ends),
                "project_id = ?": given(about.project_id),
                "token_id = ?": given(about.token_id),
                "model = ?": given(about.model),
                "endpoint = ?": given(about.endpoint),
            }
        )
        grouping = f" GROUP BY {', '.join(names)}" if names else ""
        selects.append(
            f"SELECT {', '.join([*names, _SUMS])} FROM {_FROM[table]} AS part WHERE {conditions}{grouping}"  # noqa: S608
        )
        parameters += values
    return f"{_WITH_OPEN}{' UNION ALL '.join(selects)} LIMIT ?", parameters
