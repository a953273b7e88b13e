"""Fixes of bugs in mitmproxy's connection handler and in its flows."""

import asyncio
import contextlib

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.flow import Flow
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.server import ConnectionHandler

from addon.layers import backpressure, upstream_sockets
from addon.replacing import replace
from addon.serving.listening import spawn
from store.network.sockets import keep_alive

MAX_CONNECTIONS = 100
"""To one address, for one client: as many as an HTTP/2 client may have requests under way."""

_handle_connection = ConnectionHandler.handle_connection
_open_connection = ConnectionHandler.open_connection
_kill = Flow.kill


def install() -> None:
    """Apply the fixes to all connections and flows of the process."""
    replace(ConnectionHandler, "handle_connection", _handle_patiently_and_close)
    replace(ConnectionHandler, "open_connection", _open_and_report)
    replace(Flow, "kill", _kill_and_resume)


async def _handle_patiently_and_close(self: ConnectionHandler, connection: Connection) -> None:
    """Read a connection with backpressure, probe it while it is idle; always close its socket, and report that.

    REPLACES: `ConnectionHandler.handle_connection`, by a wrapper.
    WHY: (1) Cancelled while it waits to pass on data, it may end without closing the socket: a client that sends more
    than is read hangs, and its file stays open. A near relative, https://github.com/mitmproxy/mitmproxy/issues/5034,
    is closed; for this case no upstream issue is known. (2) It reads whether or not the data is processed,
    https://github.com/mitmproxy/mitmproxy/issues/4563 (closed, and still so). (3) Idle connections are not probed: dead
    peers go unnoticed, and middleboxes forget the connection. https://github.com/mitmproxy/mitmproxy/pull/3076 had
    added that; the present core lacks it. (4) Cancelled once more while it waits to report its end, which happens when
    writing fails twice, it reports that to no layer: its requests would wait for ever. No upstream issue known.
    REMOVE WHEN: (1) the socket is closed in a `finally`; (2) a layer can pause reading; (3) SO_KEEPALIVE is set; (4)
    `ConnectionClosed` is sent in any case.
    """
    transport = self.transports[connection]
    if isinstance(transport.reader, asyncio.StreamReader):
        transport.reader = backpressure.PatientReader(transport.reader, connection)  # type: ignore[assignment]
    if isinstance(transport.writer, asyncio.StreamWriter):
        with contextlib.suppress(OSError):  # the peer has gone already
            keep_alive(transport.writer.get_extra_info("socket"))
    try:
        await _handle_connection(self, connection)
    except asyncio.CancelledError:
        if connection in self.transports:
            connection.state = ConnectionState.CLOSED
            await asyncio.shield(spawn(self.server_event(events.ConnectionClosed(connection))))
        raise
    finally:
        backpressure.release(connection)
        _close_forgotten(self, connection)


async def _open_and_report(self: ConnectionHandler, command: commands.OpenConnection) -> None:
    """Open a connection, up to MAX_CONNECTIONS to an address, and report every attempt that is cancelled.

    REPLACES: `ConnectionHandler.open_connection`, by a wrapper.
    WHY: (1) An attempt that is cancelled before it has begun, or after it has succeeded, is reported to no layer: its
    request would wait for ever. No upstream issue known. (2) A client gets five connections to an address: the sixth
    request of an HTTP/2 client would wait for another's response, https://github.com/mitmproxy/mitmproxy/issues/8322.
    And `upstream_sockets` learns here for which connection a socket is opened.
    REMOVE WHEN: (1) `OpenConnectionCompleted` is sent from a `finally`; (2) the number is an option (pull requests 8323
    and 8414 there).
    """
    self.max_conns.default_factory = _connection_limit
    upstream_sockets.opening.set(command.connection)
    try:
        await _open_connection(self, command)
    except asyncio.CancelledError:
        if _is_awaited(command):
            error = command.connection.error = command.connection.error or "connection cancelled"
            command.connection.state = ConnectionState.CLOSED
            _close_forgotten(self, command.connection)
            await self.server_event(events.OpenConnectionCompleted(command, error))
        raise


def _kill_and_resume(self: Flow) -> None:
    """Kill a flow, and let it run to its end if an operator has intercepted it.

    REPLACES: `Flow.kill`, by a wrapper.
    WHY: an intercepted flow stays paused after the kill, and its client waits for ever,
    https://github.com/mitmproxy/mitmproxy/issues/8045.
    REMOVE WHEN: https://github.com/mitmproxy/mitmproxy/pull/8199 is released.
    """
    _kill(self)  # type: ignore[no-untyped-call]
    if self._resume_event is not None:
        self._resume_event.set()


def _is_awaited(command: commands.OpenConnection) -> bool:
    """Return whether a layer still waits for the outcome of this command."""
    waiting = command.blocking
    return isinstance(waiting, layer.Layer) and waiting._paused is not None and waiting._paused.command is command  # noqa: SLF001


def _close_forgotten(handler: ConnectionHandler, connection: Connection) -> None:
    forgotten = handler.transports.pop(connection, None)
    if forgotten is not None and forgotten.writer is not None:
        forgotten.writer.close()


def _connection_limit() -> asyncio.Semaphore:
    return asyncio.Semaphore(MAX_CONNECTIONS)
