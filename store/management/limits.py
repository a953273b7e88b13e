"""Limits of tokens and projects: sets, changes and removes them, and shows what has been used of each.

The columns of the owner, a token or a project, keep its limits as they were written. Beside them each limit has a
balance. Balances are locked before their owner; they are added and removed while it is locked.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

from store.database import Database, Statement
from store.database.models import Project, Token
from store.database.sql import storable
from store.database.transactions import transact
from store.limits import balance, rate_limits
from store.limits.balance import Balance
from store.limits.budget import MOST_SETTLED, Budget
from store.limits.rate_limits import BudgetLimit, Limits, RateLimit
from store.limits.standing import LimitStanding, standings

_ADD = "INSERT INTO balance (id, owner_id, maximum, begun_at, used, reserved, newest, counts)"
_TYPES = ("TEXT", "TEXT", "BIGINT", "BIGINT", "BIGINT", "BIGINT", "BIGINT", "TEXT")
_CHANGE = "UPDATE balance SET maximum = ? WHERE id = ?"

_SPENT = "SELECT COALESCE(SUM(cost + budget_beyond), 0) FROM daily_usage WHERE start >= ? AND {owner} = ?"
_LATEST = "SELECT COALESCE(MAX(start), 0) FROM daily_usage WHERE {owner} = ?"
_LATEST_RUNNING = "SELECT COALESCE(MAX(started_at), 0) FROM request WHERE settled_at IS NULL AND {owner} = ?"
_RUNNING = "SELECT id FROM request WHERE settled_at IS NULL AND {owner} = ? ORDER BY id"

type Owner = Literal["token_id", "project_id"]

_NONE = (None, rate_limits.written([]))

_TOGETHER = 1024
"""Maximum ids in one statement: SQLite limits parameters."""


def named(changes: Mapping[str, object]) -> Limits:
    """Return the limits that changes name."""
    return cast("Limits", {name: changes[name] for name in Limits.__annotations__ if name in changes})


def columns(limits: Limits) -> dict[str, object]:
    """Return the columns that limits are written to, of those that are named. Raises InvalidRequest."""
    rate_limits.check(limits)
    found: dict[str, object] = {}
    if "rate_limits" in limits:
        found["rate_limits"] = rate_limits.written(_in_one_order(limits["rate_limits"], RateLimit))
    if "budgets" in limits:
        found["budgets"] = rate_limits.written(_in_one_order(limits["budgets"], BudgetLimit))
    if "max_parallel_requests" in limits:
        found["max_parallel_requests"] = limits["max_parallel_requests"]
    return found


def of_row(row: Token | Project) -> Limits:
    """Return the limits of an owner as they were written."""
    return {
        "rate_limits": rate_limits.read_windows(row.rate_limits),
        "budgets": rate_limits.read_budgets(row.budgets),
        "max_parallel_requests": row.max_parallel_requests,
    }


def begin(database: Database, owner_id: str, limits: Limits) -> None:
    """Add the balances of a new owner; inside the transaction that adds it."""
    _add(database, _balances(owner_id, limits, database.now()))


def show(database: Database, rows: Iterable[Token | Project]) -> Mapping[str, Sequence[LimitStanding]]:
    """Return the limits of owners by their ids, with what has been used of them now.

    An owner without limits is omitted. Owners and balances are of the same moment inside `Database.snapshot`.
    """
    owners = [
        row.id for row in rows if row.rate_limits not in _NONE or row.budgets not in _NONE or row.max_parallel_requests
    ]
    found: dict[str, Sequence[LimitStanding]] = {}
    now = database.now() if owners else 0
    for some in itertools.batched(owners, _TOGETHER):
        balances = balance.of_owners(database, some, now)
        found.update((owner_id, standings(each)) for owner_id, each in balances.items())
    return found


def begin_counting(database: Database, owner: Owner, owner_id: str, limits: Limits) -> None:
    """Have budgets begin with what the ledger holds of their periods, and running requests count in new limits.

    After the transaction that has set the limits, outside of any. A request that was settled or admitted at that time,
    by a transaction that did not see the new limits yet, has to count in them once. So this waits until all those
    transactions have ended. Raises StoreUnavailable.
    """
    if not limits.get("budgets") and not any("tokens" in window for window in limits.get("rate_limits") or ()):
        return
    database.wait_for_writers()
    transact(database, lambda: _begin_counting(database, owner, owner_id))


def _begin_counting(database: Database, owner: Owner, owner_id: str) -> None:
    running = Statement(_RUNNING.format(owner=owner), (owner_id,))
    ids = [request_id for (request_id,) in database.lock_rows(running)]
    for some in itertools.batched(ids, _TOGETHER):
        marked = database.among("id", some)
        database.run(f"UPDATE request SET is_limited = TRUE WHERE {marked.sql}", marked.parameters)  # noqa: S608
    locked = database.lock_rows(balance.lock(of_owner(owner_id)))
    balances = balance.of_owners(database, [owner_id], database.now())[owner_id]
    balance.require_locked([one.id for one in balances], locked)
    for one in balances:
        _begin_budget(database, owner, one)
    balance.write(database, balances)


def _begin_budget(database: Database, owner: Owner, one: Balance) -> None:
    """Have a budget begin with what the ledger holds of its period."""
    if isinstance(one.state, Budget):
        ((latest,),) = database.execute(_LATEST.format(owner=owner), (one.owner_id,))
        one.state.advance(latest)  # the clock may have stepped back
        ((spent,),) = database.execute(_SPENT.format(owner=owner), (one.state.since, one.owner_id))
        one.state.settled, one.is_changed = min(int(spent), MOST_SETTLED), True


def of_owner(owner_id: str) -> Statement:
    """Return the condition for the balances of a token, or of a project alone."""
    return Statement("owner_id = ?", [storable(owner_id)])


def of_project(project_id: str) -> Statement:
    """Return the condition for the balances of a project and its tokens."""
    owners = "SELECT CAST(? AS TEXT) UNION ALL SELECT id FROM token WHERE project_id = ?"
    return Statement(f"owner_id IN ({owners})", [storable(project_id), storable(project_id)])


class LockedBalances:
    """The balances of some owners, locked by one statement. They are locked before the owners, and used after that.

    `owners` is a condition on `owner_id`. Each method raises StoreLocked where a balance was added before the owners
    were locked: its lock would be out of order, so the transaction has to begin again.
    """

    def __init__(self, database: Database, owners: Statement) -> None:
        self._database = database
        self._owners = owners
        self._locked = database.lock_rows(balance.lock(owners))

    def set(self, owner: Owner, owner_id: str, limits: Limits) -> None:
        """Make the balances of the only owner those of its limits. A balance that stays keeps its count.

        `begin_counting` is to follow. Until then a new budget lacks only what is being settled now.
        """
        present, wanted = self._maxima(), _balances(owner_id, limits, self._database.now())
        _remove(self._database, sorted(present.keys() - {each.id for each in wanted}))
        for each in wanted:
            if present.get(each.id, each.maximum) != each.maximum:
                self._database.run(_CHANGE, (each.maximum, each.id))
        added = [each for each in wanted if each.id not in present]
        begun_at = self._after_running(owner, owner_id) if any(each.reserves for each in added) else 0
        for each in added:
            each.begun_at = begun_at
            _begin_budget(self._database, owner, each)
        _add(self._database, added)

    def remove(self) -> None:
        """Delete the balances, and the slots that requests hold of them."""
        _remove(self._database, sorted(self._maxima()))

    def _after_running(self, owner: Owner, owner_id: str) -> int:
        """Return the present; after a clock that stepped back, a time behind the admissions of running requests."""
        ((latest,),) = self._database.execute(_LATEST_RUNNING.format(owner=owner), (owner_id,))
        return max(self._database.now(), int(latest) + 1)

    def _maxima(self) -> Mapping[str, int]:
        select = f"SELECT id, maximum FROM balance WHERE {self._owners.sql}"  # noqa: S608 - no data
        found: dict[str, int] = dict(self._database.execute(select, self._owners.parameters))
        balance.require_locked(found, self._locked)
        return found


def _in_one_order(
    entries: Sequence[Mapping[str, object]] | None, fields: type
) -> Sequence[Mapping[str, object]] | None:
    """Put the fields of each entry into the same order: the order in which they were sent is no change."""
    order = fields.__annotations__
    return entries and [{name: entry[name] for name in order if name in entry} for entry in entries]


def _balances(owner_id: str, limits: Limits, now: int) -> Sequence[Balance]:
    return [Balance.begin(owner_id, kind, maximum, now) for kind, maximum in rate_limits.maxima(limits).items()]


def _add(database: Database, balances: Iterable[Balance]) -> None:
    rows = []
    for each in balances:
        balance_id, *changing = each.row
        rows.append((balance_id, each.owner_id, each.maximum, each.begun_at, *changing))
    for table in database.tables(_TYPES, rows):
        database.run(f"{_ADD} {table.sql}", table.parameters)


def _remove(database: Database, ids: Sequence[str]) -> None:
    for some in itertools.batched(ids, _TOGETHER):
        held, removed = database.among("balance_id", some), database.among("id", some)
        database.run(f"DELETE FROM slot WHERE {held.sql}", held.parameters)  # noqa: S608 - no data
        database.run(f"DELETE FROM balance WHERE {removed.sql}", removed.parameters)  # noqa: S608 - no data
