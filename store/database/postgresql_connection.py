"""A connection to PostgreSQL that limits every wait, and sends the statements of a pipeline together.

The driver's own pipelines send each statement by itself: the client makes some system calls for each, and the server is
woken. A transaction of the writer has a dozen statements, and these calls take more time than all the rest. Here they
leave in one piece. `Pipeline` uses the driver's binding of PostgreSQL's library; see there, "Pipeline Mode".
"""

import contextlib
import functools
import itertools
import math
import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, override

import psycopg
from psycopg import conninfo
from psycopg.abc import RV, PQGen
from psycopg.adapt import Transformer
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.waiting import Ready, Wait

INTERVAL = 0.02
"""Seconds between two checks of the clock, while nothing comes from the server."""

CANCEL_TIMEOUT = 0.25
"""Seconds in which a healthy server takes a cancellation."""

SHORTEST_CONNECT = 2
"""Minimum seconds that the library gives a connection."""

PREPARED_AFTER = 5
"""Uses of a statement before it is prepared, which saves its planning."""

_MAX_NAME = 63

type _Wanted[Result] = Generator[Any, Any, Result]


class Prepared:
    """The statements that a connection's server has prepared: after `after` uses of each; never if that is 0."""

    def __init__(self, after: int) -> None:
        self.names: dict[str, bytes] = {}
        self._after = after
        self._uses: Counter[str] = Counter()
        self._numbers = itertools.count()

    def is_due(self, sql: str) -> bool:
        """Count a use of a statement; return whether it is to be prepared first."""
        self._uses[sql] += 1
        return self._uses[sql] == self._after

    def new_name(self) -> bytes:
        """Return an unused name."""
        return b"llm_proxy_%d" % next(self._numbers)


