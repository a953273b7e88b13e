"""The order in which transactions lock rows before they change them. Code that keeps to it cannot deadlock.

Rows of one table are locked in the order of their ids. On SQLite a writing transaction has everything locked already.
"""

from collections.abc import Sequence
from typing import NamedTuple

from store.database import Database, Statement
from store.database.models import CHECK
from store.database.sql import storable
from store.errors import NotFound

LOCK_ORDER = (
    *("request", "hourly_usage", "daily_usage", "total_mark", "usage_total", "refusal_total"),
    *("balance", "project", "token", "secret", "process_figures"),
)
"""The tables of which a transaction locks rows in several, in their order. Tests check it.

All balances that a transaction changes are locked by one statement: those of the requests that it settles, and those of
the requests that it admits.

`compensation.take_back` alone deletes rows of `request` after it has locked their balances and tokens. Only a process
that believes this one dead locks such a row before its balances: the compensation gives up soon then, and tries again.
"""


class LockedProject(NamedTuple):
    """A project, as it stays until the transaction ends."""

    name: str
    is_active: bool


def lock_project(database: Database, project_id: str, *, with_tokens: bool = False) -> LockedProject:
    """Lock a project, or it and its tokens, against changes and deletion. Raises NotFound.

    A transaction that adds a token has locked its project too.
    """
    values = [storable(project_id)]
    locks = [Statement("SELECT id FROM project WHERE id = ?", values)]
    if with_tokens:
        locks.append(Statement("SELECT id FROM token WHERE project_id = ? ORDER BY id", values))
    rows = database.read_locked(locks, Statement("SELECT name, is_active FROM project WHERE id = ?", values)).rows
    if not rows:
        raise NotFound("There is no such project.")
    return LockedProject(*rows[0])


def tokens(database: Database, ids: Sequence[str]) -> Statement:
    """Return the statement that selects tokens to be locked."""
    among = database.among("id", ids)
    return Statement(f"SELECT id FROM token WHERE {among.sql} ORDER BY id", among.parameters)  # noqa: S608 - no data


def one_at_a_time() -> Statement:
    """Return the statement that selects a row which every store has: changes that lock it are made one by one."""
    return Statement("SELECT name FROM secret WHERE name = ?", [CHECK])
