"""Changes all tokens of a project, in batches: there may be 100,000.

So requests wait for one batch at most, and no change takes longer than a transaction may.
"""

import functools
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from store.database import Database, Statement, locks
from store.database.sql import storable
from store.database.transactions import transact
from store.errors import OutcomeUnknown, StoreUnavailable
from store.management import audit, names
from store.management.audit import Action, Subject, Versions
from store.management.limits import LockedBalances

BATCH = 2000
"""Maximum tokens in one transaction: it takes some 10 ms, up to 100 under load."""

PAUSE = 0.005
"""Seconds after a batch, in which requests get the lock, and the processor."""

MOST_FAULTS = 2
"""Batches in a row that may fail before the rest is given up: a single one may have met a row that is locked."""

type Change = Callable[[Statement], int]
"""Changes the tokens that match a condition, and returns their number; inside a writing transaction."""

_LOG = logging.getLogger(__name__)


class Changed(NamedTuple):
    """The result of a change: the number of tokens that were changed, and of those that the store did not confirm."""

    changed: int
    failed: int


def token_ids(database: Database, project_id: str) -> list[str]:
    """Return the ids of a project's tokens. Raises StoreUnavailable."""
    select = "SELECT id FROM token WHERE project_id = ? ORDER BY id"
    with database.snapshot():
        return [token_id for (token_id,) in database.execute(select, [storable(project_id)])]


def matching(database: Database, which: Statement) -> list[str]:
    """Return the ids of the tokens that match a condition; inside the transaction that has locked them."""
    select = f"SELECT id FROM token WHERE {which.sql} ORDER BY id"  # noqa: S608 - no data
    return [token_id for (token_id,) in database.execute(select, which.parameters)]


def record_part(database: Database, action: Action, project_id: str, ids: Sequence[str], versions: Versions) -> None:
    """Add the row of the audit for a part of a change of a project's tokens; inside its transaction."""
    if ids:
        name = names.of_projects(database, [project_id]).get(project_id)
        audit.record(database, action, Subject(project_id, name, project_id), versions, ids)


def change_tokens(database: Database, change: Change, ids: Sequence[str], *, removes: bool = False) -> Changed:
    """Run a change for tokens, up to BATCH of them in a transaction, in which they are locked.

    A change that `removes` the tokens: their balances are removed before. After a batch that fails the next one is
    tried. Raises StoreUnavailable where every batch has failed and nothing was changed, OutcomeUnknown where something
    may have been.
    """
    changed = confirmed = in_a_row = 0
    faults: list[StoreUnavailable] = []
    for some in itertools.batched(ids, BATCH):
        try:
            changed += transact(database, functools.partial(_change, database, change, some, removes=removes))
        except StoreUnavailable as error:
            faults.append(error)
            in_a_row += 1
            if in_a_row == MOST_FAULTS:
                break
        else:
            confirmed += len(some)
            in_a_row = 0
            time.sleep(PAUSE)
    if faults and not confirmed:
        raise next((fault for fault in faults if isinstance(fault, OutcomeUnknown)), faults[0])
    failed = len(ids) - confirmed
    if faults:
        _LOG.error("tokens were not changed", extra={"tokens": failed, "cause": str(faults[-1].__cause__)})
    return Changed(changed, failed)


def _change(database: Database, change: Change, ids: Sequence[str], *, removes: bool) -> int:
    balances = LockedBalances(database, database.among("owner_id", ids)) if removes else None
    database.read_locked([locks.tokens(database, ids)], Statement("SELECT 1"))
    if balances:
        balances.remove()
    return change(database.among("id", ids))
