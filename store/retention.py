"""What has been kept for long enough goes: rows of the ledger and hourly sums. Daily sums stay.

Each step is one small transaction, so that no request waits for long.
"""

import threading

from store.clock import DAY
from store.database import Database, Statement
from store.sums import KEY

CHUNK = 200
"""Rows that are deleted in one transaction at most."""

PAUSE = 0.05
"""Seconds between two transactions, in which others write."""

_OLD_ROWS = "SELECT id FROM request WHERE started_at < ? AND settled_at IS NOT NULL ORDER BY started_at, id LIMIT ?"
_OLDEST_HOUR = (
    "SELECT start FROM hourly_usage WHERE start = (SELECT MIN(start) FROM hourly_usage WHERE start < ?)"  # noqa: S608
    f" ORDER BY {', '.join(KEY)}"
)


def clean(database: Database, ledger_days: int, stopped: threading.Event) -> None:
    """Delete the rows and the hourly sums of days that are over for `ledger_days`, unless it is stopped before.

    Raises StoreUnavailable.
    """
    limit = database.now() // DAY * DAY - ledger_days * DAY
    for delete in (_delete_rows, _delete_hour):
        while delete(database, limit) and not stopped.wait(PAUSE):
            pass


def _delete_rows(database: Database, limit: int) -> int:
    with database.write():
        ids = [row_id for (row_id,) in database.execute(_OLD_ROWS, (limit, CHUNK))]
        if ids:
            old = database.among("id", ids)
            database.lock_rows(Statement(f"SELECT id FROM request WHERE {old.sql} ORDER BY id", old.parameters))  # noqa: S608
            database.run(f"DELETE FROM request WHERE {old.sql}", old.parameters)  # noqa: S608 - no data
        return len(ids)


def _delete_hour(database: Database, limit: int) -> int:
    with database.write():
        hours = database.lock_rows(Statement(_OLDEST_HOUR, (limit,)))
        return database.update("DELETE FROM hourly_usage WHERE start = ?", hours[0]) if hours else 0
