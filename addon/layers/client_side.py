"""The connection of a client: its codec, and the times after which it is closed."""

from collections.abc import Iterable

from mitmproxy.connection import Connection
from mitmproxy.proxy import commands
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import ErrorCode, ResponseProtocolError

from addon import failures
from addon.exchange import Exchanges
from addon.failures import Limits
from addon.layers.client_http1 import ClientCodec
from addon.layers.client_http2 import ClientHttp2
from addon.layers.stream_state import Deliver
from addon.layers.timeouts import Commands
from addon.layers.upstream_side import UpstreamSide
from store.errors import RequestTimeout


class ClientSide(UpstreamSide):
    """The part of AnsweringLayer that keeps the client's connection."""

    def __init__(self, context: Context, exchanges: Exchanges, limits: Limits, deliver: Deliver) -> None:
        super().__init__(context, exchanges, limits, deliver)
        self._lingers = False
        """True once nothing more is written to the client."""
        self._in_headers = self._limit(failures.HEADERS_TIMEOUT, self._refuse_headers)
        self._unused = self._limit(limits.idle_timeout, self._close_unused)
        self._unread = self._limit(failures.LINGER, self._drop_unread)

    def _put_codec(self) -> None:
        """Choose the codec of the client's connection. A replay has put one of its own here already."""
        context = self.context.fork()
        make = ClientHttp2 if self.context.client.alpn == b"h2" else ClientCodec
        self.connections.setdefault(self.context.client, make(context, self._exchanges))

    def _linger(self) -> Commands:
        """Drop what the client still sends once nothing more is written to it: until it hangs up, or LINGER is over."""
        self._lingers = True
        yield from self._wait_for(self._unread, None)

    def _watch_client(self) -> Iterable[commands.Command]:
        codec = self.connections.get(self.context.client)
        if isinstance(codec, ClientHttp2):
            if self._has_stalled:
                self._read_on(codec)
        elif isinstance(codec, ClientCodec):
            if not codec.is_in_headers():
                self._in_headers.stop(codec)
            elif codec not in self._in_headers:
                return self._wait_for(self._in_headers, codec)
        return ()

    def _refuse_headers(self, codec: ClientCodec) -> Commands:
        yield from codec.refuse(RequestTimeout())

    def _close_unused(self, client: Connection) -> Commands:
        """Close a connection without requests, even if something else comes over it: HTTP/2 has pings and more."""
        if self.streams:
            yield from self._wait_for(self._unused, client)
        elif self._last_use is not None:
            since, self._last_use = self._last_use, None
            yield from self._wait_for(self._unused, client, since)
        else:
            yield commands.CloseConnection(client)

    def _drop_unread(self, stream_id: int | None) -> Commands:
        """Hang up on a client that was answered and still sends that request."""
        codec = self.connections[self.context.client]
        if stream_id is None or (isinstance(codec, ClientCodec) and codec.stream_id == stream_id):
            yield commands.CloseConnection(self.context.client)
        elif isinstance(codec, ClientHttp2):
            yield from super().event_to_child(codec, ResponseProtocolError(stream_id, "answered", ErrorCode.CANCEL))
