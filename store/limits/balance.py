"""Balances: what has been used of each limit, as rows of the store.

A balance has the id `<owner>/<kind>/<period>`, where the owner is a token or a project and the kind `requests`,
`tokens` or `usd`; or `<owner>/parallel`. A transaction that changes balances has locked them before, all of them by one
statement in the order of their ids.
"""

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from store.database import Database, Row, Statement
from store.errors import StoreLocked
from store.limits.budget import USD, USD_PERIODS, Budget
from store.limits.window import PERIODS, Window

PARALLEL: Final = "parallel"
TOKENS: Final = "tokens"
_RESERVING = frozenset({USD, TOKENS})

PLACES: Mapping[str, int] = {
    kind: place
    for place, kind in enumerate(
        [
            *(f"{USD}/{period}" for period in USD_PERIODS),
            *(f"requests/{period}" for period in PERIODS),
            *(f"{TOKENS}/{period}" for period in PERIODS),
            PARALLEL,
        ]
    )
}
"""The kinds of limits, with their places in the order in which they are tested and shown."""

_FIELDS = "id || ' ' || maximum || ' ' || used || ' ' || reserved || ' ' || begun_at || ' ' || newest || ' ' || counts"
_CHANGING = {"id": "TEXT", **dict.fromkeys(("used", "reserved", "newest"), "BIGINT"), "counts": "TEXT"}
"""The columns of `Balance.row`, with their types."""

type State = Window | Budget | None
"""A window of requests or tokens, a budget; None for a limit of requests at once."""


@dataclass(slots=True)
class Balance:
    """One limit, with what has been used of it. `used` is the number of slots of a limit of requests at once."""

    id: str
    maximum: int
    used: int
    state: State
    begun_at: int = 0
    """The time when it was set: it holds nothing for requests that were admitted before."""
    is_changed: bool = False
    """True if it is to be written."""
    owner_id: str = field(init=False)
    """The token or project that it is a balance of."""
    kind: str = field(init=False)
    """Its kind: `requests/minute`, `usd/day`, `parallel`."""
    counted: str = field(init=False)
    """The unit that it counts: `requests`, `tokens`, `usd` or `parallel`."""
    period: str = field(init=False)
    """The name of the window's length, or of the budget's period; empty for requests at once."""
    reserves: bool = field(init=False)
    """True if it holds amounts that requests reserve: a window of tokens, or a budget."""

    def __post_init__(self) -> None:
        """Read the id."""
        self.owner_id, self.kind, self.counted, self.period, self.reserves = _parts(self.id)

    @classmethod
    def begin(cls, owner_id: str, kind: str, maximum: int, now: int, begun_at: int = 0) -> Self:
        """Begin a balance of a kind: `requests/minute`, `usd/day`, `parallel`."""
        counted, _, period = kind.partition("/")
        state: State = None
        if counted == USD:
            state = Budget.begin(period, maximum, now)
        elif counted != PARALLEL:
            state = Window.empty(PERIODS[period], maximum, now)
        return cls(f"{owner_id}/{kind}", maximum, 0, state, begun_at)

    @classmethod
    def read(cls, text: str, now: int) -> Self:
        """Read one line of `column`, as it is at a time."""
        balance_id, maximum, used, reserved, begun_at, newest, counts = text.split(" ")
        one = cls(balance_id, int(maximum), int(used), None, int(begun_at))
        if one.counted == USD:
            one.state = Budget(one.period, one.maximum, int(newest), one.used, int(reserved))
        elif counts:
            one.state = Window.read(PERIODS[one.period], one.maximum, int(newest), counts, int(reserved))
        if one.state is not None:
            one.state.advance(now)
        return one

    def is_for(self, at: int) -> bool:
        """Tell whether it holds something for a request of a time: since it was set, and of its present period."""
        state = self.state
        return at >= self.begun_at and (not isinstance(state, Budget) or state.is_of(at))

    def hold(self, amount: int) -> None:
        """Hold so much more for running requests, or less; not below 0."""
        state = self.state
        if state is not None:
            state.reserved = max(state.reserved + amount, 0)
            self.is_changed = True

    @property
    def row(self) -> tuple[str, int, int, int, str]:
        """The columns that change: the id, `used`, `reserved`, `newest` and `counts`."""
        state = self.state
        if state is None:
            return (self.id, self.used, 0, 0, "")
        if isinstance(state, Budget):
            return (self.id, state.settled, state.reserved, state.since, "")
        return (self.id, 0, state.reserved, state.newest, state.written)


