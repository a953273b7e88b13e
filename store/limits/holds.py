"""Holds: what limits hold for requests under way, and what these count once they are settled.

A limit of requests at once holds a slot for a request, a row of the table `slot`. A window of tokens or a budget holds
the amount that the request's row has reserved, if the limit was set before the request was admitted. The sum of what a
limit holds stands in its balance.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from store.database import Database
from store.limits import balance
from store.limits.balance import Balance
from store.limits.budget import Budget
from store.limits.window import Window
from store.request import Amounts, Opened

_TYPES = ("TEXT", "TEXT")
_LEFT = (
    "SELECT DISTINCT slot.request_id FROM slot LEFT JOIN request ON request.id = slot.request_id"
    " WHERE request.id IS NULL OR request.settled_at IS NOT NULL LIMIT 100"
)


class Slot(NamedTuple):
    """A slot that a balance holds for a request."""

    request_id: str
    balance_id: str


class Counted(NamedTuple):
    """The amounts that a settled request counts against limits of tokens and money, and those that it gives back."""

    opened: Opened
    amounts: Amounts
    held: Amounts = Amounts()


def take(database: Database, slots: Sequence[Slot]) -> None:
    """Note the slots that balances hold for requests; inside the transaction that counts them."""
    for table in database.tables(_TYPES, slots):
        database.run(f"INSERT INTO slot (request_id, balance_id) {table.sql}", table.parameters)


def free_slots(database: Database, ended: Iterable[Opened], balances: Mapping[str, Balance]) -> None:
    """Free the slots of requests that are over; what they have reserved stays.

    The balances are locked before, and are still to be written: those of both owners of each request.
    """
    _free(database, [row.request_id for row in ended if row.has_slots], balances)


def settle(database: Database, counted: Sequence[Counted], balances: Mapping[str, Balance]) -> None:
    """Replace what balances hold for requests by what these count.

    The balances are locked before, and are still to be written: those of both owners of each request. A limit that was
    set while a request ran holds nothing for it, and counts it; one that was removed is not among them.
    """
    free_slots(database, [each.opened for each in counted], balances)
    owned = _by_owner(balances.values()) if counted else {}
    for of_token in _by_token(counted):
        opened = of_token[0].opened
        total = _sum(of_token)
        for one in (*owned.get(opened.token_id, ()), *owned.get(opened.project_id, ())):
            _settle(one, of_token, total)


def settle_alone(database: Database, counted: Sequence[Counted], released: Sequence[Opened] = ()) -> None:
    """Settle, and free the slots of others, where a transaction changes no other balances than these.

    Raises StoreLocked where a limit was set at that time.
    """
    owners = owners_of([*(each.opened for each in counted), *released])
    if not owners:
        return
    balances = _locked(database, owners)
    settle(database, counted, balances)
    free_slots(database, released, balances)
    balance.write(database, balances.values())


def owners_of(requests: Iterable[Opened]) -> Sequence[str]:
    """Return the tokens and projects of requests, in the order of their ids."""
    return sorted({owner for row in requests for owner in (row.token_id, row.project_id)})


def take_back(database: Database, withdrawn: Sequence[Opened], balances: Mapping[str, Balance]) -> None:
    """Give back what balances hold for requests that were never admitted, with the same conditions as `settle`."""
    free_slots(database, withdrawn, balances)
    owned = _by_owner(balances.values())
    for row in withdrawn:
        for one in (*owned.get(row.token_id, ()), *owned.get(row.project_id, ())):
            if row.started_at >= one.begun_at:
                one.hold(-_held(one, row.started_at, row.reserved))


def reclaim(database: Database) -> int:
    """Free the slots of requests that processes of an older version have settled. Returns the number of requests.

    Raises StoreUnavailable.
    """
    with database.read():
        left = [request_id for (request_id,) in database.execute(_LEFT)]
    if left:
        with database.write():
            of_requests = database.among("request_id", left)
            select = f"SELECT DISTINCT balance_id FROM slot WHERE {of_requests.sql}"  # noqa: S608 - no data
            ids = {balance_id for (balance_id,) in database.execute(select, of_requests.parameters)}
            locked = database.lock_rows(balance.lock(database.among("id", sorted(ids))))
            balances = balance.read(database, ids, database.now())
            balance.require_locked(balances, locked)
            _free(database, left, balances)
            balance.write(database, balances.values())
    return len(left)


def recount(database: Database) -> int:
    """Correct what balances hold for requests that processes of an older version have settled.

    Returns the number of tokens and projects whose balances were wrong.

    Raises StoreUnavailable.
    """
    with database.snapshot():
        holding = balance.holding(database, database.now())
        owners = {one.owner_id for one, _ in _miscounted(database, holding)} if holding else set()
    for owner_id in sorted(owners):
        with database.write():
            balances = _locked(database, [owner_id])
            for one, missing in _miscounted(database, balances.values()):
                one.hold(missing)
            balance.write(database, balances.values())
    return len(owners)


def _by_owner(balances: Iterable[Balance]) -> Mapping[str, Sequence[Balance]]:
    """Return the balances that reserve amounts, by their owners."""
    owned: dict[str, list[Balance]] = {}
    for one in balances:
        if one.reserves:
            owned.setdefault(one.owner_id, []).append(one)
    return owned


def _locked(database: Database, owners: Sequence[str]) -> Mapping[str, Balance]:
    locked = database.lock_rows(balance.lock(database.among("owner_id", owners)))
    found = balance.of_owners(database, owners, database.now())
    balances = {one.id: one for owned in found.values() for one in owned}
    balance.require_locked(balances, locked)
    return balances


def _free(database: Database, request_ids: Collection[str], balances: Mapping[str, Balance]) -> None:
    """Free all slots of requests. That of a limit which was removed is only deleted."""
    if not request_ids:
        return
    of_requests = database.among("request_id", sorted(request_ids))
    delete = f"DELETE FROM slot WHERE {of_requests.sql} RETURNING balance_id"  # noqa: S608 - no data
    for (balance_id,) in database.execute(delete, of_requests.parameters):
        if one := balances.get(balance_id):
            one.used, one.is_changed = max(one.used - 1, 0), True


def _miscounted(database: Database, balances: Iterable[Balance]) -> Sequence[tuple[Balance, int]]:
    """Return the balances that do not hold what the rows of running requests have reserved, and what is missing."""
    rows = database.execute(
        "SELECT token_id, project_id, started_at, reserved_tokens, reserved_usd FROM request"
        " WHERE settled_at IS NULL AND reserved_tokens IS NOT NULL"
    )
    found = []
    for one in balances:
        held = sum(
            _held(one, at, Amounts(tokens, usd))
            for token_id, project_id, at, tokens, usd in rows
            if one.owner_id in {token_id, project_id}
        )
        if one.state is not None and one.state.reserved != held:
            found.append((one, held - one.state.reserved))
    return found


class _Sum(NamedTuple):
    """The sum of several requests of a token, with the times of the first and the last admission."""

    first: int
    last: int
    amounts: Amounts
    held: Amounts


def _by_token(counted: Iterable[Counted]) -> Iterable[Sequence[Counted]]:
    """Return what is counted, token by token."""
    found: dict[tuple[str, str], list[Counted]] = {}
    for each in counted:
        found.setdefault((each.opened.token_id, each.opened.project_id), []).append(each)
    return found.values()


def _sum(counted: Sequence[Counted]) -> _Sum | None:
    """Add up what requests count; None where one counts less than before: it stops at 0."""
    tokens = usd = held_tokens = held_usd = 0
    for _, amounts, held in counted:
        if amounts.tokens < 0 or amounts.usd < 0:
            return None
        tokens += amounts.tokens
        usd += amounts.usd
        held_tokens += held.tokens
        held_usd += held.usd
    times = [each.opened.started_at for each in counted]
    return _Sum(min(times), max(times), Amounts(tokens, usd), Amounts(held_tokens, held_usd))


def _settle(one: Balance, counted: Sequence[Counted], total: _Sum | None) -> None:
    """Settle requests of a token in a balance: as a sum, where it holds what all of them have reserved."""
    if total is not None and one.is_for(total.first) and (total.first == total.last or one.is_for(total.last)):
        _settle_sum(one, total)
        return
    for opened, amounts, held in counted:
        one.hold(-_held(one, opened.started_at, held))
        _count(one, opened.started_at, amounts)


def _settle_sum(one: Balance, total: _Sum) -> None:
    """Settle requests that the balance is for: of the present period, and admitted since it was set."""
    state = one.state
    if isinstance(state, Budget):
        one.hold(-total.held.usd)
        state.add(total.amounts.usd)
    elif isinstance(state, Window):
        one.hold(-total.held.tokens)
        state.settle(total.amounts.tokens)


def _held(one: Balance, at: int, reserved: Amounts) -> int:
    """Return what a balance holds for a request that was admitted at a time, and has reserved these amounts."""
    match one.state:
        case Budget() as budget if at >= one.begun_at:
            return reserved.usd if budget.is_of(at) else 0
        case Window() if at >= one.begun_at and one.counted == balance.TOKENS:
            return reserved.tokens
    return 0


def _count(one: Balance, at: int, amounts: Amounts) -> None:
    """Count what a request that was admitted at a time has used."""
    match one.state:
        case Budget() as budget:
            budget.settle(at, amounts.usd)
        case Window() as window:
            window.settle(amounts.tokens)
    one.is_changed = True
