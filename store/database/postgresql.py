"""PostgreSQL: many machines, and rows that are locked one by one.

A network can fail in more ways than a file: every wait has a limit, and when a connection breaks during a COMMIT, the
server is asked for the outcome before the caller gets an answer.
"""

import contextlib
import functools
import json
import logging
import math
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import peewee
import psycopg
from playhouse.migrate import SchemaMigrator

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
from store.database.postgresql_connection import Connection, connect
from store.database.postgresql_transaction import NOW, Status, Transaction, TransactionId, roll_back
from store.errors import OutcomeUnknown, StartupError, StoreLocked, StoreUnavailable, StoreUnreachable

LEAST_VERSION = 15

SHORTEST_TRANSACTION = 0.1
"""Minimum seconds for a transaction, however near the deadline is."""

GRACE = 0.25
"""Seconds after its own time-outs in which a healthy server reports them."""

LOOK_UP_PAUSE = 0.02
"""Seconds between two questions for an outcome."""

MIGRATION_LOCK = 0x6C6C6D70726F7879
"""The advisory lock that migrations take: "llmproxy" in ASCII."""

_WRITERS = (
    "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE mode IN ('RowShareLock', 'RowExclusiveLock')"
    " AND relation IN ('request'::regclass, 'balance'::regclass, 'token'::regclass)"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()"
)
"""The transactions that have begun to change, or to lock, what requests change."""

_log = logging.getLogger(__name__)

_IN_THE_WAY = frozenset(
    {
        "55P03",  # lock_not_available
        "40P01",  # deadlock_detected
        "40001",  # serialization_failure
        "57014",  # query_canceled, by its timeout
    }
)
_LOST = ("08", "57")
"""Classes of errors that end a connection."""

_OF_THE_SERVER = ("53", "58", "XX")
"""Classes of errors that other data would meet too: a full disk, say."""

_WRONG_SERVER = frozenset(
    {
        "25006",  # read_only_sql_transaction: it was the primary once
        "25P03",  # idle_in_transaction_session_timeout: it ends the connection
        "53300",  # too_many_connections
    }
)


class _Engine(peewee.PostgresqlDatabase):
    """peewee's engine, with our class of connections."""

    def __init__(self, url: str, timeout: float) -> None:
        super().__init__("postgresql", prefer_psycopg3=True)
        self._open = functools.partial(connect, url, timeout)
        # With peewee's lock threads would connect one after the other, and each may wait for a server that hangs. It
        # guards the states of connections, which are thread-local anyway.
        self._lock = contextlib.nullcontext()

    def _connect(self) -> Connection:
        return self._open()


