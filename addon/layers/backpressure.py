"""Backpressure: nothing more is read from a peer while too much of its data waits to be processed.

mitmproxy waits for slow sockets only. Data for a stream that waits (for the store, for a connection), or for a client
whose HTTP/2 window is used up, would pile up as fast as the peer sends.
"""

import asyncio
import weakref
from typing import Protocol

from mitmproxy.connection import Connection

MOST = 1024 * 1024
"""Bytes that may wait for the streams of a connection; up to one read more may wait."""

_held: weakref.WeakKeyDictionary[Connection, asyncio.Event] = weakref.WeakKeyDictionary()


class Reader(Protocol):
    """The part of a stream's reader that mitmproxy uses."""

    async def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes as soon as there are any; none at the end."""


class PatientReader:
    """Reads from a connection, but not while the connection is held."""

    def __init__(self, reader: Reader, connection: Connection) -> None:
        self._reader = reader
        self._connection = connection

    async def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes as soon as there are any and the connection is not held; none at the end."""
        while held := _held.get(self._connection):
            await held.wait()
        return await self._reader.read(n)


def hold(connection: Connection) -> None:
    """Stop reading from a connection."""
    _held.setdefault(connection, asyncio.Event())


def release(connection: Connection) -> None:
    """Go on reading from a connection."""
    held = _held.pop(connection, None)
    if held is not None:
        held.set()


class Backlog:
    """Counts the bytes that wait for each stream of a connection; holds the connection when there are more than MOST.

    An HTTP/2 stream whose data waits holds up the other streams of its connection until the data is processed.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: dict[int, int] = {}

    def add(self, stream_id: int, size: int) -> None:
        """Count bytes that cannot be processed yet."""
        self._waiting[stream_id] = self._waiting.get(stream_id, 0) + size
        if sum(self._waiting.values()) > MOST:
            hold(self._connection)

    def clear(self, stream_id: int) -> None:
        """Forget the bytes of a stream: they are processed, or the stream has ended."""
        if self._waiting.pop(stream_id, None) and sum(self._waiting.values()) <= MOST:
            release(self._connection)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._waiting
