"""What mitmproxy's handler of connections forgets.

- It is cancelled to close a connection. Where that happens while it waits to pass on what it has read, it ends without
  closing the socket: a client that sent more than was wanted hangs, and its file stays open.
- An attempt to connect that is cancelled at the wrong moment (before it has begun, or once it has succeeded) is told to
  nobody: its request would wait for ever.
- It opens five connections at once to an address for one client: the sixth request of an HTTP/2 client would wait for
  the answer to another, or for its time to connect to be over.
- It reads whether or not what it reads is taken (backpressure).
- It has idle connections not probed: it would not notice a peer that is gone, and what is in between forgets them.
"""

import asyncio
import contextlib

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.server import ConnectionHandler

from addon.layers import backpressure, upstream_sockets
from store.network.sockets import keep_alive

MOST_CONNECTIONS = 100
"""To one address, for one client: as many as the requests that HTTP/2 lets it have under way."""

_handle_connection = ConnectionHandler.handle_connection
_open_connection = ConnectionHandler.open_connection


async def _handle_patiently_and_close(self: ConnectionHandler, connection: Connection) -> None:
    transport = self.transports[connection]
    if isinstance(transport.reader, asyncio.StreamReader):
        transport.reader = backpressure.PatientReader(transport.reader, connection)  # type: ignore[assignment]
    if isinstance(transport.writer, asyncio.StreamWriter):
        with contextlib.suppress(OSError):  # it has gone already
            keep_alive(transport.writer.get_extra_info("socket"))
    try:
        await _handle_connection(self, connection)
    finally:
        backpressure.release(connection)
        _close_forgotten(self, connection)


async def _open_and_tell(self: ConnectionHandler, command: commands.OpenConnection) -> None:
    self.max_conns.default_factory = _enough
    upstream_sockets.wanted.set(command.connection)
    try:
        await _open_connection(self, command)
    except asyncio.CancelledError:
        if _is_awaited(command):
            error = command.connection.error = command.connection.error or "connection cancelled"
            command.connection.state = ConnectionState.CLOSED
            _close_forgotten(self, command.connection)
            await self.server_event(events.OpenConnectionCompleted(command, error))
        raise


def _is_awaited(command: commands.OpenConnection) -> bool:
    """Tell whether the layer that wants a connection has not been told yet."""
    waiting = command.blocking
    return isinstance(waiting, layer.Layer) and waiting._paused is not None and waiting._paused.command is command  # noqa: SLF001


def _close_forgotten(handler: ConnectionHandler, connection: Connection) -> None:
    forgotten = handler.transports.pop(connection, None)
    if forgotten is not None and forgotten.writer is not None:
        forgotten.writer.close()


def _enough() -> asyncio.Semaphore:
    return asyncio.Semaphore(MOST_CONNECTIONS)


def install() -> None:
    """Mend every connection of the process."""
    ConnectionHandler.handle_connection = _handle_patiently_and_close  # type: ignore[method-assign]  # no hook for it
    ConnectionHandler.open_connection = _open_and_tell  # type: ignore[method-assign]  # the same