class PostgresqlDatabase(Database):
    """The database of a `postgresql://` URL."""

    faults = (psycopg.Error, *Database.faults)

    def __init__(self, url: str, timeout: float) -> None:
        super().__init__(timeout)
        self.url = url
        self.engine: peewee.Database = _Engine(url, timeout)
        self.engine.bind(MODELS)
        self.schema = _Schema(self)
        self.bulk = _BulkCopy(self.engine)
        self.is_starting = False
        """True during a start, in which reads are unlimited: migrations may take any time."""

    def now(self) -> int:
        """Return the server's time: the clocks of machines differ."""
        began_at = self._current().began_at
        if began_at is not None:
            return began_at()
        with self.read():
            ((now,),) = self.execute(f"SELECT {NOW}")
        return int(now)

    def version(self) -> str:
        """Return the server's version."""
        with self.read():
            ((version,),) = self.execute("SHOW server_version")
        return f"PostgreSQL {version}"

    def size(self) -> int:
        """Return the size of the database on the server's disk."""
        with self.read():
            ((size,),) = self.execute("SELECT pg_database_size(current_database())")
        return int(size)

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run a statement and return its rows."""
        return self._current().send(sql, parameters).rows()

    def update(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        return self._current().send(sql, parameters).changed

    def run(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Send a statement."""
        self._current().send(sql, parameters)

    def lock_rows(self, select: Statement) -> list[Row]:
        """Lock rows against everything but new rows that refer to them."""
        return self.execute(f"{select.sql} FOR NO KEY UPDATE", select.parameters)

    def read_locked(self, locks: Sequence[Statement], select: Statement) -> LockedRead:
        """Lock rows against everything but new rows that refer to them, then read in a later statement.

        A statement that waited for a lock may see other rows as they were before it waited.
        """
        connection = self._current()
        locked = [connection.send(f"{lock.sql} FOR NO KEY UPDATE", lock.parameters) for lock in locks]
        rows = self.execute(f"SELECT {NOW}, found.* FROM ({select.sql}) AS found", select.parameters)  # noqa: S608
        now = int(rows[0][0]) if rows else 0
        return LockedRead(now, [row[1:] for row in rows], locked[0].rows() if locked else [])

    def wait_for_writers(self) -> None:
        """Wait until those have ended that hold locks of the tables which requests change; for `timeout` at most."""
        until = time.monotonic() + self.timeout
        with self.read():
            first = {row for (row,) in self.execute(_WRITERS)}
            while first and time.monotonic() < until:
                time.sleep(LOOK_UP_PAUSE)
                first &= {row for (row,) in self.execute(_WRITERS)}
        if first:
            raise StoreLocked

    def among(self, column: str, values: Sequence[str]) -> Statement:
        """Return it with one array, so that the statement is the same for any number of texts."""
        return Statement(f"{column} = ANY(CAST(? AS TEXT[]))", [[*values]])

    def joined(self, expression: str, separator: str) -> str:
        """Join with STRING_AGG."""
        return f"STRING_AGG({expression}, '{separator}')"

    def tables(self, types: Sequence[str], rows: Sequence[Sequence[object]]) -> Sequence[Statement]:
        """Write one table in JSON: the statement is the same for any number of rows, and encoded at once."""
        if not rows:
            return []
        names = [f"c{number}" for number in range(len(types))]
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, types, strict=True))
        values = json.dumps([dict(zip(names, row, strict=True)) for row in rows])
        return [Statement(f"SELECT * FROM json_to_recordset(CAST(? AS JSON)) AS rows ({columns})", [values])]  # noqa: S608

    def update_rows(
        self, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[object]], *, added: Collection[str] = ()
    ) -> None:
        """Update all by one statement."""
        key, *names = columns
        changes = [f"{name} = {f'{table}.{name} + ' * (name in added)}now.{name}" for name in names]
        for now in self.tables([*columns.values()], rows):
            update = f"UPDATE {table} SET {', '.join(changes)} FROM now WHERE {table}.{key} = now.{key}"  # noqa: S608
            self.run(f"WITH now ({', '.join(columns)}) AS ({now.sql}) {update}", now.parameters)

    def in_ranges(self, ranges: str, source: str) -> str:
        """Join with LATERAL; OFFSET keeps the planner from another join.

        Before the first ANALYZE of a large table it would compare each row with all ranges.
        """
        rows = f"SELECT * FROM {source} AS rows WHERE rows.start >= begins AND rows.start < ends OFFSET 0"  # noqa: S608
        return f"{ranges} CROSS JOIN LATERAL ({rows}) AS part"

    def tidy(self) -> None:
        """Do nothing: a server does its own maintenance."""

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Read without a transaction."""
        with self.limited(self.timeout):
            yield

    @contextlib.contextmanager
    def snapshot(self, *, limit: float = SNAPSHOT_TIMEOUT) -> Iterator[None]:
        """Read in a transaction that only reads."""
        with self.limited(limit) as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield
            finally:
                roll_back(connection)

    @contextlib.contextmanager
    def write(
        self,
        *,
        deadline: float | None = None,
        patience: float | None = None,
        pipelined: bool = False,
        in_doubt: Callable[[], None] | None = None,
    ) -> Iterator[None]:
        """Lock rows as they are written."""
        until = time.monotonic() + self.timeout if deadline is None else deadline
        with self._connected() as connection:
            # The other half of the time is for finding out the outcome.
            limit = max((until - time.monotonic()) / 2, SHORTEST_TRANSACTION)
            transaction = Transaction(connection, limit, limit if patience is None else min(patience, limit))
            try:
                with connection.limited(limit + GRACE), transaction.running(pipelined=pipelined):
                    yield
            except psycopg.Error:
                if not transaction.is_in_doubt:
                    raise
                if in_doubt:
                    in_doubt()
                if not self._was_committed(transaction.id, until):
                    raise

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo a part alone, unless the fault is the server's, or a lock of another transaction."""
        connection = self._current()
        self.run("SAVEPOINT part")
        try:
            yield
            connection.await_answers()
        except Exception as error:
            fault = self.translate(error)
            if isinstance(fault, StoreLocked | StoreUnreachable) or _is_of_the_server(error):
                raise fault from error
            with contextlib.suppress(psycopg.Error):
                connection.await_answers()  # the server skips the statements after the fault up to here
            self.run("ROLLBACK TO SAVEPOINT part")
            raise
        self.run("RELEASE SAVEPOINT part")

    def translate(self, error: Exception) -> Exception:
        """Return StoreLocked, StoreUnreachable or StoreUnavailable for an error of the driver or of peewee."""
        cause = _cause(error)
        if not isinstance(cause, psycopg.Error):
            return StoreUnavailable() if isinstance(error, peewee.PeeweeException) else error
        if cause.sqlstate in _IN_THE_WAY:
            return StoreLocked()
        lost = cause.sqlstate is None and isinstance(cause, psycopg.OperationalError)
        if lost or (cause.sqlstate or "").startswith(_LOST) or cause.sqlstate in _WRONG_SERVER:
            return StoreUnreachable()
        return StoreUnavailable()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Use this thread's connection, or a new one."""
        with self.translated_faults():
            connection = self._current()
            if connection.began_at is not None:  # a part of a writing transaction, which has its own limit
                yield connection
                return
            if connection.was_ended():
                self.close()
                connection = self._current()
            yield connection

    @contextlib.contextmanager
    def limited(self, seconds: float) -> Iterator[Connection]:
        """Use a connection to read; all answers have to come within `seconds`."""
        limit = math.inf if self.is_starting else seconds
        with self._connected() as connection, connection.limited(limit, cancels=True):
            yield connection

    def _current(self) -> Connection:
        connection: Connection = self.engine.connection()
        return connection

    def _was_committed(self, transaction_id: TransactionId, until: float) -> bool:
        """Ask for the outcome of a transaction, over new connections; end it, if it is still open.

        Raises OutcomeUnknown where the server does not know it, or not by `until`.
        """
        while True:
            try:
                self.close()
                with self.limited(self.timeout) as connection:
                    status = transaction_id.status(connection)
            except StoreUnavailable as error:
                _log.warning("the outcome of a transaction is not known yet: %s", error.__cause__)
                status = Status.IN_PROGRESS
            if status is Status.UNKNOWN or (status is Status.IN_PROGRESS and time.monotonic() > until):
                raise OutcomeUnknown
            if status is not Status.IN_PROGRESS:
                return status is Status.COMMITTED
            time.sleep(LOOK_UP_PAUSE)


