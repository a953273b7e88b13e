"""Opens the sockets to the upstream: directly, or in a tunnel through a forward proxy.

mitmproxy would make a forward proxy a connection of its own, below that of the upstream, and its handshake a flow. Here
a tunnel is a socket like any other, and the layers above it see the upstream alone: the grant's destination is checked,
TLS uses the upstream's name, connections are held, given up and reused as without a proxy, and no flow ever holds the
proxy's credentials.

http upstreams get a tunnel too, not requests in absolute form: a proxy may cache or rewrite those, few proxies pass
WebSockets that way, and each request would hold the proxy's credentials beside the upstream's key.
"""

import asyncio
import contextvars
import re
import ssl
import weakref
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import ModuleType
from typing import Any

import certifi
from mitmproxy.connection import Connection, Server
from mitmproxy.proxy import server

from addon.replacing import replace
from store.network.forward_proxy import ForwardProxy, Ways

opening: contextvars.ContextVar[Connection] = contextvars.ContextVar("opening")
"""The connection for which a task opens a socket."""

_MOST_HEAD = 64 * 1024
"""Bytes of the head of a proxy's response."""

_END_OF_HEAD = b"\r\n\r\n"
_NOWHERE = ("", 0)
_SUCCESS = range(200, 300)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})[ \r]")

type Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


_tunnelling: weakref.WeakKeyDictionary[Connection, ForwardProxy] = weakref.WeakKeyDictionary()
"""The connections that wait for a tunnel, and the proxy that is to open it."""


class TunnelError(OSError):
    """A proxy opened no tunnel. The text names the proxy, and never its credentials."""


class UpstreamSockets:
    """Opens sockets to upstreams, through the forward proxy that `ways` gives for a destination, if any."""

    def __init__(self, ways: Ways, trusted: Sequence[bytes]) -> None:
        """Take the ways, and certificates (DER) of authorities that are trusted beside the usual ones for a proxy."""
        self._ways = ways
        has_tls = any(proxy is not None and proxy.tls for proxy in (ways.https, ways.http))
        self._tls = _tls(trusted) if has_tls else None

    async def open(self, connection: Server, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        """Open the socket of a connection, for a protocol. Raises OSError."""
        host, port = (connection.address or _NOWHERE)[:2]
        proxy = self._ways.to(host, port, tls=connection.tls)
        if proxy is not None:
            return await self._open_tunnel(proxy, connection, protocol, (host, port))
        transport, _ = await asyncio.get_running_loop().create_connection(protocol, host, port)
        return transport

    async def open_streams(self, host: str, port: int, **how: Any) -> Streams:
        """Open the socket of the connection that is `opening`, as mitmproxy's handler does. Raises OSError."""
        connection = opening.get()
        proxy = self._ways.to(host, port, tls=connection.tls)
        if proxy is None:
            return await asyncio.open_connection(host, port, **how)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport = await self._open_tunnel(proxy, connection, lambda: protocol, (host, port))
        return reader, _Writer(transport, protocol, reader, loop)

    async def _open_tunnel(
        self,
        proxy: ForwardProxy,
        connection: Connection,
        protocol: Callable[[], asyncio.Protocol],
        destination: tuple[str, int],
    ) -> asyncio.Transport:
        _tunnelling[connection] = proxy
        transport = await _open_tunnel(proxy, self._tls if proxy.tls else None, protocol, destination)
        del _tunnelling[connection]
        return transport


def why_late(connection: Connection) -> str:
    """Return, for an operator, why a connection did not open in time."""
    proxy = _tunnelling.get(connection)
    return "no connection in time" if proxy is None else f"the proxy {proxy} opened no tunnel in time"


class _Writer(asyncio.StreamWriter):
    """A writer that ignores a half-close where the transport has none: TLS has none."""

    def write_eof(self) -> None:
        if self.can_write_eof():
            super().write_eof()


def install(sockets: UpstreamSockets) -> None:
    """Open mitmproxy's connections to upstreams this way too.

    REPLACES: the name `asyncio` in mitmproxy.proxy.server, by a copy of the module with another `open_connection`.
    WHY: reverse mode has no upstream proxy, https://github.com/mitmproxy/mitmproxy/issues/2400 (closed: not planned).
    REMOVE WHEN: an addon can open the socket of a connection itself.
    """
    replaced = ModuleType(asyncio.__name__, "asyncio, for mitmproxy's handler of connections.")
    vars(replaced).update(vars(asyncio), open_connection=sockets.open_streams)
    replace(server, "asyncio", replaced)


class _Opening(asyncio.Protocol):
    """Reads a proxy's response to CONNECT. Data after its head comes from the upstream."""

    def __init__(self, proxy: ForwardProxy, head: asyncio.Future[bytes]) -> None:
        self._proxy = proxy
        self._head = head
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self._head.done():
            return
        head, end, rest = self.data.partition(_END_OF_HEAD)
        if end:
            self._head.set_result(head + end)
            self.data = rest
        elif len(self.data) > _MOST_HEAD:
            self._head.set_exception(TunnelError(f"the proxy {self._proxy} does not speak HTTP"))

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self._head.done():
            self._head.set_exception(TunnelError(f"the proxy {self._proxy} hung up before it opened a tunnel"))


async def _open_tunnel(
    proxy: ForwardProxy,
    tls: ssl.SSLContext | None,
    protocol: Callable[[], asyncio.Protocol],
    destination: tuple[str, int],
) -> asyncio.Transport:
    """Open a tunnel to a destination, for a protocol. Raises TunnelError."""
    loop = asyncio.get_running_loop()
    head: asyncio.Future[bytes] = loop.create_future()
    opener = _Opening(proxy, head)
    try:
        transport, _ = await loop.create_connection(lambda: opener, proxy.host, proxy.port, ssl=tls)
    except OSError as error:
        raise TunnelError(f"the proxy {proxy} cannot be reached: {error.strerror or error}") from None
    try:
        transport.write(proxy.connect_request(*destination))
        _check(proxy, await head)
    except BaseException:
        transport.close()
        raise
    passed_on = protocol()
    transport.set_protocol(passed_on)
    passed_on.connection_made(transport)
    if opener.data:
        passed_on.data_received(opener.data)
    return transport


def _check(proxy: ForwardProxy, head: bytes) -> None:
    """Raise TunnelError unless a proxy's response says that the tunnel is open."""
    found = _STATUS_LINE.match(head)
    if found is None:
        raise TunnelError(f"the proxy {proxy} does not speak HTTP")
    status = int(found[1])
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        raise TunnelError(f"the proxy {proxy} wants other credentials (407): set its user and password in the URL")
    if status not in _SUCCESS:
        raise TunnelError(f"the proxy {proxy} refused a tunnel to the upstream with status {status}")


def _tls(trusted: Sequence[bytes]) -> ssl.SSLContext:
    """Return a context that verifies a proxy as mitmproxy verifies an upstream; the default one rejects some CAs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certifi.where())
    if trusted:
        context.load_verify_locations(cadata=b"".join(trusted))
    return context
