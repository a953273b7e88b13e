"""Transactions that are repeated while others hold their locks, and parts of one that may fail alone.

PostgreSQL ends one of several transactions that wait for each other, and one that waits too long for a lock. Nothing is
wrong then, and nothing was written.
"""

import functools
import time
from collections.abc import Callable
from typing import Concatenate, Protocol

from store.database import Database
from store.errors import GatewayError, StoreLocked


class _OnDatabase(Protocol):
    _database: Database


def transact[Result](database: Database, change: Callable[[], Result], *, pipelined: bool = False) -> Result:
    """Run a change in a writing transaction, again on StoreLocked, for up to the database's `timeout`.

    `pipelined` is that of `Database.write`. Returns the result of the run that was committed. Raises what
    `Database.write` does.
    """
    deadline = time.monotonic() + database.timeout
    while True:
        try:
            with database.write(deadline=deadline, pipelined=pipelined):
                return change()
        except StoreLocked:
            if time.monotonic() >= deadline:
                raise


def transaction[Owner: _OnDatabase, **Arguments, Result](
    method: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate[Owner, Arguments], Result]:
    """Run a method by `transact`, on its object's database."""

    @functools.wraps(method)
    def transacted(owner: Owner, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return transact(owner._database, lambda: method(owner, *args, **kwargs))  # noqa: SLF001 - as the method itself

    return transacted


def attempt(database: Database, change: Callable[[], object]) -> Exception | None:
    """Make a change inside a writing transaction, all of it or nothing. Returns the exception that prevented it.

    Raises faults of the database: then the transaction itself cannot go on.
    """
    try:
        with database.savepoint():
            change()
    except GatewayError:
        raise
    except Exception as fault:
        return fault
    return None