class _Schema(SchemaAccess):
    """Opens and migrates a database of a server."""

    def __init__(self, database: PostgresqlDatabase) -> None:
        self._database = database

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold an advisory lock in a transaction of a connection of its own, which no pooler gives to others."""
        database = self._database
        with database.translated_faults(), connect(database.url, database.timeout) as guard, guard.transaction():
            guard.execute("SELECT set_config('idle_in_transaction_session_timeout', '0', true)")
            if not guard.execute("SELECT pg_try_advisory_xact_lock(%s)", [MIGRATION_LOCK]).fetchall()[0][0]:
                _log.info("waiting for another process that prepares the store")
                guard.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
            _require_supported(guard)
            database.is_starting = True
            try:
                yield
            finally:
                database.is_starting = False

    @contextlib.contextmanager
    def migration(self) -> Iterator[None]:
        """Wait for a lock for less time than a request does: all requests wait behind one that is waited for."""
        database = self._database
        with database.limited(database.timeout), SchemaMigrator.from_database(database.engine).migration_context():
            database.execute(
                "SELECT set_config('lock_timeout', ?, true), set_config('statement_timeout', '0', true)",
                [str(round(database.timeout * 1000 / 2))],
            )
            yield

    @contextlib.contextmanager
    def untouched(self) -> Iterator[peewee.Database]:
        """Read; a server has a database."""
        with self._database.read():
            yield self._database.engine


class _BulkCopy(BulkCopy):
    """Reads and replaces all rows of a database of a server."""

    def __init__(self, engine: peewee.Database) -> None:
        self._engine = engine

    def stream(self, sql: str, size: int) -> Iterator[list[Row]]:
        """Read from a cursor of the server's."""
        with self._engine.connection().cursor("stream") as cursor:
            cursor.execute(sql.encode())
            while rows := cursor.fetchmany(size):
                yield rows

    def load(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Send them with COPY."""
        try:
            with (
                self._engine.connection().cursor() as cursor,
                cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copy,
            ):
                for row in rows:
                    copy.write_row(row)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise _refused(error) from None

    def lock(self, tables: Sequence[str]) -> None:
        """Lock them all at once."""
        self._engine.connection().send(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")

    def empty(self, tables: Sequence[str]) -> None:
        """Truncate them, which leaves no dead rows."""
        self._engine.connection().send(f"TRUNCATE {', '.join(tables)}")


def _cause(error: Exception) -> Exception:
    cause: Exception = getattr(error, "orig", error)  # peewee keeps the driver's error
    return cause


def _is_of_the_server(error: Exception) -> bool:
    cause = _cause(error)
    return isinstance(cause, psycopg.Error) and (cause.sqlstate or "").startswith(_OF_THE_SERVER)


def _refused(error: psycopg.Error) -> RowRefused:
    """Return why a COPY failed, without the server's own words, which quote the row."""
    line = re.search(r"line ([0-9]+)", error.diag.context or "")
    reason = " ".join(filter(None, (type(error).__name__, error.diag.constraint_name, error.diag.column_name)))
    return RowRefused(reason, int(line[1]) - 1 if line else None)


def _require_supported(connection: Connection) -> None:
    """Raise StartupError for a server that is too old, or that cannot store all characters."""
    if connection.info.server_version // 10_000 < LEAST_VERSION:
        raise StartupError(f"The store needs PostgreSQL {LEAST_VERSION} or newer.")
    ((encoding,),) = connection.execute("SHOW server_encoding").fetchall()
    if encoding != "UTF8":
        raise StartupError(f"The store's database is in {encoding}: make one with ENCODING 'UTF8'.")
