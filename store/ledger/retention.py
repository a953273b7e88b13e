"""Retention: rows of the ledger and refusals are deleted after some days, hourly sums later. Daily sums stay.

Rows of the audit stay too, unless an operator sets their days.

Each step is one small transaction, so that no request waits for long.
"""

import threading
from collections.abc import Sequence

from store.clock import DAY
from store.database import Database, Statement
from store.ledger.rollups import KEY

CHUNK = 200
"""Rows that are deleted in one transaction at most."""

PAUSE = 0.05
"""Seconds between two transactions, for others to write."""

HOUR_DAYS = 400
"""Days that hourly sums are kept at least. Reports make the days of a time zone of them, of this year and the last."""

_OLD_ROWS = "SELECT id FROM request WHERE started_at < ? AND settled_at IS NOT NULL ORDER BY started_at, id LIMIT ?"
_OLD_REFUSALS = "SELECT id FROM refusal WHERE started_at < ? ORDER BY started_at, id LIMIT ?"
_OLD_AUDIT = "SELECT id FROM audit WHERE changed_at < ? ORDER BY changed_at, id LIMIT ?"
_OLD_UPSTREAM_IDS = (
    "DELETE FROM upstream_id"
    " WHERE (upstream_request_id, request_id) IN (SELECT upstream_request_id, id FROM request WHERE {old})"
)
_OLD_PENDING = "DELETE FROM pending_usage WHERE request_id IN (SELECT id FROM request WHERE {old})"
_OLDEST_HOUR = (
    "SELECT start FROM hourly_usage WHERE start = (SELECT MIN(start) FROM hourly_usage WHERE start < ?)"  # noqa: S608
    f" ORDER BY {', '.join(KEY)}"
)


def clean(database: Database, ledger_days: int, stopped: threading.Event, *, audit_days: int | None = None) -> None:
    """Delete the rows and refusals of days that ended `ledger_days` ago, until done or stopped.

    The hourly sums stay for HOUR_DAYS, if these are more; rows of the audit for `audit_days`, None being for ever.
    Raises StoreUnavailable.
    """
    today = database.now() // DAY * DAY
    steps = [
        (_delete_rows, ledger_days),
        (_delete_refusals, ledger_days),
        (_delete_hour, max(ledger_days, HOUR_DAYS)),
    ]
    if audit_days is not None:
        steps.append((_delete_audit, audit_days))
    for delete, days in steps:
        while delete(database, today - days * DAY) and not stopped.wait(PAUSE):
            pass


def _delete_rows(database: Database, limit: int) -> int:
    return _delete_old(database, "request", _OLD_ROWS, limit, before=(_OLD_UPSTREAM_IDS, _OLD_PENDING))


def _delete_refusals(database: Database, limit: int) -> int:
    return _delete_old(database, "refusal", _OLD_REFUSALS, limit)


def _delete_audit(database: Database, limit: int) -> int:
    return _delete_old(database, "audit", _OLD_AUDIT, limit)


def _delete_old(database: Database, table: str, select: str, limit: int, *, before: Sequence[str] = ()) -> int:
    """Delete the rows that a statement selects, after those that refer to them (`before`). Returns their number."""
    with database.write():
        ids = [row_id for (row_id,) in database.execute(select, (limit, CHUNK))]
        if ids:
            old = database.among("id", ids)
            database.lock_rows(Statement(f"SELECT id FROM {table} WHERE {old.sql} ORDER BY id", old.parameters))  # noqa: S608
            for delete in before:
                database.run(delete.format(old=old.sql), old.parameters)
            database.run(f"DELETE FROM {table} WHERE {old.sql}", old.parameters)  # noqa: S608 - no data
        return len(ids)


def _delete_hour(database: Database, limit: int) -> int:
    with database.write():
        hours = database.lock_rows(Statement(_OLDEST_HOUR, (limit,)))
        return database.update("DELETE FROM hourly_usage WHERE start = ?", hours[0]) if hours else 0
