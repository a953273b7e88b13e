"""Slots: which requests hold those of a limit of requests at once, as rows of the store.

The number of the slots of a balance stands in the balance too: `used`.
"""

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


def free(database: Database, request_ids: Sequence[str], balances: Mapping[str, Balance]) -> None:
    """Forget the slots of requests, and lower the numbers of their balances, which are still to be written.

    The balances are locked before: whoever removes a limit locks its balance, and then deletes its slots. One that was
    removed is not among them.
    """
    if not request_ids:
        return
    held = database.among("request_id", request_ids)
    rows = database.execute(f"DELETE FROM slot WHERE {held.sql} RETURNING balance_id", held.parameters)  # noqa: S608
    for one in [balances[balance_id] for (balance_id,) in rows if balance_id in balances]:
        one.used = max(one.used - 1, 0)
        one.is_changed = True


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
    balances = balance.read(database, balance_ids, 0)  # at no time: those of slots have no window
    free(database, request_ids, balances)
    balance.write(database, balances.values())
