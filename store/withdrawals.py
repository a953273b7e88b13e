"""Taking back what was counted for a request that was then refused.

It happens where the store stopped answering in the middle of a COMMIT, and could not be asked in time what became of
it. The request did not go on, so its count goes, and its row; nobody else has one for it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from store import locks
from store.database import Database, Statement


class Withdrawal(NamedTuple):
    """A request that must not have been counted."""

    request_id: str
    token_id: str


def withdraw(database: Database, withdrawals: Sequence[Withdrawal]) -> None:
    """Take back requests, as far as they were counted; inside a writing transaction.

    The transaction that counts a request has its token locked: once that is free, it is known whether there is a row.
    """
    if not withdrawals:
        return
    requests = database.among("id", [withdrawal.request_id for withdrawal in withdrawals])
    _, rows = database.read_locked(
        [locks.tokens(database, [withdrawal.token_id for withdrawal in withdrawals])],
        Statement(f"SELECT token_id FROM request WHERE settled_at IS NULL AND {requests.sql}", requests.parameters),  # noqa: S608
    )
    database.run(f"DELETE FROM request WHERE settled_at IS NULL AND {requests.sql}", requests.parameters)  # noqa: S608
    for token_id, number in Counter(token_id for (token_id,) in rows).items():
        database.run("UPDATE token SET request_count = request_count - ? WHERE id = ?", (number, token_id))
