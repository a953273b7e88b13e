"""TLS to an upstream, with mitmproxy's own handshake: its options, its hooks and its errors stay what they are."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from mitmproxy.connection import Client, Server
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ServerTLSLayer
from mitmproxy.proxy.tunnel import TunnelState
from OpenSSL import SSL

_log = logging.getLogger("mitmproxy.proxy.server")

_MOST = 65535
"""Bytes that are read from OpenSSL at once."""

type CallHook = Callable[[str, object], Coroutine[Any, Any, None]]
"""Calls the hooks of a name with one argument."""


class TlsError(OSError):
    """There is no TLS connection. The text is for operators."""


class _Above(layer.Layer):
    """The layer above TLS during the handshake: an upstream that sends something by then speaks no HTTP."""

    has_data = False

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        self.has_data |= isinstance(event, events.DataReceived)
        yield from ()


class Tls:
    """One TLS connection, between a socket and the plain text."""

    def __init__(self, client: Client, server: Server, options: Options, write: Callable[[bytes], None]) -> None:
        """Take the upstream's connection, and `write`, which sends bytes over its socket.

        `client` is the one for which it is opened: mitmproxy's hooks name it.
        """
        context = Context(client, options)
        context.server = server
        self._server = server
        self._write = write
        self._layer = ServerTLSLayer(context)
        self._above = self._layer.child_layer = _Above(context)
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.is_closed = False
        """True once the upstream has ended the connection, or broken it."""

    async def handshake(self, call_hook: CallHook) -> None:
        """Make the connection. Raises TlsError."""
        await self._handle(events.Start(), call_hook)
        while self._layer.tunnel_state is TunnelState.ESTABLISHING:
            data = await self._incoming.get()
            event = events.DataReceived(self._server, data) if data else events.ConnectionClosed(self._server)
            await self._handle(event, call_hook)
        if self._layer.tunnel_state is not TunnelState.OPEN or self._above.has_data:
            raise TlsError(self._server.error or "the upstream spoke before it was asked")

    def feed_handshake(self, data: bytes) -> None:
        """Take bytes of the socket during the handshake; none for its end."""
        self._incoming.put_nowait(data)

    def decrypt(self, data: bytes) -> bytes:
        """Return the plain text of the socket's next bytes. What TLS itself has to say is written."""
        ssl = self._layer.tls
        ssl.bio_write(data)
        plain = []
        try:
            while True:
                plain.append(ssl.recv(_MOST))
        except SSL.WantReadError:
            pass
        except SSL.Error:
            self.is_closed = True
        self._flush()
        return b"".join(plain)

    def send(self, data: bytes) -> None:
        """Encrypt and write a plain text."""
        try:
            self._layer.tls.sendall(data)
        except SSL.Error:
            self.is_closed = True
        self._flush()

    def _flush(self) -> None:
        try:
            while True:
                self._write(self._layer.tls.bio_read(_MOST))
        except SSL.WantReadError:
            pass

    async def _handle(self, event: events.Event, call_hook: CallHook) -> None:
        """Pass an event to mitmproxy's layer, and carry out its commands."""
        waiting: list[events.Event] = [event]
        while waiting:
            for command in self._layer.handle_event(waiting.pop(0)):
                if isinstance(command, commands.SendData):
                    self._write(command.data)
                elif isinstance(command, commands.StartHook):
                    await call_hook(command.name, command.args()[0])
                    waiting.append(events.HookCompleted(command))
                elif isinstance(command, commands.Log):
                    _log.log(command.level, command.message)
