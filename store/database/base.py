"""The interface that the store expects of its database, the same for every engine."""

import abc
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, NamedTuple

import peewee

from store.errors import StoreLocked, StoreUnavailable

type Row = tuple[Any, ...]


SNAPSHOT_TIMEOUT = 60.0
"""Seconds that a report may take."""


class RowRefused(Exception):
    """The database rejects a row. `index` is its place, where that is known; the text says why, without quoting it."""

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason)
        self.index = index


class Statement(NamedTuple):
    """SQL with `?` for its parameters."""

    sql: str
    parameters: Sequence[object] = ()


class SchemaAccess(abc.ABC):
    """The part of a database that only opening and migrating a store use."""

    @abc.abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Keep out every other process that asks for the same: for migrations."""

    @abc.abstractmethod
    def migration(self) -> AbstractContextManager[None]:
        """Run a migration as one transaction of peewee's; inside `exclusive`. It may take any time.

        It waits for locks for less time than a request does. Raises StoreLocked, StoreUnavailable; then nothing was
        written.
        """

    @abc.abstractmethod
    def untouched(self) -> AbstractContextManager[peewee.Database | None]:
        """Read without leaving a trace, not even a file; None where there is no database.

        Raises StoreUnavailable.
        """


class BulkCopy(abc.ABC):
    """The part of a database that only copying a whole store uses."""

    @abc.abstractmethod
    def stream(self, sql: str, size: int) -> Iterator[list[Row]]:
        """Read the rows of a statement in lists of `size`; inside `snapshot` or `write`.

        In a text that is not UTF-8 the wrong bytes are replaced.
        """

    @abc.abstractmethod
    def load(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Add many rows; inside `write`. Raises RowRefused: then the transaction cannot write any more."""

    @abc.abstractmethod
    def lock(self, tables: Sequence[str]) -> None:
        """Keep all others from reading and writing whole tables; inside `write`."""

    @abc.abstractmethod
    def empty(self, tables: Sequence[str]) -> None:
        """Delete all rows of locked tables; inside `write`."""


class LockedRead(NamedTuple):
    """The rows that were read under locks, and the time (microseconds) at which they were: see `read_locked`."""

    now: int
    rows: list[Row]
    locked: list[Row] | None
    """The rows that the first statement has locked; None where everything is locked."""


