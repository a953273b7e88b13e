"""The connections to upstreams, shared by all clients of a process: a new client pays no handshake.

A connection is kept for less time than the upstream keeps it, and only while nothing has come on it: the end of a
connection that crosses a request on its way would lose that request, which is never sent twice.
"""

import asyncio
import collections
import logging
import time
from collections.abc import Callable

from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.options import Options
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from mitmproxy.utils import human

from addon.exchange import Destination
from addon.layers.upstream_sockets import UpstreamSockets, why_late
from addon.plain.upstream_connection import UpstreamConnection
from addon.plain.upstream_tls import CallHook, Tls
from addon.serving.listening import spawn
from store.network.sockets import keep_alive

MAX_IDLE = 256
"""Connections to one destination that are kept without a request."""

_log = logging.getLogger("mitmproxy.proxy.server")


class ConnectFailed(Exception):
    """No connection to the upstream could be opened. The text is for operators."""


class Pool:
    """Connections to upstreams: those without a request, and new ones."""

    def __init__(self, options: Options, call_hook: CallHook, sockets: UpstreamSockets, timeout: float) -> None:
        """Take the seconds until an attempt to connect is given up, TLS included."""
        self._options = options
        self._call_hook = call_hook
        self._sockets = sockets
        self._timeout = timeout
        self._idle: dict[Destination, dict[UpstreamConnection, float]] = collections.defaultdict(dict)
        """The connections without a request, the last used at the end, and the times until which they are kept."""
        self._sweep: asyncio.TimerHandle | None = None

    def idle(self, destination: Destination) -> UpstreamConnection | None:
        """Take the connection that was used last of those that are open and free; None if there is none."""
        idle, now = self._idle[destination], asyncio.get_running_loop().time()
        while idle:
            connection, end = idle.popitem()
            if now < end and connection.is_fresh:
                return connection
            connection.close()
        return None

    def open(self, destination: Destination, client: Client) -> "asyncio.Future[UpstreamConnection]":
        """Open a connection for a client. The future gets ConnectFailed if that fails, or takes too long.

        If the future is done by then, because the client has gone, the connection is kept for others.
        """
        future = asyncio.get_running_loop().create_future()
        spawn(self._open_for(future, destination, client))
        return future

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request, if it can serve one; or close it."""
        idle = self._idle[connection.destination]
        if not connection.release() or not connection.idle_time:
            connection.close()
            return
        if len(idle) >= MAX_IDLE:
            oldest = next(iter(idle))
            del idle[oldest]
            oldest.close()
        loop = asyncio.get_running_loop()
        idle[connection] = loop.time() + connection.idle_time
        self._sweep_at(idle[connection])

    def close(self) -> None:
        """Close the connections without a request, as the process ends."""
        if self._sweep is not None:
            self._sweep.cancel()
        for idle in self._idle.values():
            for connection in [*idle]:
                connection.close()

    def _close_late(self) -> None:
        loop = asyncio.get_running_loop()
        now, self._sweep = loop.time(), None
        for idle in self._idle.values():
            for connection in [one for one, end in idle.items() if end <= now]:
                del idle[connection]
                connection.close()
        ends = [end for idle in self._idle.values() for end in idle.values()]
        if ends:
            self._sweep_at(min(ends))

    def _sweep_at(self, end: float) -> None:
        """Close the late connections at a time, or before it."""
        if self._sweep is not None and self._sweep.when() > end:
            self._sweep.cancel()
            self._sweep = None
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_at(end, self._close_late)

    async def _open_for(
        self, future: "asyncio.Future[UpstreamConnection]", destination: Destination, client: Client
    ) -> None:
        try:
            connection = await self._open(destination, client)
        except ConnectFailed as error:
            if not future.done():
                future.set_exception(error)
        except Exception as error:
            _log.exception("a connection to the upstream could not be opened")
            if not future.done():
                future.set_exception(ConnectFailed(type(error).__name__))
        else:
            if future.done():
                self.give_back(connection)
            else:
                future.set_result(connection)

    async def _open(self, destination: Destination, client: Client) -> UpstreamConnection:
        server = Server(address=(destination.host, destination.port), tls=destination.tls)
        server.sni = destination.host if destination.tls else None
        data = ServerConnectionHookData(server=server, client=client)
        connection = UpstreamConnection(server, self._closed(data))
        try:
            async with asyncio.timeout(self._timeout):
                await self._connect(connection, data)
        except OSError as error:
            server.error = why_late(server) if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            if not server.timestamp_tcp_setup:
                await self._call_hook("server_connect_error", data)
            raise ConnectFailed(server.error) from None
        finally:
            if server.error:
                connection.close()
        return connection

    async def _connect(self, connection: UpstreamConnection, data: ServerConnectionHookData) -> None:
        """Open a connection, with the hooks of that. Raises OSError."""
        server = data.server
        await self._call_hook("server_connect", data)
        if server.error:
            raise ConnectionError(f"Connection killed: {server.error}")
        server.timestamp_start = time.time()
        transport = await self._sockets.open(server, lambda: connection)
        keep_alive(transport.get_extra_info("socket"))
        server.timestamp_tcp_setup = time.time()
        server.state = ConnectionState.OPEN
        server.peername, server.sockname = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        _log.info("server connect %s", human.format_address(server.address), extra={"client": data.client.peername})
        await self._call_hook("server_connected", data)
        if server.tls:
            tls = Tls(data.client, server, self._options, connection.write_raw)
            await connection.start_tls(tls, self._call_hook)

    def _closed(self, data: ServerConnectionHookData) -> Callable[[UpstreamConnection], None]:
        """Return the callable for the end of a connection."""

        def closed(connection: UpstreamConnection) -> None:
            self._idle[connection.destination].pop(connection, None)
            server = data.server
            server.timestamp_end = time.time()
            address = human.format_address(server.address)
            _log.info("server disconnect %s", address, extra={"client": data.client.peername})
            if server.timestamp_tcp_setup:
                spawn(self._call_hook("server_disconnected", data))

        return closed
