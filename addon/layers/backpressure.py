"""Keeps what is read from a peer from piling up: nothing more is read until what came has been taken.

mitmproxy waits for slow sockets only. What is kept for a stream that waits (for the store, for a connection), or for a
client whose HTTP/2 window is used up, grows as fast as the peer sends.
"""

import asyncio
import weakref
from typing import Protocol

from mitmproxy.connection import Connection

MOST = 1024 * 1024
"""Bytes that may wait for the streams of a connection; what is read at once may come on top."""

_held: weakref.WeakKeyDictionary[Connection, asyncio.Event] = weakref.WeakKeyDictionary()


class Reader(Protocol):
    """The part of a stream's reader that mitmproxy uses."""

    async def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes once there are any; none at the end."""


class PatientReader:
    """Reads from a connection, except while it is held."""

    def __init__(self, reader: Reader, connection: Connection) -> None:
        self._reader = reader
        self._connection = connection

    async def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes once there are any, and they are wanted; none at the end."""
        while held := _held.get(self._connection):
            await held.wait()
        return await self._reader.read(n)


def hold(connection: Connection) -> None:
    """Read no more from a connection."""
    _held.setdefault(connection, asyncio.Event())


def release(connection: Connection) -> None:
    """Read on."""
    held = _held.pop(connection, None)
    if held is not None:
        held.set()


class Backlog:
    """Counts the bytes of a connection that wait to be taken, by the stream they are for; holds it when there are many.

    A stream of HTTP/2 whose data waits holds up the others of its connection, for as long as it waits itself.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: dict[int, int] = {}

    def add(self, stream_id: int, size: int) -> None:
        """Count bytes that cannot be taken yet."""
        self._waiting[stream_id] = self._waiting.get(stream_id, 0) + size
        if sum(self._waiting.values()) > MOST:
            hold(self._connection)

    def clear(self, stream_id: int) -> None:
        """Count no more for a stream: it has taken them, or has ended."""
        if self._waiting.pop(stream_id, None) and sum(self._waiting.values()) <= MOST:
            release(self._connection)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._waiting
