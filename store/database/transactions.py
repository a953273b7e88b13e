"""Transactions that begin anew when others were in their way, and parts of one that may fail alone.

PostgreSQL ends one of several transactions that wait for each other, and whoever waits for a lock for too long. Nothing
is wrong then, and nothing was written.
"""

import functools
import time
from collections.abc import Callable
from typing import Concatenate, Protocol

from store.database import Database
from store.errors import GatewayError, StoreLocked


class _OnDatabase(Protocol):
    _database: Database


def transact[Result](database: Database, change: Callable[[], Result]) -> Result:
    """Run a change in a writing transaction, again while others are in its way and the database's `timeout` lasts.

    Returns what it returned in the one that was written. Raises what `Database.write` does.
    """
    deadline = time.monotonic() + database.timeout
    while True:
        try:
            with database.write(deadline=deadline):
                return change()
        except StoreLocked:
            if time.monotonic() >= deadline:
                raise


def transaction[Owner: _OnDatabase, **Arguments, Result](
    method: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate[Owner, Arguments], Result]:
    """Have a method run as `transact` runs a change, on its object's database."""

    @functools.wraps(method)
    def transacted(owner: Owner, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return transact(owner._database, lambda: method(owner, *args, **kwargs))  # noqa: SLF001 - as the method itself

    return transacted


def attempt(database: Database, change: Callable[[], object]) -> Exception | None:
    """Make a change inside a writing transaction, as a whole or not at all. Returns what kept it from being made.

    Raises what is the database's fault: then the transaction itself cannot go on.
    """
    try:
        with database.savepoint():
            change()
    except GatewayError:
        raise
    except Exception as fault:
        return fault
    return None
