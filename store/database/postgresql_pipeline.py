"""Statements of PostgreSQL that are sent together, and answered together.

The driver has pipelines of its own, which send each statement by itself: for each the client makes some system calls,
and the server is woken. A transaction of the writer has a dozen, and these take more than all the rest. Here they leave
in one piece. It is built on the driver's binding of PostgreSQL's library; see there, "Pipeline Mode".
"""

import functools
import itertools
import re
from collections import Counter
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.waiting import Ready, Wait

if TYPE_CHECKING:
    from store.database.postgresql_connection import Connection

type _Wanted[Result] = Generator[Any, Any, Result]


class Prepared:
    """The statements that a connection's server has prepared; `after` so many uses, and never if that is 0."""

    def __init__(self, after: int) -> None:
        self.names: dict[str, bytes] = {}
        self._after = after
        self._uses: Counter[str] = Counter()
        self._numbers = itertools.count()

    def is_due(self, sql: str) -> bool:
        """Tell whether a statement that is about to be sent is to be prepared first."""
        self._uses[sql] += 1
        return self._uses[sql] == self._after

    def new_name(self) -> bytes:
        """Return a name for one more."""
        return b"llm_proxy_%d" % next(self._numbers)


class Answer:
    """What became of a statement; asked for it, it waits for the server."""

    __slots__ = ("_pipeline", "result")

    def __init__(self, pipeline: "Pipeline") -> None:
        self.result: PGresult | None = None
        self._pipeline = pipeline

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows."""
        result = self._received()
        if result.status != ExecStatus.TUPLES_OK:
            return []
        adapter = Transformer(self._pipeline.connection)
        adapter.set_pgresult(result)
        return adapter.load_rows(0, result.ntuples, tuple)

    @property
    def changed(self) -> int:
        """How many rows were changed."""
        return self._received().command_tuples or 0

    @property
    def tag(self) -> bytes | None:
        """What was done, in the server's word."""
        return self._received().command_status

    def _received(self) -> PGresult:
        if self.result is None:
            self._pipeline.sync()
        if self.result is None:
            raise psycopg.OperationalError("the statement was not run")
        return self.result


class Pipeline:
    """The pipeline that is open on a connection."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self._sent: list[Answer] = []
        self._preparing: list[tuple[str, bytes, Answer]] = []

    def send(self, sql: str, parameters: Sequence[object] = ()) -> Answer:
        """Send a statement with `?` for its parameters, or rather keep it until somebody waits."""
        pgconn, prepared, values = self.connection.pgconn, self.connection.prepared, [*map(_as_text, parameters)]
        if prepared.is_due(sql):
            name = prepared.new_name()
            pgconn.send_prepare(name, _numbered(sql))
            self._preparing.append((sql, name, self._expect()))
            pgconn.send_query_prepared(name, values)
        elif sql in prepared.names:
            pgconn.send_query_prepared(prepared.names[sql], values)
        else:
            pgconn.send_query_params(_numbered(sql), values)
        return self._expect()

    def sync(self) -> None:
        """Wait for all answers. Raises the first error among them; what was sent after it was not run."""
        sent, self._sent = self._sent, []
        preparing, self._preparing = self._preparing, []
        self.connection.pgconn.pipeline_sync()
        self.connection.wait(self._exchange(sent))
        for sql, name, answer in preparing:
            if answer.result is not None and answer.result.status == ExecStatus.COMMAND_OK:
                self.connection.prepared.names[sql] = name
        self._raise_first(sent)

    def _expect(self) -> Answer:
        self._sent.append(Answer(self))
        return self._sent[-1]

    def _exchange(self, sent: Sequence[Answer]) -> _Wanted[None]:
        pgconn = self.connection.pgconn
        while pgconn.flush():
            if (yield Wait.RW) & Ready.R:
                pgconn.consume_input()
        for answer in sent:
            while (result := (yield from self._next())) is not None:
                answer.result = result
        yield from self._next()  # that of the synchronization

    def _next(self) -> _Wanted[PGresult | None]:
        pgconn = self.connection.pgconn
        while pgconn.is_busy():
            if (yield Wait.R):
                pgconn.consume_input()
        return pgconn.get_result()

    def _raise_first(self, sent: Sequence[Answer]) -> None:
        for answer in sent:
            if answer.result is not None and answer.result.status == ExecStatus.FATAL_ERROR:
                if answer.result.error_field(DiagnosticField.SEVERITY_NONLOCALIZED) in {b"FATAL", b"PANIC"}:
                    self.connection.close()  # as the server does, which may not have been seen yet
                raise psycopg.errors.error_from_result(answer.result)
        if self.connection.closed:
            raise psycopg.OperationalError("the connection is lost")


def _as_text(value: object) -> bytes | None:
    """Write a parameter, whose type the server sees by its place."""
    if value is None:
        return None
    if isinstance(value, list):
        return b"{%s}" % b",".join(b'"%s"' % re.sub(rb'(["\\])', rb"\\\1", _as_text(part) or b"") for part in value)
    if isinstance(value, bytes):
        return b"\\x" + value.hex().encode()
    return str(value).encode()


@functools.lru_cache(maxsize=1024)
def _numbered(sql: str) -> bytes:
    """Write a statement of ours with the library's signs for its parameters."""
    first, *others = sql.split("?")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))).encode()
