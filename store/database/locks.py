"""What is locked before it is changed, and in which order: rows of the ledger, sums, projects, tokens, secrets.

Each kind is locked in the order of its ids. Whoever keeps to that never waits for somebody who waits for him. On SQLite
all is locked already.
"""

from collections.abc import Sequence
from typing import NamedTuple

from store.database import Database, Statement
from store.database.sql import storable
from store.errors import NotFound


class LockedProject(NamedTuple):
    """A project, as it stays until the transaction ends."""

    name: str
    is_active: bool


def lock_project(database: Database, project_id: str, *, with_tokens: bool = False) -> LockedProject:
    """Keep a project, or it and its tokens, from being changed and deleted. Raises NotFound.

    Who makes a token has locked its project too.
    """
    values = [storable(project_id)]
    locked = [Statement("SELECT id FROM project WHERE id = ?", values)]
    if with_tokens:
        locked.append(Statement("SELECT id FROM token WHERE project_id = ? ORDER BY id", values))
    _, rows = database.read_locked(locked, Statement("SELECT name, is_active FROM project WHERE id = ?", values))
    if not rows:
        raise NotFound("There is no such project.")
    return LockedProject(*rows[0])


def tokens(database: Database, ids: Sequence[str]) -> Statement:
    """Select tokens, to be locked."""
    among = database.among("id", ids)
    return Statement(f"SELECT id FROM token WHERE {among.sql} ORDER BY id", among.parameters)  # noqa: S608 - no data
