"""Changes of all tokens of a project. There may be 100,000: they are changed some at a time.

So no request waits for longer than for some of them, and no change takes longer than a transaction may.
"""

import functools
import itertools
import time
from collections.abc import Sequence

from store import locks
from store.database import Database, Statement
from store.errors import OutcomeUnknown, StoreUnavailable
from store.text import storable
from store.transactions import transact

BATCH = 2000
"""Tokens in one transaction at most: it takes some ten milliseconds, up to a hundred beside a load."""

PAUSE = 0.005
"""Seconds after a batch, in which others get the lock, and the processor."""


def token_ids(database: Database, project_id: str) -> list[str]:
    """Return the ids of a project's tokens. Raises StoreUnavailable."""
    select = "SELECT id FROM token WHERE project_id = ? ORDER BY id"
    with database.snapshot():
        return [token_id for (token_id,) in database.execute(select, [storable(project_id)])]


def change_tokens(database: Database, change: str, ids: Sequence[str]) -> int:
    """Run a statement that lacks its last condition, that on the ids of tokens; return how many it has changed.

    Up to BATCH of them are changed together. Raises StoreUnavailable, OutcomeUnknown where some are changed already.
    """
    changed = 0
    for some in itertools.batched(ids, BATCH):
        try:
            changed += transact(database, functools.partial(_change, database, change, some))
        except StoreUnavailable as error:
            if not changed:
                raise
            raise OutcomeUnknown from error
        time.sleep(PAUSE)
    return changed


def _change(database: Database, change: str, ids: Sequence[str]) -> int:
    among = database.among("id", ids)
    database.read_locked([locks.tokens(database, ids)], Statement("SELECT 1"))
    return database.update(f"{change} {among.sql}", among.parameters)
