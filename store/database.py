"""The database: connections, transactions, and all that differs between one engine and another.

Each thread has a connection of its own, opened when it is first needed and dropped after a fault, so that the next
use makes a new one: recovery needs no restart.
"""

import contextlib
import fcntl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import peewee

from store import clock
from store.errors import StoreLocked, StoreUnavailable
from store.models import MODELS

LOCK_SLICE = 0.05
"""Seconds for which SQLite itself waits for a lock. Longer waits are slices of it, with a look at the deadline."""

type Row = tuple[Any, ...]


class Database:
    """One store's database. Binds the models to it; a process has one store.

    `timeout` is how many seconds a transaction waits for others before it gives up with StoreLocked.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.timeout = timeout
        self.path = sqlite_path(url)
        self.engine: peewee.Database = peewee.SqliteDatabase(
            str(self.path),
            # Read-then-write under a deferred transaction fails whatever the patience, so each one is IMMEDIATE.
            lock_type="IMMEDIATE",
            timeout=LOCK_SLICE,
            pragmas={"journal_mode": "wal", "synchronous": "normal", "foreign_keys": 1},
        )
        self.engine.bind(MODELS)

    def now(self) -> int:
        """Return the time that decides on expiry, in microseconds: the machine's, as SQLite lives on one."""
        return clock.now()

    def execute(self, sql: str, parameters: Sequence[object]) -> list[Row]:
        """Run one statement of ours with `?` for its parameters and return its rows."""
        return list(self.engine.execute_sql(sql, parameters))

    def update(self, sql: str, parameters: Sequence[object]) -> int:
        """Run one writing statement of ours and return how many rows it changed."""
        changed: int = self.engine.execute_sql(sql, parameters).rowcount
        return changed

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Translate the faults of the reading inside. Raises StoreUnavailable."""
        with self._translated_faults():
            yield

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read what is inside as of one moment, beside those who write. Raises StoreUnavailable."""
        with self._translated_faults(), self.engine.atomic("DEFERRED"):
            yield

    @contextlib.contextmanager
    def write(self, patience: float | None = None) -> Iterator[None]:
        """Run what is inside as the only writing transaction; it is durable when this returns.

        Waits up to `patience` seconds (default: `timeout`) for others. Raises StoreLocked when they take longer,
        StoreUnavailable on any other fault; then nothing was written. An exception from inside rolls back.
        """
        with self._translated_faults(), self._begun(self.timeout if patience is None else patience):
            yield

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Run what is inside as a part of the writing transaction around it, which an exception undoes alone."""
        with self.engine.savepoint():
            yield

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep out every other process that asks for the same, until this ends: for migrations."""
        with self.path.with_name(self.path.name + ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def close(self) -> None:
        """Close this thread's connection."""
        self.engine.close()

    @contextlib.contextmanager
    def _begun(self, patience: float) -> Iterator[None]:
        transaction = self._begin(time.monotonic() + patience)
        try:
            yield
        except BaseException as error:
            transaction.__exit__(type(error), error, error.__traceback__)
            raise
        transaction.__exit__(None, None, None)

    def _begin(self, deadline: float) -> Any:
        while True:
            transaction = self.engine.atomic()
            try:
                transaction.__enter__()
            except peewee.OperationalError as error:
                if not _is_locked(error) or time.monotonic() >= deadline:
                    raise
            else:
                return transaction

    @contextlib.contextmanager
    def _translated_faults(self) -> Iterator[None]:
        try:
            yield
        except peewee.PeeweeException as error:
            if _is_locked(error):
                raise StoreLocked from error
            self._drop_connection()
            raise StoreUnavailable from error

    def _drop_connection(self) -> None:
        with contextlib.suppress(peewee.PeeweeException):
            self.engine.close()


def _is_locked(error: Exception) -> bool:
    return isinstance(error, peewee.OperationalError) and "locked" in str(error)


def sqlite_path(url: str) -> Path:
    """Take the path out as it is: a file's name may hold '?', '#' or '%'. Raises ValueError."""
    scheme, _, path = url.partition("///")
    if scheme != "sqlite:" or not Path(path).name:
        raise ValueError("must be sqlite:///relative/path or sqlite:////absolute/path")
    if path == ":memory:":
        raise ValueError("must name a file: two processes share the store")
    return Path(path)
