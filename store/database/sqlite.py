"""SQLite: one file, one machine, and one writer at a time."""

import contextlib
import fcntl
import functools
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import peewee
from playhouse.migrate import SchemaMigrator

from store import clock
from store.database.base import SNAPSHOT_TIMEOUT, Database, Row, RowRefused, Statement
from store.database.models import MODELS
from store.errors import StoreLocked, StoreUnavailable
from store.runtime.database_url import sqlite_path

LOCK_SLICE = 0.05
"""Seconds for which SQLite itself waits for a lock. Longer waits are slices of it, with a look at the deadline."""

CHECKPOINT_PAGES = 4000
"""Pages (of 4 KiB) of the log after which a commit brings it into the database: for up to 20 ms, in which all that has
come meanwhile waits. `tidy` does that apart, but never all of it beside those who write without a pause."""

MOST_PAGES = 16_000
"""Pages of a log that has grown so long beside them that they have to wait until all of it is in the database."""

MOST_ROWS = 32
"""Rows of a table in a statement at most. The connection keeps a hundred statements, of which a large one takes 100 KB;
of those with powers of two there are six."""


class SqliteDatabase(Database):
    """The database in the file of a `sqlite:///` URL. Writing transactions have all of it to themselves."""

    def __init__(self, url: str, timeout: float) -> None:
        super().__init__(timeout)
        self.path = sqlite_path(url)
        self.engine: peewee.Database = peewee.SqliteDatabase(
            str(self.path),
            # Read-then-write under a deferred transaction fails whatever the patience, so each one is IMMEDIATE.
            lock_type="IMMEDIATE",
            timeout=LOCK_SLICE,
            pragmas={
                "journal_mode": "wal",
                "synchronous": "normal",
                "foreign_keys": 1,
                "wal_autocheckpoint": CHECKPOINT_PAGES,
            },
        )
        self.engine.bind(MODELS)

    def now(self) -> int:
        """Return the machine's time, as all that use the file are on it."""
        return clock.now()

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run a statement and return its rows."""
        return list(self.engine.execute_sql(sql, parameters))

    def update(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        changed: int = self.engine.execute_sql(sql, parameters).rowcount
        return changed

    def run(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement."""
        self.engine.execute_sql(sql, parameters)

    def lock_rows(self, select: Statement) -> list[Row]:
        """Read: all rows are locked already."""
        return self.execute(*select)

    def read_locked(self, locks: Sequence[Statement], select: Statement) -> tuple[int, list[Row]]:  # noqa: ARG002
        """Read: all rows are locked already."""
        return self.now(), self.execute(*select)

    def among(self, column: str, values: Sequence[str]) -> Statement:
        """Write it with IN; the last value is repeated up to the next power of two."""
        places = 1 << (len(values) - 1).bit_length()
        named = [*values, *[*values[-1:]] * (places - len(values))]
        return Statement(f"{column} IN ({', '.join('?' * len(named))})", named)

    def tables(self, types: Sequence[str], rows: Sequence[Sequence[object]]) -> Sequence[Statement]:
        """Write them with VALUES, which have types of their own; each a power of two of rows."""
        found, start = [], 0
        while start < len(rows):
            size = min(MOST_ROWS, 1 << (len(rows) - start).bit_length() - 1)
            parameters = [value for row in rows[start : start + size] for value in row]
            found.append(Statement(_values(len(types), size), parameters))
            start += size
        return found

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Read without a transaction."""
        with self._translated_faults():
            yield

    @contextlib.contextmanager
    def snapshot(self, *, limit: float = SNAPSHOT_TIMEOUT) -> Iterator[None]:  # noqa: ARG002 - nobody waits
        """Read in a transaction that only reads."""
        with self._translated_faults(), self.engine.atomic("DEFERRED"):
            yield

    @contextlib.contextmanager
    def write(
        self,
        *,
        deadline: float | None = None,
        patience: float | None = None,
        pipelined: bool = False,  # noqa: ARG002 - a file has no round trips
        in_doubt: Callable[[], None] | None = None,  # noqa: ARG002 - nor doubts
    ) -> Iterator[None]:
        """Wait for the lock on all of it, then write. The outcome is always known."""
        now = time.monotonic()
        until = now + self.timeout if deadline is None else deadline
        with self._translated_faults(), self._begun(until if patience is None else min(until, now + patience)):
            yield

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo a part alone."""
        try:
            with self.engine.savepoint():
                yield
        except peewee.OperationalError as error:
            raise _translated(error) from error

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold a lock file beside the database."""
        try:
            file = self.path.with_name(self.path.name + ".lock").open("a")
        except OSError as error:
            raise StoreUnavailable from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def migration(self) -> Iterator[None]:
        """Write without foreign keys: a table that is replaced would take with it what refers to it."""
        with self._translated_faults(), SchemaMigrator.from_database(self.engine).migration_context():
            yield

    @contextlib.contextmanager
    def untouched(self) -> Iterator[peewee.Database | None]:
        """Read over a connection of its own."""
        try:
            self.path.stat()
        except FileNotFoundError:
            yield None
            return
        except OSError as error:  # there may be one that this user does not see
            raise StoreUnavailable from error
        # Even one that only reads makes the files of the log, unless it is told that nobody writes.
        mode = "mode=ro" if self.path.with_name(f"{self.path.name}-wal").exists() else "immutable=1"
        engine = peewee.SqliteDatabase(f"file:{quote(str(self.path.absolute()))}?{mode}", uri=True)
        with self._translated_faults(), contextlib.closing(engine):
            yield engine

    def stream(self, sql: str, size: int) -> Iterator[list[Row]]:
        """Read on as the rows are asked for."""
        connection = self.engine.connection()
        connection.text_factory = _lenient
        try:
            cursor = self.engine.execute_sql(sql)
            while rows := cursor.fetchmany(size):
                yield rows
        finally:
            connection.text_factory = str

    def load(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert row by row."""
        places = ", ".join("?" * len(columns))
        try:
            self.engine.connection().executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",  # noqa: S608 - no data
                rows,
            )
        except sqlite3.IntegrityError as error:
            raise RowRefused(str(error)) from None
        except sqlite3.Error as error:
            raise peewee.OperationalError(str(error)) from error

    def lock(self, tables: Sequence[str]) -> None:
        """Nobody else can write already, and what others read stays as it was."""

    def empty(self, tables: Sequence[str]) -> None:
        """Delete what refers to others first."""
        for table in reversed(tables):
            self.run(f"DELETE FROM {table}")  # noqa: S608 - no data

    def tidy(self) -> None:
        """Bring the log into the database, also what has come meanwhile: where all of it is there, it begins anew."""
        with contextlib.suppress(StoreUnavailable), self.read():  # who writes is told of a fault
            for _ in range(2):
                ((_, pages, _),) = self.execute("PRAGMA wal_checkpoint(PASSIVE)")
            if pages > MOST_PAGES:
                self.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def _begun(self, deadline: float) -> Iterator[None]:
        transaction = self._begin(deadline)
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
        except (peewee.PeeweeException, StoreUnavailable) as error:
            fault = _translated(error)
            if not isinstance(fault, StoreLocked):
                self.close()
            if fault is error:
                raise
            raise fault from error


@functools.cache
def _values(columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"VALUES {', '.join([row] * rows)}"


def _lenient(text: bytes) -> str:
    return text.decode(errors="replace")


def _translated(error: peewee.PeeweeException | StoreUnavailable) -> StoreUnavailable:
    if isinstance(error, StoreUnavailable):
        return error
    return StoreLocked() if _is_locked(error) else StoreUnavailable()


def _is_locked(error: Exception) -> bool:
    return isinstance(error, peewee.OperationalError) and "locked" in str(error)
