"""The overview: the sums of a period and of the one before, and what cost most, made by the database."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from store import clock
from store.clock import DAY, HOUR
from store.database import Row
from store.ledger.rollups import Table
from store.management import names
from store.reports.renewed import Renewed
from store.store import Store

PERIODS = (1, 7, 30)
"""Days of the periods: today, and as many days with today."""

TOP = 5
"""Projects, tokens and models that are shown."""

UNPRICED_DAYS = 30
"""Days, with today, of which requests without a price are told."""

MOST_UNPRICED = 20
"""Projects and models that are told."""

_PART = 1_000_000
"""Costs above and below this are added up separately, as SQLite's sums have 64 bits."""

_COST = f"SUM(cost / {_PART}) AS high, SUM(cost - cost / {_PART} * {_PART}) AS low"
_SUMS = f"SUM(requests) AS requests, SUM(input_tokens) AS input_tokens, SUM(output_tokens) AS output_tokens, {_COST}"
_SUMS_OF_PARTS = "SUM(requests), SUM(input_tokens), SUM(output_tokens), SUM(high), SUM(low)"
_MOST_FIRST = "ORDER BY SUM(high) DESC, SUM(low) DESC, SUM(requests) DESC"

_STEPS_AND_PROJECTS = (
    "WITH part AS MATERIALIZED"  # noqa: S608 - no data
    f" (SELECT start, project_id, {_SUMS} FROM {{table}} WHERE start >= ? GROUP BY start, project_id)"
    f" SELECT start, '', {_SUMS_OF_PARTS} FROM part GROUP BY start UNION ALL SELECT * FROM"
    " (SELECT -1, project_id, SUM(requests), 0, 0, SUM(high), SUM(low) FROM part GROUP BY project_id"
    f" {_MOST_FIRST} LIMIT ?) AS projects"
)
# None of these groups directly by columns with an index of their own: SQLite would read the whole table in its order.
_MODELS = (
    f"SELECT model, SUM(requests), {_COST} FROM daily_usage WHERE start >= ? GROUP BY model"  # noqa: S608 - no data
    f" ORDER BY SUM(cost / {_PART}) DESC, SUM(requests) DESC LIMIT ?"
)
_TOKENS = (
    "SELECT token_id, SUM(requests), SUM(high), SUM(low) FROM ("  # noqa: S608 - no data
    f"SELECT SUM(requests) AS requests, token_id, {_COST} FROM daily_usage WHERE start >= ?"
    " GROUP BY start, project_id, token_id"
    f") AS part GROUP BY token_id {_MOST_FIRST} LIMIT ?"
)
_BETWEEN = f"SELECT {_SUMS} FROM {{table}} WHERE start >= ? AND start < ?"  # noqa: S608 - no data
_REFUSED = (
    "SELECT started_at / {width} * {width}, SUM(repeats) FROM refusal WHERE started_at >= ? AND started_at < ?"
    " GROUP BY started_at / {width} * {width}"
)
_UNPRICED = (
    "WITH part AS MATERIALIZED"
    " (SELECT project_id, model, unpriced FROM daily_usage WHERE start >= ? AND unpriced > 0)"
    " SELECT project_id, model, SUM(unpriced) FROM part GROUP BY project_id, model"
    " ORDER BY SUM(unpriced) DESC, model LIMIT ?"
)


