"""What the store may expect of its database, whichever engine it is."""

import abc
import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import peewee

type Row = tuple[Any, ...]


SNAPSHOT_TIMEOUT = 60.0
"""Seconds that a report may take."""


class RowRefused(Exception):
    """A database does not take rows; `index` tells which, where that is known, and the text why, without quoting it."""

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason)
        self.index = index


class Statement(NamedTuple):
    """SQL of ours, with `?` for its parameters."""

    sql: str
    parameters: Sequence[object] = ()


class Database(abc.ABC):
    """One store's database. A process has one store, whose models are bound to it.

    Each thread has a connection of its own, opened when it is first needed and dropped after a fault, so that the next
    use makes a new one: recovery needs no restart.

    `timeout` is how many seconds anybody waits for it, unless said otherwise.
    """

    engine: peewee.Database

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout

    @abc.abstractmethod
    def now(self) -> int:
        """Return the time of the store, in microseconds; inside a writing transaction, of when it began.

        Raises StoreUnavailable.
        """

    @abc.abstractmethod
    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement of ours, with `?` for its parameters, and return its rows."""

    @abc.abstractmethod
    def update(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one writing statement of ours and return how many rows it changed."""

    @abc.abstractmethod
    def run(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run one writing statement of ours of which nobody asks anything.

        In a pipelined transaction it may still be under way when this returns; if it fails, a later step does.
        """

    @abc.abstractmethod
    def lock_rows(self, select: Statement) -> list[Row]:
        """Keep all others from changing the rows that a statement selects, in its order; inside a writing transaction.

        Returns them as they are then. Those that others have changed meanwhile, so that they are not among them any
        more, are left out.
        """

    @abc.abstractmethod
    def read_locked(self, locks: Sequence[Statement], select: Statement) -> tuple[int, list[Row]]:
        """Keep all others from changing the rows that `locks` select, then read; inside a writing transaction.

        Rows are locked in the order of the statements, and each one's own order. What `select` returns is read after
        that, and so is the time that is returned along with it (microseconds): both are as of a moment in which nobody
        else can change them any more. Where it returns no row, nor is there a time that means anything.
        """

    @abc.abstractmethod
    def among(self, column: str, values: Sequence[str]) -> Statement:
        """Write the condition that a column has one of some texts."""

    @abc.abstractmethod
    def tables(self, types: Sequence[str], rows: Sequence[Sequence[object]]) -> Sequence[Statement]:
        """Write some rows, whose columns have these types of SQL, as one table, or as several that have them in turn.

        Each makes a statement of its own: an engine may keep those of any size, or of a few sizes only.
        """

    @abc.abstractmethod
    def read(self) -> AbstractContextManager[None]:
        """Translate the faults of the reading inside. Raises StoreUnavailable."""

    @abc.abstractmethod
    def snapshot(self, *, limit: float = SNAPSHOT_TIMEOUT) -> AbstractContextManager[None]:
        """Read what is inside as of one moment, for `limit` seconds at most, beside those who write.

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
        """Run what is inside as one transaction, alone with the rows that it locks; it is durable when this returns.

        It is over, or has failed, at `deadline` (monotonic; default: in `timeout` seconds), and waits `patience`
        seconds for others at most (default: as long). In a `pipelined` one what is run need not be answered one by
        one; only `execute`, `update`, `run`, `read_locked` and `savepoint` may be used in it, not the models.

        `in_doubt` is called where only the store itself knows whether it was written, before it is asked: that may take
        longer. Raises StoreLocked when others were in the way, StoreUnreachable without a connection, StoreUnavailable
        on any other fault; then nothing was written. Raises OutcomeUnknown where that could not be found out. An
        exception from inside rolls back, and passes.
        """

    @abc.abstractmethod
    def savepoint(self) -> AbstractContextManager[None]:
        """Run what is inside as a part of the writing transaction around it, which an exception undoes alone.

        Raises what `write` does where the transaction itself cannot go on, and the exception from inside otherwise.
        """

    @abc.abstractmethod
    def exclusive(self) -> AbstractContextManager[None]:
        """Keep out every other process that asks for the same, until this ends: for migrations."""

    @abc.abstractmethod
    def migration(self) -> AbstractContextManager[None]:
        """Run a migration as one transaction of peewee's; inside `exclusive`, for as long as it takes.

        It waits for others for less than a request does. Raises StoreLocked, StoreUnavailable; then nothing was done.
        """

    @abc.abstractmethod
    def untouched(self) -> AbstractContextManager[peewee.Database | None]:
        """Read without leaving any trace, not even a file; None stands for a database that is not there.

        Raises StoreUnavailable.
        """

    @abc.abstractmethod
    def stream(self, sql: str, size: int) -> Iterator[list[Row]]:
        """Read the rows of a statement in lists of so many; inside `snapshot` or `write`.

        A text that is none in UTF-8 comes with what stands for the bytes that are wrong.
        """

    @abc.abstractmethod
    def load(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Add many rows; inside `write`. Raises RowRefused: then nothing can be written any more."""

    @abc.abstractmethod
    def lock(self, tables: Sequence[str]) -> None:
        """Keep all others from reading and writing whole tables; inside `write`."""

    @abc.abstractmethod
    def empty(self, tables: Sequence[str]) -> None:
        """Delete all rows; inside `write`, of tables that are locked."""

    @abc.abstractmethod
    def tidy(self) -> None:
        """Do apart what writing would sometimes have to do besides; from time to time, where nobody waits."""

    def check(self) -> None:
        """Find out whether it can be written to now. Raises StoreUnavailable."""
        with self.write():
            self.touch()

    def touch(self) -> None:
        """Write something that changes nothing; inside `write`."""
        self.run("UPDATE secret SET name = name WHERE name = 'check'")

    def close(self) -> None:
        """Close this thread's connection."""
        with contextlib.suppress(peewee.PeeweeException):
            self.engine.close()
