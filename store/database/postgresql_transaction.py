"""One transaction of PostgreSQL, and how its outcome is found out when its connection is lost."""

import contextlib
import functools
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus

from store.database.postgresql_connection import Answer, Connection, Pipeline
from store.errors import StoreUnavailable

NOW = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
"""The server's time in microseconds, in SQL."""

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"

# Local to the transaction: behind a pooler the next one has another connection, and this one another user. All writing
# statements find their rows by an index: a plan made while the tables are small would be kept for too long.
_SET = (
    "SELECT set_config('lock_timeout', ?, true), set_config('statement_timeout', ?, true),"
    " set_config('idle_in_transaction_session_timeout', ?, true),"
    " set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true),"
    " set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
    f" {NOW}, CAST(pg_current_xact_id() AS TEXT), pg_backend_pid(),"
    " pg_postmaster_start_time(), pg_stat_get_bgwriter_stat_reset_time()"
)

# After a failover or a crash another transaction may get the number of one that was lost. After a crash of one of its
# processes a server goes on without a new start, but loses its statistics.
_STATUS = (
    "SELECT pg_xact_status(CAST(CAST(%s AS TEXT) AS xid8))"
    " WHERE (pg_postmaster_start_time(), pg_stat_get_bgwriter_stat_reset_time()) = (%s, %s)"
)

# Not while it commits: it would no longer wait for its standby, and be committed on this server alone.
_END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid = %s AND backend_xid = CAST(CAST(CAST(%s AS TEXT) AS xid8) AS xid)"
    " AND (state <> 'active' OR query <> 'COMMIT')"
)


_RETURNED = 5
"""The last columns of _SET's result: the time, and the fields of TransactionId. The others are the new settings."""


class Status(StrEnum):
    """The outcome of a transaction, as `pg_xact_status` returns it."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    IN_PROGRESS = "in progress"
    UNKNOWN = "unknown"


class TransactionId(NamedTuple):
    """Identifies a transaction after its connection is lost."""

    xid: str
    backend: int
    server_start: Any
    statistics_reset: Any

    def status(self, connection: Connection) -> Status:
        """Ask for its outcome. One that is still open is ended: others wait for its locks."""
        rows = connection.execute(_STATUS, [self.xid, self.server_start, self.statistics_reset]).fetchall()
        status = Status(rows[0][0] or Status.UNKNOWN) if rows else Status.UNKNOWN
        if status is Status.IN_PROGRESS:
            connection.execute(_END, [self.backend, self.xid])
        return status


class Transaction:
    """A transaction that may take `limit` seconds, and wait `patience` seconds for each lock."""

    def __init__(self, connection: Connection, limit: float, patience: float) -> None:
        self._connection = connection
        self._limits = [_milliseconds(seconds) for seconds in (patience, limit, limit)]
        self._begun: Answer | None = None
        self._id: TransactionId | None = None

    @property
    def is_in_doubt(self) -> bool:
        """True if the connection was lost after its COMMIT was sent."""
        return self._id is not None and self._connection.closed

    @property
    def id(self) -> TransactionId:
        """Its identity, once its COMMIT was sent."""
        if self._id is None:
            raise RuntimeError("not committing yet")
        return self._id

    @functools.cached_property
    def _beginning(self) -> tuple[Any, ...]:
        """The server's answer to the beginning; waits for it."""
        if self._begun is None:
            raise RuntimeError("not running")
        (row,) = self._begun.rows()
        return row[-_RETURNED:]

    def _began_at(self) -> int:
        """Return when it began, by the server's clock, in microseconds."""
        return int(self._beginning[0])

    @contextlib.contextmanager
    def running(self, *, pipelined: bool) -> Iterator[None]:
        """Begin, and commit at the end; an exception from inside rolls back. Raises psycopg.Error."""
        try:
            with self._pipelined() if pipelined else self._by_itself():
                yield
        except BaseException:
            roll_back(self._connection)
            raise
        finally:
            self._connection.began_at = None

    @contextlib.contextmanager
    def _pipelined(self) -> Iterator[None]:
        with self._connection.pipelined() as pipeline:
            self._begin(pipeline)
            yield
            self._commit(pipeline)

    @contextlib.contextmanager
    def _by_itself(self) -> Iterator[None]:
        with self._connection.pipelined() as pipeline:
            self._begin(pipeline)
            pipeline.sync()
        yield
        with self._connection.pipelined() as pipeline:
            self._commit(pipeline)

    def _begin(self, pipeline: Pipeline) -> None:
        pipeline.send(_BEGIN)
        self._begun = pipeline.send(_SET, self._limits)
        self._connection.began_at = self._began_at

    def _commit(self, pipeline: Pipeline) -> None:
        self._id = TransactionId(*self._beginning[1:])
        end = pipeline.send("COMMIT")
        pipeline.sync()
        if end.tag != b"COMMIT":
            raise StoreUnavailable  # the body has swallowed the error of a statement


def roll_back(connection: Connection) -> None:
    """Roll back the open transaction, if there is one and the connection still works."""
    if not connection.closed and connection.info.transaction_status is not TransactionStatus.IDLE:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))  # 0 means no limit