class Answer:
    """The server's answer to a statement; its methods wait for it where it has not come yet."""

    __slots__ = ("_connection", "result")

    def __init__(self, connection: "Connection", result: PGresult | None = None) -> None:
        self.result = result
        self._connection = connection

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows; none for a statement that returns none."""
        result = self._received()
        if result.status != ExecStatus.TUPLES_OK:
            return []
        adapter = Transformer(self._connection)
        adapter.set_pgresult(result)
        return adapter.load_rows(0, result.ntuples, tuple)

    @property
    def changed(self) -> int:
        """The number of changed rows."""
        return self._received().command_tuples or 0

    @property
    def tag(self) -> bytes | None:
        """The command that was run, as the server names it."""
        return self._received().command_status

    def _received(self) -> PGresult:
        if self.result is None:
            self._connection.await_answers()
        if self.result is None:
            raise psycopg.OperationalError("the statement was not run")
        return self.result


class Pipeline:
    """The pipeline that is open on a connection."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._sent: list[Answer] = []
        self._preparing: list[tuple[str, bytes, Answer]] = []

    def send(self, sql: str, parameters: Sequence[object] = ()) -> Answer:
        """Add a statement with `?` for its parameters to those that leave at the next `sync`."""
        pgconn, prepared, values = self._connection.pgconn, self._connection.prepared, [*map(_encoded, parameters)]
        if prepared.is_due(sql):
            name = prepared.new_name()
            pgconn.send_prepare(name, _with_numbers(sql))
            self._preparing.append((sql, name, self._expect()))
            pgconn.send_query_prepared(name, values)
        elif sql in prepared.names:
            pgconn.send_query_prepared(prepared.names[sql], values)
        else:
            pgconn.send_query_params(_with_numbers(sql), values)
        return self._expect()

    def sync(self) -> None:
        """Wait for all answers. Raises the first error among them; the statements after it were not run."""
        sent, self._sent = self._sent, []
        preparing, self._preparing = self._preparing, []
        self._connection.pgconn.pipeline_sync()
        self._connection.wait(self._exchange(sent))
        for sql, name, answer in preparing:
            if answer.result is not None and answer.result.status == ExecStatus.COMMAND_OK:
                self._connection.prepared.names[sql] = name
        self._raise_first(sent)

    def _expect(self) -> Answer:
        self._sent.append(Answer(self._connection))
        return self._sent[-1]

    def _exchange(self, sent: Sequence[Answer]) -> _Wanted[None]:
        pgconn = self._connection.pgconn
        while pgconn.flush():
            if (yield Wait.RW) & Ready.R:
                pgconn.consume_input()
        for answer in sent:
            while (result := (yield from self._next())) is not None:
                answer.result = result
        yield from self._next()  # that of the synchronization

    def _next(self) -> _Wanted[PGresult | None]:
        pgconn = self._connection.pgconn
        while pgconn.is_busy():
            if (yield Wait.R):
                pgconn.consume_input()
        return pgconn.get_result()

    def _raise_first(self, sent: Sequence[Answer]) -> None:
        for answer in sent:
            if answer.result is not None and answer.result.status == ExecStatus.FATAL_ERROR:
                if answer.result.error_field(DiagnosticField.SEVERITY_NONLOCALIZED) in {b"FATAL", b"PANIC"}:
                    self._connection.close()  # as the server does, which may not have been seen yet
                raise psycopg.errors.error_from_result(answer.result)
        if self._connection.closed:
            raise psycopg.OperationalError("the connection is lost")


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is closed when an answer does not come in time."""

    began_at: Callable[[], int] | None = None
    """Returns when the open writing transaction began, in microseconds; None without one."""
    _limit = math.inf
    """A time of the monotonic clock."""
    _cancels = False
    prepared = Prepared(after=0)
    open_pipeline: Pipeline | None = None

    def send(self, sql: str, parameters: Sequence[object] = ()) -> Answer:
        """Run a statement with `?` for its parameters; in a pipeline only once an answer is waited for."""
        if self.open_pipeline is not None:
            return self.open_pipeline.send(sql, parameters)
        return Answer(self, self.execute(_with_places(sql), parameters).pgresult)

    @contextlib.contextmanager
    def pipelined(self) -> Iterator[Pipeline]:
        """Send the statements of the body together."""
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
        """Wait for the answers to all statements that were sent. Raises the first error among them."""
        if self.open_pipeline is not None:
            self.open_pipeline.sync()

    def was_ended(self) -> bool:
        """Tell whether the server has ended the connection, without asking it: then there is something to read."""
        if self.closed:
            return True
        poll = select.poll()  # `select` takes no number above 1023
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    @contextlib.contextmanager
    def limited(self, seconds: float, *, cancels: bool = False) -> Iterator[None]:
        """Limit how long all waits of the body may take together.

        `cancels`: tell the server when they take longer. It would go on for as long as it waits for a lock itself.
        """
        before = self._limit, self._cancels
        self._limit, self._cancels = time.monotonic() + seconds, cancels
        try:
            yield
        finally:
            self._limit, self._cancels = before

    @override
    def wait(self, gen: PQGen[RV], *_: Any, **__: Any) -> RV:
        """Wait for the server, up to the limit. Raises OperationalError."""
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
    """Connect to the first host of a URL that takes writes, with defaults for what the URL leaves open.

    Each host gets `timeout` seconds. Raises psycopg.Error.
    """
    defaults: dict[str, Any] = {
        "connect_timeout": max(SHORTEST_CONNECT, math.ceil(timeout)),
        "target_session_attrs": "read-write",
        "fallback_application_name": _name(),
        "client_encoding": "utf8",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    given = conninfo.conninfo_to_dict(url)
    missing = {name: value for name, value in defaults.items() if name not in given}
    connection = Connection.connect(url, autocommit=True, prepare_threshold=None, **missing)
    with connection.limited(timeout):
        if not _is_pooled(connection):
            connection.prepared = Prepared(PREPARED_AFTER)  # the driver's own preparing would deallocate these too
    return connection


def _is_pooled(connection: Connection) -> bool:
    """Tell whether a pooler is in between, which may give each transaction another server.

    It tells the client a process id of its own.
    """
    ((pid,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
    return bool(pid != connection.info.backend_pid)


def _name() -> str:
    """Return the name that identifies this thread's connection in `pg_stat_activity`."""
    return f"llm-proxy {socket.gethostname()}:{os.getpid()} {threading.current_thread().name}"[:_MAX_NAME]


def _encoded(value: object) -> bytes | None:
    """Encode a parameter as text; the server infers its type from its place.

    The driver's adapters (`Transformer.dump_sequence`) do the same at a price: measured with psycopg 3.3, 6 to 17
    microseconds for a statement of the writer in place of 1 to 4.
    """
    if value is None:
        return None
    if isinstance(value, list):
        return f"{{{','.join(map(_quoted, value))}}}".encode()
    if isinstance(value, bytes):
        return b"\\x" + value.hex().encode()
    return str(value).encode()


def _quoted(text: str) -> str:
    """Write a text as an element of an array; most have nothing to escape, which `replace` finds out the fastest."""
    return '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'


@functools.lru_cache(maxsize=1024)
def _with_numbers(sql: str) -> bytes:
    """Return a statement with the library's placeholders: `$1`, `$2` ..."""
    first, *others = sql.split("?")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))).encode()


@functools.lru_cache(maxsize=1024)
def _with_places(sql: str) -> str:
    """Return a statement with the driver's placeholders: `%s`."""
    return sql.replace("%", "%%").replace("?", "%s")