class Sums(NamedTuple):
    """The sums of settled requests, and of refused ones. The cost is in `usage.COST_UNIT`s."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    refused: int = 0

    @property
    def tokens(self) -> int:
        """The tokens of input and output."""
        return self.input_tokens + self.output_tokens


class Top(NamedTuple):
    """A project, a token or a model, with its settled requests and their cost. A name is None where there is none."""

    id: str
    name: str | None
    requests: int
    cost: int


class Unpriced(NamedTuple):
    """Requests whose usage is known, and whose model has no price."""

    project_id: str
    project_name: str | None
    model: str
    requests: int


@dataclass(frozen=True, slots=True)
class Period:
    """The sums of some days until now, by hours (one day) or days, and what cost most.

    `before` are the sums of as many days before, until the same hour of the day; `as_of` is when all were made. Times
    are microseconds.
    """

    days: int
    as_of: int
    width: int
    steps: Mapping[int, Sums]
    total: Sums
    before: Sums
    projects: Sequence[Top]
    tokens: Sequence[Top]
    models: Sequence[Top]


class Overview:
    """Reads the overview. Each method raises StoreUnavailable when the store does not answer.

    `monotonic` returns seconds that never go back.
    """

    def __init__(self, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = store.database
        self._periods = {days: Renewed(functools.partial(self._read, days), monotonic) for days in PERIODS}
        self._unpriced = Renewed(self._read_unpriced, monotonic)

    @property
    def values(self) -> Sequence[Renewed[Any]]:
        """All that may take long to read, for a `Renewal`."""
        return [*self._periods.values(), self._unpriced]

    def period(self, days: int) -> Period:
        """Return the sums of one of PERIODS."""
        return self._periods[days].get()

    def unpriced(self) -> Sequence[Unpriced]:
        """Return the models whose requests have no price in UNPRICED_DAYS, by projects, most requests first."""
        return self._unpriced.get()

    def _read_unpriced(self) -> Sequence[Unpriced]:
        since = _first(self._database.now(), UNPRICED_DAYS)
        with self._database.snapshot():
            found = self._database.execute(_UNPRICED, (since, MOST_UNPRICED))
            projects = names.of_projects(self._database, {row[0] for row in found})
        return [Unpriced(project, projects.get(project), model, int(count)) for project, model, count in found]

    def _read(self, days: int) -> Period:
        with self._database.snapshot():
            now = self._database.now()
            start, width, table = _first(now, days), *((HOUR, Table.HOURS) if days == 1 else (DAY, Table.DAYS))
            rows = self._database.execute(_STEPS_AND_PROJECTS.format(table=table), (start, TOP))
            refused = self._refused(start, clock.NEVER, width)
            steps = {int(row[0]): _sums(row[2:]) for row in rows if row[0] >= 0}
            steps = {
                at: steps.get(at, Sums())._replace(refused=refused.get(at, 0))
                for at in range(start, max([now, *steps, *refused]) + 1, width)
            }
            projects = [(row[1], row[2], *row[-2:]) for row in rows if row[0] < 0]
            tokens = self._database.execute(_TOKENS, (start, TOP))
            return Period(
                days,
                now,
                width,
                steps,
                _total([*steps.values()]),
                self._before(now, days),
                _tops(projects, names.of_projects(self._database, {row[0] for row in projects})),
                _tops(tokens, names.of_tokens(self._database, {row[0] for row in tokens})),
                _tops(self._database.execute(_MODELS, (start, TOP)), {}),
            )

    def _before(self, now: int, days: int) -> Sums:
        """Return the sums of the period before, until the hour of the day that it is now."""
        first, end = _first(now, days) - days * DAY, now // HOUR * HOUR - days * DAY
        last_day = end // DAY * DAY
        whole = self._database.execute(_BETWEEN.format(table=Table.DAYS), (first, last_day))
        rest = self._database.execute(_BETWEEN.format(table=Table.HOURS), (last_day, end))
        refused = self._refused(first, now - days * DAY, DAY)
        return _total([_sums(row) for row in (*whole, *rest)])._replace(refused=sum(refused.values()))

    def _refused(self, start: int, end: int, width: int) -> Mapping[int, int]:
        rows = self._database.execute(_REFUSED.format(width=width), (start, end))
        return {int(at): int(repeats) for at, repeats in rows}


def _first(now: int, days: int) -> int:
    """Return the beginning of the first of some days until now."""
    return now // DAY * DAY - (days - 1) * DAY


def _sums(numbers: Row) -> Sums:
    requests, tokens_in, tokens_out, high, low = [int(number or 0) for number in numbers]  # SUM is NULL without rows
    return Sums(requests, tokens_in, tokens_out, high * _PART + low)


def _total(parts: Sequence[Sums]) -> Sums:
    return Sums(*map(sum, zip(Sums(), *parts, strict=True)))


def _tops(rows: Sequence[Row], shown: Mapping[str, str]) -> Sequence[Top]:
    return [Top(key, shown.get(key), int(requests), int(high) * _PART + int(low)) for key, requests, high, low in rows]
