"""Slots: which requests hold those of a limit of requests at once, as rows of the store.

The number of the slots of a balance stands in the balance too: `used`.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from store.database import Database
from store.limits import balance
from store.limits.balance import Balance
from store.request import Opened


def take(database: Database, opened: Sequence[Opened]) -> None:
    """Note which slots requests hold; inside the transaction that counts them."""
    held = [(row.request_id, balance_id) for row in opened for balance_id in row.slots]
    for table in database.tables(["TEXT", "TEXT"], held):
        database.run(f"INSERT INTO slot (request_id, balance_id) {table.sql}", table.parameters)


def free(database: Database, request_ids: Sequence[str]) -> Sequence[str]:
    """Forget the slots of requests. Returns the balance of each, whose number is still to be lowered.

    Their balances are locked before: whoever removes a limit locks its balance, and then deletes its slots.
    """
    if not request_ids:
        return ()
    held = database.among("request_id", request_ids)
    rows = database.execute(f"DELETE FROM slot WHERE {held.sql} RETURNING balance_id", held.parameters)  # noqa: S608
    return [balance_id for (balance_id,) in rows]


def give_back_locked(database: Database, ended: Sequence[Opened], balances: Mapping[str, Balance]) -> None:
    """Free the slots of requests, and lower the numbers of balances that are locked; these are still to be written."""
    for balance_id in free(database, [row.request_id for row in ended]):
        lower(balances.get(balance_id))


def lower(of: Balance | None) -> None:
    """Lower the number of a balance by one slot; None is one that was removed with its limit."""
    if of is not None and of.used:
        of.used -= 1
        of.is_changed = True


def give_back(database: Database, ended: Sequence[Opened]) -> None:
    """Free the slots of requests, and lower the numbers of their balances; no other balance is locked with these."""
    _give_back(database, [row.request_id for row in ended if row.slots], {one for row in ended for one in row.slots})


def give_back_of_others(database: Database, request_ids: Sequence[str]) -> None:
    """Free the slots of requests of another process, as `give_back` does."""
    if request_ids:
        held = database.among("request_id", request_ids)
        rows = database.execute(f"SELECT DISTINCT balance_id FROM slot WHERE {held.sql}", held.parameters)  # noqa: S608
        _give_back(database, request_ids, {balance_id for (balance_id,) in rows})


def reclaim(database: Database) -> int:
    """Free the slots of requests that processes of an older version have settled. Returns their number.

    Raises StoreUnavailable.
    """
    with database.read():
        left = database.execute(
            "SELECT slot.request_id FROM slot LEFT JOIN request ON request.id = slot.request_id"
            " WHERE request.id IS NULL OR request.settled_at IS NOT NULL LIMIT 100"
        )
    if left:
        with database.write():
            give_back_of_others(database, [request_id for (request_id,) in left])
    return len(left)


def _give_back(database: Database, request_ids: Sequence[str], balance_ids: Collection[str]) -> None:
    if not balance_ids:
        return
    database.lock_rows(balance.lock(database.among("id", sorted(balance_ids))))
    for balance_id, number in sorted(Counter(free(database, request_ids)).items()):
        database.run("UPDATE balance SET used = used - ? WHERE id = ? AND used >= ?", (number, balance_id, number))
