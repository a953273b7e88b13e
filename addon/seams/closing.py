"""Closes the connections that mitmproxy forgets.

A connection's handler is cancelled to close it. Where that happens while it waits to pass on what it has read,
mitmproxy ends it without closing the socket: a client that sent more than was wanted hangs, and its file stays open.
"""

from mitmproxy.connection import Connection
from mitmproxy.proxy.server import ConnectionHandler

_handle_connection = ConnectionHandler.handle_connection


async def _handle_and_close(self: ConnectionHandler, connection: Connection) -> None:
    try:
        await _handle_connection(self, connection)
    finally:
        forgotten = self.transports.pop(connection, None)
        if forgotten is not None and forgotten.writer is not None:
            forgotten.writer.close()


def install() -> None:
    """Have mitmproxy close every connection of the process whose handler has ended."""
    ConnectionHandler.handle_connection = _handle_and_close  # type: ignore[method-assign]  # it has no hook for it
