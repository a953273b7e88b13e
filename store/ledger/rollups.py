"""Rollups: the sums of the ledger by hour and by day, updated in the transaction that settles a row."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Self

from store.clock import DAY, HOUR
from store.database import Database
from store.ledger.usage import BESIDE_TOKENS, COLUMNS


class Table(StrEnum):
    """The tables of the ledger that hold usage, from coarse to fine."""

    DAYS = "daily_usage"
    HOURS = "hourly_usage"
    ROWS = "request"


TABLES: Mapping[Table, int] = {Table.HOURS: HOUR, Table.DAYS: DAY}
"""The tables of sums, and the microseconds that each of their rows covers; each a multiple of the one before."""

KEY = ("start", "project_id", "token_id", "model", "endpoint")
AMOUNTS = (
    *("requests", "observed", "estimated", "unpriced", "minimum", "request_bytes", "response_bytes"),
    *COLUMNS,
    *("cost", "told_cost", "cost_where_told", "budget_beyond"),
)
"""The columns that are summed up: those of `models.Sums` beside its key."""

RARE = ("minimum", *BESIDE_TOKENS, "told_cost", "cost_where_told", "budget_beyond")
"""The amounts that few rows have: columns whose default is 0. Statements leave them out where no row has any."""

OTHER_MODELS = "{other}"
"""The model of sums that stand for several: some upstreams echo any name that a client makes up."""

MAX_SUM = 2**62
"""Upper bound of a sum: beyond 64 bits SQLite would go on with floating point."""


class Addend(NamedTuple):
    """The amounts that one row adds, with the time that its request began (microseconds) and the rest of the key."""

    started_at: int
    key: tuple[str, str, str, str]
    amounts: Sequence[int]

    @property
    def model(self) -> str:
        """The model under which the row is summed up."""
        return self.key[KEY.index("model") - 1]

    def negated(self) -> Self:
        """Return what undoes this one."""
        return self._replace(amounts=[-amount for amount in self.amounts])


def add(database: Database, addends: Sequence[Addend]) -> None:
    """Add to the sums; inside a writing transaction. Rows are locked in the order of their keys (see `locks`)."""
    for table, width in TABLES.items():
        addends = _summed_up(addends, width)
        names = AMOUNTS if any(any(_rare(addend.amounts)) for addend in addends) else _USUAL
        insert, add_up, pick = _adding(table, names)
        rows = [(start, *key, *(min(amount, MAX_SUM) for amount in pick(amounts))) for start, key, amounts in addends]
        for added in database.tables(_TYPES[: len(KEY) + len(names)], rows):
            database.run(f"{insert} {added.sql} {add_up}", added.parameters)
        for start, key, amounts in addends:
            if amounts[0] < 0:
                database.run(_delete_empty(table), (start, *key))


def _summed_up(addends: Sequence[Addend], width: int) -> Sequence[Addend]:
    """Return the sums of addends with the same key, by periods of `width`, in the order of period and key."""
    groups: dict[tuple[int, tuple[str, str, str, str]], list[Sequence[int]]] = {}
    for started_at, key, amounts in addends:
        groups.setdefault((started_at // width * width, key), []).append(amounts)
    return [Addend(start, key, [*map(sum, zip(*groups[start, key], strict=True))]) for start, key in sorted(groups)]


@functools.cache
def _delete_empty(table: str) -> str:
    conditions = " AND ".join(f"{name} = ?" for name in KEY)
    return f"DELETE FROM {table} WHERE {conditions} AND requests = 0"  # noqa: S608 - no data


_TYPES = ["BIGINT", *["TEXT"] * (len(KEY) - 1), *["BIGINT"] * len(AMOUNTS)]
_USUAL = tuple(name for name in AMOUNTS if name not in RARE)
_rare = operator.itemgetter(*[AMOUNTS.index(name) for name in RARE])


@functools.cache
def _adding(table: Table, names: Sequence[str]) -> tuple[str, str, Callable[[Sequence[int]], Sequence[int]]]:
    """Return the statement that adds some amounts, as it stands before and behind the rows; and what picks them."""
    added = ", ".join(
        f"{name} = CASE WHEN {table}.{name} > {MAX_SUM} - excluded.{name} THEN {MAX_SUM}"
        f" ELSE {table}.{name} + excluded.{name} END"
        for name in names
    )
    return (
        f"INSERT INTO {table} ({', '.join((*KEY, *names))})",
        f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {added}",
        operator.itemgetter(*[AMOUNTS.index(name) for name in names]),
    )
