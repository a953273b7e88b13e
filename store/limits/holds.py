"""Holds: the slots and amounts that limits hold for requests under way, as rows of the store (the table `slot`).

A limit of requests at once holds a slot for a request, a window of tokens or a budget the amount that is reserved for
it. The sum of what a limit holds stands in its balance too.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from store.database import Database
from store.limits import balance
from store.limits.balance import Balance
from store.limits.budget import Budget
from store.limits.window import Window
from store.request import Amounts, Opened

_TYPES = ("TEXT", "TEXT", "BIGINT")


class Hold(NamedTuple):
    """An amount that a balance holds for a request."""

    request_id: str
    balance_id: str
    amount: int


class Counted(NamedTuple):
    """The amounts that a settled request counts against the limits of tokens and money; or a change of these."""

    opened: Opened
    amounts: Amounts


def take(database: Database, held: Sequence[Hold]) -> None:
    """Note what balances hold for requests; inside the transaction that counts them."""
    for table in database.tables(_TYPES, held):
        database.run(f"INSERT INTO slot (request_id, balance_id, amount) {table.sql}", table.parameters)


def raise_by(database: Database, held: Sequence[Hold]) -> None:
    """Raise what balances hold for requests, or begin to hold it; a request may be raised several times."""
    sums: dict[tuple[str, str], int] = {}
    for request_id, balance_id, amount in held:
        sums[request_id, balance_id] = sums.get((request_id, balance_id), 0) + amount
    for table in database.tables(_TYPES, [(*key, amount) for key, amount in sums.items()]):
        database.run(
            f"INSERT INTO slot (request_id, balance_id, amount) {table.sql} ON CONFLICT (request_id, balance_id)"
            " DO UPDATE SET amount = slot.amount + excluded.amount",
            table.parameters,
        )


def free_slots(database: Database, ended: Sequence[Opened], balances: Mapping[str, Balance]) -> None:
    """Free the slots of requests that are over, though not settled; what they reserved stays.

    The balances are locked before, and are still to be written: those of both owners of each request.
    """
    slots = [f"{owner}/{balance.PARALLEL}" for row in ended for owner in (row.token_id, row.project_id)]
    of_balances = [each for each in slots if each in balances]
    if of_balances:
        _let_go(_delete(database, [row.request_id for row in ended], of_balances), balances, _began(ended))


def settle(database: Database, counted: Sequence[Counted], balances: Mapping[str, Balance]) -> None:
    """Replace what balances hold for requests by what these count.

    The balances are locked before, and are still to be written: those of both owners of each request. A limit that was
    set while a request ran holds nothing for it, and counts it; one that was removed is not among them.
    """
    take_back(database, [each.opened for each in counted], balances)
    owned: dict[str, list[Balance]] = {}
    for one in balances.values() if counted else ():
        owned.setdefault(one.owner_id, []).append(one)
    for opened, amounts in counted:
        for one in (*owned.get(opened.token_id, ()), *owned.get(opened.project_id, ())):
            _count(one, opened.started_at, amounts)


def settle_alone(database: Database, counted: Sequence[Counted], released: Sequence[Opened] = ()) -> None:
    """Settle, and free the slots of others, where a transaction changes no other balances than these.

    Raises StoreLocked where a limit was set at that time.
    """
    owners = owners_of([*(each.opened for each in counted), *released])
    if not owners:
        return
    locked = database.lock_rows(balance.lock(database.among("owner_id", owners)))
    found = balance.of_owners(database, owners, database.now())
    balances = {one.id: one for owned in found.values() for one in owned}
    balance.require_locked(balances, locked)
    settle(database, counted, balances)
    free_slots(database, released, balances)
    balance.write(database, balances.values())


def owners_of(requests: Iterable[Opened]) -> Sequence[str]:
    """Return the tokens and projects of requests, in the order of their ids."""
    return sorted({owner for row in requests for owner in (row.token_id, row.project_id)})


def take_back(database: Database, withdrawn: Sequence[Opened], balances: Mapping[str, Balance]) -> None:
    """Give back what balances hold for requests that were never admitted, with the same conditions as `settle`."""
    freeing = [row.request_id for row in withdrawn if row.has_holds]
    if freeing:
        _let_go(_delete(database, freeing), balances, _began(withdrawn))


def reclaim(database: Database) -> int:
    """Free what is held for requests that processes of an older version have settled. Returns the number of holds.

    Raises StoreUnavailable.
    """
    with database.read():
        left = database.execute(
            "SELECT slot.request_id, slot.balance_id, request.started_at FROM slot"
            " LEFT JOIN request ON request.id = slot.request_id"
            " WHERE request.id IS NULL OR request.settled_at IS NOT NULL LIMIT 100"
        )
    if left:
        with database.write():
            ids = {balance_id for _, balance_id, _ in left}
            began = {request_id: started_at or 0 for request_id, _, started_at in left}
            locked = database.lock_rows(balance.lock(database.among("id", sorted(ids))))
            balances = balance.read(database, ids, database.now())
            balance.require_locked(balances, locked)
            _let_go(_delete(database, began, ids), balances, began)
            balance.write(database, balances.values())
    return len(left)


def _began(requests: Iterable[Opened]) -> Mapping[str, int]:
    return {row.request_id: row.started_at for row in requests}


def _delete(database: Database, request_ids: Collection[str], balance_ids: Collection[str] | None = None) -> list[Hold]:
    """Delete holds, those of some balances alone if these are named, and return them."""
    held = database.among("request_id", sorted(request_ids))
    condition, values = held.sql, [*held.parameters]
    if balance_ids is not None:
        of_balances = database.among("balance_id", sorted(balance_ids))
        condition, values = f"{condition} AND {of_balances.sql}", [*values, *of_balances.parameters]
    rows = database.execute(f"DELETE FROM slot WHERE {condition} RETURNING request_id, balance_id, amount", values)  # noqa: S608
    return [Hold(*row) for row in rows]


def _let_go(held: Iterable[Hold], balances: Mapping[str, Balance], began: Mapping[str, int]) -> None:
    """Lower the sums of balances by what they held, for requests that began at these times."""
    for each in held:
        one = balances.get(each.balance_id)
        if one is None:
            continue
        one.is_changed = True
        match one.state:
            case Budget() as budget:
                budget.let_go(began[each.request_id], each.amount)
            case Window() as window:
                window.reserved = max(window.reserved - each.amount, 0)
            case None:
                one.used = max(one.used - each.amount, 0)


def _count(one: Balance, at: int, amounts: Amounts) -> None:
    if isinstance(one.state, Budget):
        one.state.settle(at, amounts.usd)
    elif isinstance(one.state, Window) and one.counted == "tokens":
        one.state.settle(amounts.tokens)
    else:
        return
    one.is_changed = True