@functools.lru_cache(4096)
def _parts(balance_id: str) -> tuple[str, str, str, str, bool]:
    """Return the owner of a balance, its kind, the unit that it counts, its period, and whether it holds amounts."""
    owner_id, _, kind = balance_id.partition("/")
    counted, _, period = kind.partition("/")
    return owner_id, kind, counted, period, counted in _RESERVING


def column(database: Database, owners: str, last: str) -> str:
    """Return the expression of the balances of owners (SQL of a list): lines with `;` between; NULL without any.

    `last` is the expression of a last line, which is evaluated where there are some.
    """
    lines = f"{database.joined(_FIELDS, ';')} || ';' || {last}"
    return f"(SELECT CASE WHEN COUNT(*) > 0 THEN {lines} END FROM balance WHERE owner_id IN ({owners}))"  # noqa: S608


def lock(*conditions: Statement) -> Statement:
    """Return the statement that locks the balances that meet one of some conditions, in the order of their ids."""
    named = " OR ".join(condition.sql for condition in conditions)
    values = [value for condition in conditions for value in condition.parameters]
    return Statement(f"SELECT id FROM balance WHERE {named} ORDER BY id", values)  # noqa: S608 - no data


def require_locked(ids: Collection[str], locked: Sequence[Row] | None) -> None:
    """Check that balances are among the rows that `lock` has locked; None stands for all.

    Raises StoreLocked where one was added after that: its lock would be out of order, so the transaction begins again.
    """
    if locked is not None and not {*ids} <= {balance_id for (balance_id,) in locked}:
        raise StoreLocked


def read(database: Database, ids: Collection[str], now: int) -> Mapping[str, Balance]:
    """Return balances by id, as they are at a time."""
    if not ids:
        return {}
    found = database.among("id", sorted(ids))
    rows = database.execute(f"SELECT {_FIELDS} FROM balance WHERE {found.sql}", found.parameters)  # noqa: S608 - no data
    balances = [Balance.read(text, now) for (text,) in rows]
    return {balance.id: balance for balance in balances}


def holding(database: Database, now: int) -> Sequence[Balance]:
    """Return the balances that hold amounts for running requests, as they are at a time."""
    rows = database.execute(f"SELECT {_FIELDS} FROM balance WHERE reserved > 0")  # noqa: S608 - no data
    return [Balance.read(text, now) for (text,) in rows]


def near_end(database: Database, now: int, percentage: int, limit: int) -> Sequence[Balance]:
    """Return budgets of which a percentage is used or reserved in their present period, the fullest first."""
    present = " OR ".join(
        f"(id LIKE '%/{USD}/{period}' AND newest >= {beginning(now)})" for period, beginning in USD_PERIODS.items()
    )
    rows = database.execute(
        # Not `used + reserved >= maximum * …`: no number is beyond 64 bits.
        f"SELECT {_FIELDS} FROM balance WHERE used + reserved >= maximum - maximum / 100 * ? AND ({present})"  # noqa: S608
        " ORDER BY (used + reserved) * 1.0 / maximum DESC, id LIMIT ?",
        (100 - percentage, limit),
    )
    return [Balance.read(text, now) for (text,) in rows]


def of_owners(database: Database, owner_ids: Collection[str], now: int) -> Mapping[str, Sequence[Balance]]:
    """Return the balances of tokens and projects by their ids, as they are at a time."""
    found: dict[str, list[Balance]] = {owner_id: [] for owner_id in owner_ids}
    if found:
        owners = database.among("owner_id", sorted(found))
        rows = database.execute(f"SELECT {_FIELDS} FROM balance WHERE {owners.sql}", owners.parameters)  # noqa: S608
        for (text,) in rows:
            balance = Balance.read(text, now)
            found[balance.owner_id].append(balance)
    return found


def write(database: Database, balances: Iterable[Balance]) -> None:
    """Write the balances that have changed; inside the transaction that has locked them."""
    rows = sorted([balance.row for balance in balances if balance.is_changed])
    database.update_rows("balance", _CHANGING, rows)
