"""SQLite: one file, one machine, and one writer at a time."""

import contextlib
import fcntl
import functools
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import peewee
from playhouse.migrate import SchemaMigrator

from store import clock
from store.database.base import (
    SNAPSHOT_TIMEOUT,
    BulkCopy,
    Database,
    LockedRead,
    Row,
    RowRefused,
    SchemaAccess,
    Statement,
)
from store.database.models import MODELS
from store.errors import StoreLocked, StoreUnavailable
from store.runtime.database_url import sqlite_path

LOCK_SLICE = 0.05
"""Seconds for which SQLite itself waits for a lock. Longer waits repeat it and check the deadline in between."""

CHECKPOINT_PAGES = 4000
"""Pages (of 4 KiB) of the log after which a commit copies it into the database: up to 20 ms, for which others wait.

`tidy` does that in the background, but never gets all of it while others write without a pause."""

MOST_PAGES = 16_000
"""Pages of a log from which on writers wait until all of it is in the database: they have written without a pause."""

MOST_ROWS = 32
"""Maximum rows of a table in a statement. The connection caches a hundred statements, and a large one takes 100 KB; as
sizes are powers of two, there are six."""


class SqliteDatabase(Database):
    """The database in the file of a `sqlite:///` URL. A writing transaction has all of it to itself."""

    def __init__(self, url: str, timeout: float) -> None:
        super().__init__(timeout)
        self.path = sqlite_path(url)
        self.engine: peewee.Database = peewee.SqliteDatabase(
            str(self.path),
            # Read-then-write under a deferred transaction fails at once, without waiting, so each one is IMMEDIATE.
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
        self.schema = _Schema(self)
        self.bulk = _BulkCopy(self.engine)

    def now(self) -> int:
        """Return the machine's time: all users of the file are on it."""
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

    def read_locked(self, locks: Sequence[Statement], select: Statement) -> LockedRead:  # noqa: ARG002
        """Read: all rows are locked already."""
        return LockedRead(self.now(), self.execute(*select), None)

    def among(self, column: str, values: Sequence[str]) -> Statement:
        """Return it with IN; the last value is repeated up to the next power of two."""
        places = 1 << (len(values) - 1).bit_length()
        named = [*values, *[*values[-1:]] * (places - len(values))]
        return Statement(f"{column} IN ({', '.join('?' * len(named))})", named)

    def wait_for_writers(self) -> None:
        """Return at once: the transactions of writers do not overlap."""

    def joined(self, expression: str, separator: str) -> str:
        """Join with GROUP_CONCAT."""
        return f"GROUP_CONCAT({expression}, '{separator}')"

    def tables(self, types: Sequence[str], rows: Sequence[Sequence[object]]) -> Sequence[Statement]:
        """Write them with VALUES, which have types of their own; each a power of two of rows."""
        found, start = [], 0
        while start < len(rows):
            size = min(MOST_ROWS, 1 << (len(rows) - start).bit_length() - 1)
            parameters = [value for row in rows[start : start + size] for value in row]
            found.append(Statement(_values(len(types), size), parameters))
            start += size
        return found

    def update_rows(
        self, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[object]], *, added: Collection[str] = ()
    ) -> None:
        """Run a statement for each: prepared once, it takes a third of the time of one with a table of them."""
        try:
            self.engine.connection().executemany(_update(table, tuple(columns), tuple(added)), rows)
        except sqlite3.Error as error:
            raise peewee.OperationalError(str(error)) from error

    def in_ranges(self, ranges: str, source: str) -> str:
        """Join with CROSS JOIN, which has the ranges in the outer loop always."""
        return f"{ranges} CROSS JOIN {source} AS part ON part.start >= begins AND part.start < ends"

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Read without a transaction."""
        with self.translated_faults():
            yield

    @contextlib.contextmanager
    def snapshot(self, *, limit: float = SNAPSHOT_TIMEOUT) -> Iterator[None]:  # noqa: ARG002 - a file does not hang
        """Read in a transaction that only reads."""
        with self.translated_faults(), self.engine.atomic("DEFERRED"):
            yield

    @contextlib.contextmanager
    def write(
        self,
        *,
        deadline: float | None = None,
        patience: float | None = None,
        pipelined: bool = False,  # noqa: ARG002 - a file has no round trips
        in_doubt: Callable[[], None] | None = None,  # noqa: ARG002 - nor outcomes in doubt
    ) -> Iterator[None]:
        """Wait for the lock on the file, then write. The outcome is always known."""
        now = time.monotonic()
        until = now + self.timeout if deadline is None else deadline
        with self.translated_faults(), self._begun(until if patience is None else min(until, now + patience)):
            yield

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo a part alone."""
        try:
            with self.engine.savepoint():
                yield
        except peewee.OperationalError as error:
            raise self.translate(error) from error

    def translate(self, error: Exception) -> Exception:
        """Return StoreLocked where another process kept the lock, StoreUnavailable for all other faults."""
        if isinstance(error, StoreUnavailable):
            return error
        return StoreLocked() if _is_locked(error) else StoreUnavailable()

    def version(self) -> str:
        """Return the library's version."""
        return f"SQLite {sqlite3.sqlite_version}"

    def size(self) -> int:
        """Return the size of the file, free pages included."""
        with self.read():
            ((pages,),) = self.execute("PRAGMA page_count")
            ((page_size,),) = self.execute("PRAGMA page_size")
        return int(pages) * int(page_size)

    def log_size(self) -> int:
        """Return the size of the file beside the database; 0 while there is none."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def tidy(self) -> None:
        """Copy the log into the database, twice, to include what came in between: a log copied whole starts over."""
        with contextlib.suppress(StoreUnavailable), self.read():  # a fault shows at the next write too
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


class _Schema(SchemaAccess):
    """Opens and migrates the database in a file."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold a lock file beside the database."""
        path = self._database.path
        try:
            file = path.with_name(path.name + ".lock").open("a")
        except OSError as error:
            raise StoreUnavailable from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def migration(self) -> Iterator[None]:
        """Write without foreign keys: replacing a table would delete the rows that refer to it."""
        database = self._database
        with database.translated_faults(), SchemaMigrator.from_database(database.engine).migration_context():
            yield

    @contextlib.contextmanager
    def untouched(self) -> Iterator[peewee.Database | None]:
        """Read over a connection of its own."""
        path = self._database.path
        try:
            path.stat()
        except FileNotFoundError:
            yield None
            return
        except OSError as error:  # there may be one that this user does not see
            raise StoreUnavailable from error
        # Even a reader makes the files of the log, unless the file is declared immutable.
        mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
        engine = peewee.SqliteDatabase(f"file:{quote(str(path.absolute()))}?{mode}", uri=True)
        with self._database.translated_faults(), contextlib.closing(engine):
            yield engine


