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
from collections.abc import Sequence
from http import HTTPStatus
from types import ModuleType
from typing import Any

import certifi
from mitmproxy.connection import Connection
from mitmproxy.proxy import server

from addon.replacing import replace
from store.network.forward_proxy import ForwardProxy, Ways

opening: contextvars.ContextVar[Connection] = contextvars.ContextVar("opening")
"""The connection for which a task opens a socket."""

_MOST_HEAD = 64 * 1024
"""Bytes that a reader may hold (asyncio's own default), which bounds the head of a proxy's response."""

_SUCCESS = range(200, 300)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})[ \r]")

type Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_tunnelling: weakref.WeakKeyDictionary[Connection, ForwardProxy] = weakref.WeakKeyDictionary()
"""The connections that wait for a tunnel, and the proxy that is to open it."""


class TunnelError(OSError):
    """A proxy opened no tunnel. The text names the proxy, and never its credentials."""


class _Writer(asyncio.StreamWriter):
    """A writer that ignores a half-close where the transport has none: TLS has none."""

    def write_eof(self) -> None:
        if self.can_write_eof():
            super().write_eof()


def install(ways: Ways, trusted: Sequence[bytes]) -> None:
    """Open connections to upstreams through the forward proxy that `ways` gives for a destination, if any.

    `trusted` are certificates (DER) of authorities that are trusted beside the usual ones for a proxy that has TLS.

    REPLACES: the name `asyncio` in mitmproxy.proxy.server, by a copy of the module with another `open_connection`.
    WHY: reverse mode has no upstream proxy, https://github.com/mitmproxy/mitmproxy/issues/2400 (closed: not planned).
    REMOVE WHEN: an addon can open the socket of a connection itself.
    """
    has_tls = any(proxy is not None and proxy.tls for proxy in (ways.https, ways.http))
    tls = _tls(trusted) if has_tls else None

    async def open_connection(host: str, port: int, **how: Any) -> Streams:
        connection = opening.get()
        proxy = ways.to(host, port, tls=connection.tls)
        if proxy is None:
            return await asyncio.open_connection(host, port, **how)
        _tunnelling[connection] = proxy
        streams = await _tunnel(proxy, tls if proxy.tls else None, host, port)
        del _tunnelling[connection]
        return streams

    replaced = ModuleType(asyncio.__name__, "asyncio, for mitmproxy's handler of connections.")
    vars(replaced).update(vars(asyncio), open_connection=open_connection)
    replace(server, "asyncio", replaced)


def why_late(connection: Connection) -> str:
    """Return, for an operator, why a connection did not open in time."""
    proxy = _tunnelling.get(connection)
    return "no connection in time" if proxy is None else f"the proxy {proxy} opened no tunnel in time"


async def _tunnel(proxy: ForwardProxy, tls: ssl.SSLContext | None, host: str, port: int) -> Streams:
    """Open a tunnel to a destination. Raises TunnelError."""
    reader, writer = await _connect(proxy, tls)
    try:
        writer.write(proxy.connect_request(host, port))
        _check(proxy, await _head(proxy, reader))
    except BaseException:
        writer.close()
        raise
    return reader, writer


async def _connect(proxy: ForwardProxy, tls: ssl.SSLContext | None) -> Streams:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(_MOST_HEAD, loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    try:
        transport, _ = await loop.create_connection(lambda: protocol, proxy.host, proxy.port, ssl=tls)
    except OSError as error:
        raise TunnelError(f"the proxy {proxy} cannot be reached: {error.strerror or error}") from None
    return reader, _Writer(transport, protocol, reader, loop)


async def _head(proxy: ForwardProxy, reader: asyncio.StreamReader) -> bytes:
    """Read the head of a proxy's response. Data after it comes from the upstream."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise TunnelError(f"the proxy {proxy} does not speak HTTP") from None
    except (asyncio.IncompleteReadError, OSError):
        raise TunnelError(f"the proxy {proxy} hung up before it opened a tunnel") from None


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