class Database(abc.ABC):
    """The database of one store. A process has one store, whose models are bound to it.

    Each thread has a connection of its own, opened at its first use and dropped after a fault, so that the next use
    makes a new one: recovery needs no restart.

    `timeout` is how many seconds a method waits, unless it says otherwise.
    """

    engine: peewee.Database
    schema: SchemaAccess
    bulk: BulkCopy

    faults: ClassVar[tuple[type[Exception], ...]] = (peewee.PeeweeException, StoreUnavailable)
    """The exceptions that `translated_faults` translates."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout

    @abc.abstractmethod
    def now(self) -> int:
        """Return the time of the store, in microseconds; inside a writing transaction, of when it began.

        Raises StoreUnavailable.
        """

    @abc.abstractmethod
    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run a statement with `?` for its parameters, and return its rows."""

    @abc.abstractmethod
    def update(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run a writing statement and return how many rows it changed."""

    @abc.abstractmethod
    def run(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run a writing statement without a result.

        In a pipelined transaction it may still be under way when this returns; if it fails, a later step raises.
        """

    @abc.abstractmethod
    def lock_rows(self, select: Statement) -> list[Row]:
        """Lock the rows that a statement selects against changes, in its order; inside a writing transaction.

        Returns them as they are once they are locked. Rows that no longer match then are omitted.
        """

    @abc.abstractmethod
    def read_locked(self, locks: Sequence[Statement], select: Statement) -> LockedRead:
        """Lock the rows that `locks` select against changes, then read; inside a writing transaction.

        Rows are locked in the order of the statements, and each statement's own order. `select` is read after that,
        and so is the time that is returned with its rows (microseconds): both are of a moment in which no other
        transaction can change the locked rows. Where `select` returns no row, the time means nothing.
        """

    @abc.abstractmethod
    def among(self, column: str, values: Sequence[str]) -> Statement:
        """Return the condition that a column has one of some texts."""

    @abc.abstractmethod
    def joined(self, expression: str, separator: str) -> str:
        """Return the aggregate that joins the texts of an expression by a separator; NULL without any."""

    @abc.abstractmethod
    def tables(self, types: Sequence[str], rows: Sequence[Sequence[object]]) -> Sequence[Statement]:
        """Write rows, whose columns have these SQL types, as one table, or as several that hold them in turn.

        There is none without rows.
        Each makes a statement of its own: an engine may support any number of rows, or a few numbers only.
        """

    @abc.abstractmethod
    def update_rows(
        self, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[object]], *, added: Collection[str] = ()
    ) -> None:
        """Set columns, with their SQL types, of rows that the first of them finds; add to those in `added`.

        As with `run`, it may still be under way when this returns.
        """

    @abc.abstractmethod
    def in_ranges(self, ranges: str, source: str) -> str:
        """Return what stands after FROM to join `ranges` with `source` (a table, or a SELECT in parentheses) as `part`.

        Each range has the rows whose `start` is from its `begins` until just before its `ends`. They are found by an
        index, range by range, whatever the engine knows of the tables.
        """

    @abc.abstractmethod
    def read(self) -> AbstractContextManager[None]:
        """Translate the faults of the reading inside. Raises StoreUnavailable."""

    @abc.abstractmethod
    def snapshot(self, *, limit: float = SNAPSHOT_TIMEOUT) -> AbstractContextManager[None]:
        """Read as of one moment, for `limit` seconds at most, without blocking writers.

        Raises StoreUnavailable.
        """

    @abc.abstractmethod
    def write(
        self,
        *,
        deadline: float | None = None,
        patience: float | None = None,
        pipelined: bool = False,
        in_doubt: Callable[[], None] | None = None,
    ) -> AbstractContextManager[None]:
        """Run the body as one transaction, isolated by the rows that it locks; it is durable when this returns.

        It has ended, or failed, at `deadline` (monotonic; default: in `timeout` seconds), and waits `patience` seconds
        for locks at most (default: as long). A `pipelined` one may send statements together; in it only `execute`,
        `update`, `run`, `read_locked` and `savepoint` may be used, not the models.

        `in_doubt` is called when the outcome of the commit is unknown, before the store is asked for it, which may
        take longer. Raises StoreLocked when another transaction held a lock for too long, StoreUnreachable without a
        connection, StoreUnavailable on any other fault; then nothing was written. Raises OutcomeUnknown where the
        outcome could not be found out. An exception from the body rolls back, and passes.
        """

    @abc.abstractmethod
    def savepoint(self) -> AbstractContextManager[None]:
        """Run the body as a part of the writing transaction around it: an exception undoes that part alone.

        Raises what `write` does where the transaction itself cannot go on, and the exception from the body otherwise.
        """

    @abc.abstractmethod
    def tidy(self) -> None:
        """Do maintenance that writers would otherwise have to wait for; called from time to time, in the background."""

    @abc.abstractmethod
    def translate(self, error: Exception) -> Exception:
        """Return the error of the store that stands for one of `faults`; itself where there is none."""

    def check(self) -> None:
        """Check that it can be written to now. Raises StoreUnavailable."""
        with self.write():
            self.touch()

    @abc.abstractmethod
    def wait_for_writers(self) -> None:
        """Return once all writing transactions that have begun by now have ended. Raises StoreUnavailable."""

    def log_size(self) -> int | None:
        """Return the bytes of the database's log, as far as this process can tell."""
        return None

    @abc.abstractmethod
    def version(self) -> str:
        """Return the engine's name and version. Raises StoreUnavailable."""

    @abc.abstractmethod
    def size(self) -> int:
        """Return the bytes of the database, without its log. Raises StoreUnavailable."""

    def touch(self) -> None:
        """Write something that changes nothing; inside `write`."""
        self.run("UPDATE secret SET name = name WHERE name = 'check'")

    def close(self) -> None:
        """Close this thread's connection."""
        with contextlib.suppress(peewee.PeeweeException):
            self.engine.close()

    @contextlib.contextmanager
    def translated_faults(self) -> Iterator[None]:
        """Raise the faults of the body as errors of the store, and drop the connection after all but StoreLocked."""
        try:
            yield
        except self.faults as error:
            fault = self.translate(error)
            if not isinstance(fault, StoreLocked):
                self.close()
            if fault is error:
                raise
            raise fault from error