class _BulkCopy(BulkCopy):
    """Reads and replaces all rows of the database in a file."""

    def __init__(self, engine: peewee.Database) -> None:
        self._engine = engine

    def stream(self, sql: str, size: int) -> Iterator[list[Row]]:
        """Read on as the rows are asked for."""
        connection = self._engine.connection()
        connection.text_factory = _lenient
        try:
            cursor = self._engine.execute_sql(sql)
            while rows := cursor.fetchmany(size):
                yield rows
        finally:
            connection.text_factory = str

    def load(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert row by row."""
        places = ", ".join("?" * len(columns))
        try:
            self._engine.connection().executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})",  # noqa: S608 - no data
                rows,
            )
        except sqlite3.IntegrityError as error:
            raise RowRefused(str(error)) from None
        except sqlite3.Error as error:
            raise peewee.OperationalError(str(error)) from error

    def lock(self, tables: Sequence[str]) -> None:
        """Do nothing: a writing transaction has the file to itself, and readers keep their snapshots."""

    def empty(self, tables: Sequence[str]) -> None:
        """Delete the rows that refer to others first."""
        for table in reversed(tables):
            self._engine.execute_sql(f"DELETE FROM {table}")  # noqa: S608 - no data


@functools.cache
def _values(columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"VALUES {', '.join([row] * rows)}"


@functools.cache
def _update(table: str, columns: Sequence[str], added: Collection[str]) -> str:
    """Return the statement that sets columns of the row that its first parameter names."""
    key, *names = columns
    changes = [f"{name} = {f'{name} + ' * (name in added)}?{place}" for place, name in enumerate(names, 2)]
    return f"UPDATE {table} SET {', '.join(changes)} WHERE {key} = ?1"  # noqa: S608 - no data


def _lenient(text: bytes) -> str:
    return text.decode(errors="replace")


def _is_locked(error: Exception) -> bool:
    return isinstance(error, peewee.OperationalError) and "locked" in str(error)
