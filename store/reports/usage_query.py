"""The SQL of a usage report: one SELECT for each part of its time, grouped alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from store.clock import DAY, HOUR, NEVER
from store.database.sql import given, where
from store.ledger.rollups import Table
from store.ledger.usage import COLUMNS, Source
from store.reports.time_ranges import Stretch
from store.reports.usage_totals import UsageSums

END = (NEVER // DAY + 1) * DAY
"""The end of a time without one: a midnight, so that no edge is looked at."""

COST_PART = 1_000_000
"""The parts of a cost above and below this are added up apart, as SQLite's sums end at 64 bits."""


class Dimension(StrEnum):
    """What usage can be grouped by."""

    DAY = "day"
    HOUR = "hour"
    PROJECT = "project"
    TOKEN = "token"  # noqa: S105 - a word
    MODEL = "model"
    ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """What a report is about: microseconds from `start` until just before `end`, and ids; None leaves it open.

    `model` is the one that answered, and the empty text where none is known.
    """

    start: int | None = None
    end: int | None = None
    project_id: str | None = None
    token_id: str | None = None
    model: str | None = None
    endpoint: str | None = None


_KEYS: dict[Dimension, Sequence[str]] = {
    Dimension.DAY: ["day"],
    Dimension.HOUR: ["hour"],
    Dimension.PROJECT: ["project_id"],
    Dimension.TOKEN: ["project_id", "token_id"],
    Dimension.MODEL: ["model"],
    Dimension.ENDPOINT: ["endpoint"],
}
"""The columns of each; a token has one project, so that both together make no more groups."""

_ADDED = [name for name in UsageSums._fields if name != "cost"]
_SUMS = ", ".join(
    [
        *(f"SUM({name})" for name in _ADDED),
        f"SUM(cost / {COST_PART})",
        f"SUM(cost - cost / {COST_PART} * {COST_PART})",
    ]
)

_OPEN = "open_request"
_REFUSED = "refusal"
_KNOWN = ("request_bytes", "response_bytes", *COLUMNS, "cost")


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
        *(f"COALESCE({name}, 0) AS {name}" for name in _KNOWN),
    ]
)
"""A row of the ledger as if it was the sum of itself."""

_REFUSALS_AS_SUMS = ", ".join(
    [
        f"started_at AS start, started_at / {DAY} * {DAY} AS day, started_at / {HOUR} * {HOUR} AS hour",
        "project_id, token_id, '' AS model, endpoint, repeats AS refused",
        *(f"0 AS {name}" for name in UsageSums._fields if name != "refused"),
    ]
)
"""Refusals, with the same columns."""

# A sum's own start is its day or hour as it is, not computed: SQLite groups by that in the order of the primary key.
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

# Apart, as the few requests that are open are found by an index of their own; a condition on their time or token would
# lead to all the others.
_WITH_OPEN = (
    f"WITH {_OPEN} AS MATERIALIZED"  # noqa: S608 - no data
    f" (SELECT {_AS_SUMS} FROM {Table.ROWS} WHERE settled_at IS NULL) "
)


def keys(by: Sequence[Dimension]) -> Sequence[str]:
    """Return the columns that a report is grouped by, in an order of their own."""
    return list(dict.fromkeys(column for dimension in _KEYS if dimension in by for column in _KEYS[dimension]))


def statement(by: Sequence[Dimension], about: UsageFilter, stretches: Sequence[Stretch]) -> tuple[str, list[object]]:
    """Write a SELECT for each stretch, one for open requests and one for refused ones; a group may come from several.

    Returns SQL that wants one parameter more: how many rows there may be.
    """
    columns = keys(by)
    selects, parameters = [], []
    for table, begins, ends in (*stretches, (_OPEN, about.start, about.end), (_REFUSED, about.start, about.end)):
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
        grouping = f" GROUP BY {', '.join(columns)}" if columns else ""
        selects.append(
            f"SELECT {', '.join([*columns, _SUMS])} FROM {_FROM[table]} AS part WHERE {conditions}{grouping}"  # noqa: S608
        )
        parameters += values
    return f"{_WITH_OPEN}{' UNION ALL '.join(selects)} LIMIT ?", parameters
