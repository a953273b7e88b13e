"""Puts the plain path before mitmproxy's handler of connections, which takes over where a request is for the layers."""

import asyncio
import logging
from typing import Any

from mitmproxy.net.http import url
from mitmproxy.proxy import commands, mode_servers
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.mode_specs import ReverseMode
from mitmproxy.proxy.server_hooks import ClientConnectedHook

from addon.plain.accepting import Origin
from addon.plain.client_connection import ClientConnection
from addon.plain.path import PlainPath
from addon.replacing import replace

_ANNOUNCED = "client connect"


def install(path: PlainPath) -> None:
    """Have all connections of the process begin on the plain path.

    REPLACES: `ProxyConnectionHandler` in mitmproxy.proxy.mode_servers, by a subclass.
    WHY: half of a request's instructions are those of the layers, which carry one event at a time.
    REMOVE WHEN: a mode can have a handler of its own. No upstream issue known.
    """

    class PlainHandler(ProxyConnectionHandler):
        """mitmproxy's handler, which is called once no more requests are for the plain path."""

        is_announced = False
        """True once the hooks and the log know of the connection."""

        async def handle_client(self) -> None:
            mode, writer = self.client.proxy_mode, self.transports[self.client].writer
            if path.is_on and isinstance(mode, ReverseMode) and isinstance(writer, asyncio.StreamWriter):
                self.is_announced = True
                if not await self._serve(_origin(mode), writer):
                    return
            await super().handle_client()

        async def _serve(self, origin: Origin, writer: asyncio.StreamWriter) -> bool:
            """Serve requests, up to one that is for the layers. Returns False if the connection has ended."""
            transport: Any = writer.transport
            reader: Any = self.transports[self.client].reader
            streams = transport.get_protocol()
            connection = ClientConnection(path, self.client, origin, transport)
            transport.set_protocol(connection)
            await connection.serve()
            if connection.is_gone:
                return False
            transport.set_protocol(streams)
            reader.feed_data(connection.ahead)
            transport.resume_reading()
            return True

        async def handle_hook(self, hook: commands.StartHook) -> None:
            if not (self.is_announced and isinstance(hook, ClientConnectedHook)):
                await super().handle_hook(hook)

        def log(self, message: str, level: int = logging.INFO, exc_info: Any = None) -> None:
            if not (self.is_announced and message == _ANNOUNCED):
                super().log(message, level, exc_info)

    replace(mode_servers, "ProxyConnectionHandler", PlainHandler)


def _origin(mode: ReverseMode) -> Origin:
    host, port = mode.address
    return Origin(mode.scheme.encode(), host, port, url.hostport(mode.scheme, host, port).encode())
