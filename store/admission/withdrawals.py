"""Taking back what was counted for a request that was then refused.

It happens where the store stopped answering in the middle of a COMMIT, and could not be asked in time what became of
it. The request did not go on, so its count goes, and its row; nobody else has one for it.
"""

from collections import Counter
from collections.abc import Sequence

from store.database import Database, Statement, locks
from store.ledger.ledger import Opened


def withdraw(database: Database, opened: Sequence[Opened]) -> None:
    """Take back requests, as far as they were counted; inside a writing transaction that does nothing else.

    The transaction that counts a request has its token locked: once that is free, it is known whether there is a row.
    """
    if not opened:
        return
    requests = database.among("id", [row.request_id for row in opened])
    _, rows = database.read_locked(
        [locks.tokens(database, [row.token_id for row in opened])],
        Statement(f"SELECT token_id FROM request WHERE settled_at IS NULL AND {requests.sql}", requests.parameters),  # noqa: S608
    )
    database.run(f"DELETE FROM request WHERE settled_at IS NULL AND {requests.sql}", requests.parameters)  # noqa: S608
    for token_id, number in sorted(Counter(token_id for (token_id,) in rows).items()):
        database.run("UPDATE token SET request_count = request_count - ? WHERE id = ?", (number, token_id))
