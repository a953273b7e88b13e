"""Tells for which sums a finer table does not hold any more all that they sum up (see `retention`)."""

from collections.abc import Collection

from store.database import Database
from store.ledger.rollups import TABLES, Table

_NUMBERS = {Table.HOURS: ("SUM(requests)", "start"), Table.ROWS: ("COUNT(settled_at)", "started_at")}
"""The number of settled requests in a finer table, and its column of times."""


def not_kept(database: Database, table: Table, starts: Collection[int], finer: Table) -> set[int]:
    """Return the starts of those days or hours that lack settled requests in the finer table."""
    number, time = _NUMBERS[finer]
    found: set[int] = set()
    for rows in database.tables(["BIGINT"], [(start,) for start in sorted(starts)]):
        missing = database.execute(
            f"WITH whole (begins) AS ({rows.sql}) SELECT begins FROM whole WHERE"  # noqa: S608 - no data
            f" (SELECT COALESCE(SUM(requests), 0) FROM {table} WHERE start = begins) <>"
            f" (SELECT COALESCE({number}, 0) FROM {finer} WHERE {time} >= begins AND {time} < begins + ?)",
            [*rows.parameters, TABLES[table]],
        )
        found.update(begins for (begins,) in missing)
    return found
