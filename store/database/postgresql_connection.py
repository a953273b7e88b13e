"""A connection to PostgreSQL that never waits for longer than it may, whatever has become of the network."""

import contextlib
import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, override

import psycopg
from psycopg import conninfo
from psycopg.abc import RV, PQGen

from store.database.postgresql_pipeline import Pipeline, Prepared

INTERVAL = 0.02
"""Seconds between two looks at the clock, while nothing comes from the server."""

CANCEL_TIMEOUT = 0.25
"""Seconds in which a server that is well takes a cancellation."""

SHORTEST_CONNECT = 2
"""Seconds that the library gives a connection at least."""

PREPARED_AFTER = 5
"""Times that a statement is sent before it is prepared, which saves its planning."""

_MAX_NAME = 63


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is closed when an answer does not come in time."""

    began_at: Callable[[], int] | None = None
    """Tells when the writing transaction began that is open, in microseconds."""
    _limit = math.inf
    """A time of the monotonic clock."""
    _cancels = False
    prepared = Prepared(after=0)
    open_pipeline: Pipeline | None = None

    @contextlib.contextmanager
    def pipelined(self) -> Iterator[Pipeline]:
        """Send statements together inside."""
        self.pgconn.enter_pipeline_mode()
        self.open_pipeline = Pipeline(self)
        try:
            yield self.open_pipeline
        except BaseException:
            if not self.closed:
                with contextlib.suppress(psycopg.Error):
                    self.open_pipeline.sync()
            raise
        finally:
            self.open_pipeline = None
            if not self.closed:
                self.pgconn.exit_pipeline_mode()

    def await_answers(self) -> None:
        """Wait for all that was sent. Raises what failed of it."""
        if self.open_pipeline is not None:
            self.open_pipeline.sync()

    def was_ended(self) -> bool:
        """Tell whether the server has ended it, as far as can be seen without asking: then there is an end to read."""
        if self.closed:
            return True
        poll = select.poll()  # `select` takes no number above 1023
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    @contextlib.contextmanager
    def limited(self, seconds: float, *, cancels: bool = False) -> Iterator[None]:
        """Let all answers that are waited for inside come within some seconds.

        `cancels`: the server is told when they do not. It would go on for as long as it is itself kept waiting.
        """
        before = self._limit, self._cancels
        self._limit, self._cancels = time.monotonic() + seconds, cancels
        try:
            yield
        finally:
            self._limit, self._cancels = before

    @override
    def wait(self, gen: PQGen[RV], *_: Any, **__: Any) -> RV:
        """Wait for the server, as long as there is time. Raises OperationalError."""
        return super().wait(self._limited(gen), INTERVAL)

    def _limited(self, gen: PQGen[RV]) -> Generator[Any, Any, RV]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= self._limit:
                    self._give_up()
                    raise psycopg.OperationalError("the server did not answer in time")
                wanted = gen.send(ready)
        except StopIteration as end:
            value: RV = end.value
            return value

    def _give_up(self) -> None:
        if self._cancels:
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCEL_TIMEOUT)
        self.close()


def connect(url: str, timeout: float) -> Connection:
    """Connect to the first host of a URL that takes writes; what the URL does not say is said here.

    Each host gets `timeout` seconds. Raises psycopg.Error.
    """
    options: dict[str, Any] = {
        "connect_timeout": max(SHORTEST_CONNECT, math.ceil(timeout)),
        "target_session_attrs": "read-write",
        "fallback_application_name": _name(),
        "client_encoding": "utf8",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    said = conninfo.conninfo_to_dict(url)
    missing = {name: value for name, value in options.items() if name not in said}
    connection = Connection.connect(url, autocommit=True, prepare_threshold=None, **missing)
    with connection.limited(timeout):
        if not _is_pooled(connection):
            connection.prepared = Prepared(PREPARED_AFTER)  # the driver's own preparing would deallocate these too
    return connection


def _is_pooled(connection: Connection) -> bool:
    """Tell whether a pooler is in between, which may give each transaction another server, and has none of its own."""
    ((pid,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
    return bool(pid != connection.info.backend_pid)


def _name() -> str:
    """Return what tells this thread's connection from others in `pg_stat_activity`."""
    return f"llm-proxy {socket.gethostname()}:{os.getpid()} {threading.current_thread().name}"[:_MAX_NAME]
