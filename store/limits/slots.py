"""Slots: which requests hold those of a limit of requests at once, as rows of the store.

The number of the slots of a balance stands in the balance too: `used`.
"""

from collections import Counter
from collections.abc import Sequence

from store.database import Database, Statement
from store.limits import balance
from store.limits.balance import Balance
from store.request import Opened


def take(database: Database, opened: Sequence[Opened]) -> None:
    """Note which slots requests hold; inside the transaction that counts them."""
    held = [(row.request_id, balance_id) for row in opened for balance_id in row.slots]
    for table in database.tables(["TEXT", "TEXT"], held):
        database.run(f"INSERT INTO slot (request_id, balance_id) {table.sql}", table.parameters)


def free(database: Database, request_ids: Sequence[str]) -> Sequence[str]:
    """Forget the slots of requests. Returns the balance of each, whose number is still to be lowered."""
    if not request_ids:
        return ()
    held = database.among("request_id", request_ids)
    rows = database.execute(f"DELETE FROM slot WHERE {held.sql} RETURNING balance_id", held.parameters)  # noqa: S608
    return [balance_id for (balance_id,) in rows]


def lower(of: Balance | None) -> None:
    """Lower the number of a balance by one slot; None is one that was removed with its limit."""
    if of is not None and of.used:
        of.used -= 1
        of.is_changed = True


def give_back(database: Database, freed: Sequence[str]) -> None:
    """Lower the numbers of balances by freed slots, which have one entry each; nothing else is locked after this."""
    numbers = sorted(Counter(freed).items())
    if numbers:
        nothing = Statement("owner_id = ''")
        database.lock_rows(balance.lock(nothing, [balance_id for balance_id, _ in numbers]))
    for balance_id, number in numbers:
        database.run("UPDATE balance SET used = used - ? WHERE id = ? AND used >= ?", (number, balance_id, number))


def reclaim(database: Database) -> int:
    """Free the slots of requests that processes of an older version have settled. Returns their number.

    In one transaction each, so that it holds no other slot while it waits. Raises StoreUnavailable.
    """
    with database.read():
        left = database.execute(
            "SELECT slot.request_id FROM slot LEFT JOIN request ON request.id = slot.request_id"
            " WHERE request.id IS NULL OR request.settled_at IS NOT NULL LIMIT 100"
        )
    for (request_id,) in left:
        with database.write():
            give_back(database, free(database, [request_id]))
    return len(left)
