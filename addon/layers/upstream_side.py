"""The connections to the upstream: opened, reused and given up in time, and held while a client does not read."""

from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    GetHttpConnection,
    Http1Client,
    HttpStream,
    RegisterHttpConnection,
    RequestProtocolError,
)

from addon.exchange import Exchanges
from addon.failures import Limits
from addon.layers import backpressure, upstream_sockets
from addon.layers.client_http2 import ClientHttp2
from addon.layers.stream_state import Deliver, StreamsLayer
from addon.layers.timeouts import Commands


class UpstreamSide(StreamsLayer):
    """The part of AnsweringLayer that keeps the connections to the upstream."""

    def __init__(self, context: Context, exchanges: Exchanges, limits: Limits, deliver: Deliver) -> None:
        super().__init__(context, exchanges, limits, deliver)
        self._connecting = self._limit(limits.connect_timeout, self._give_up_connecting)
        self._has_stalled = False

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> Commands:
        """Connect to the upstream, within the connect timeout."""
        if not all(known.connected for known in self.connections):
            self._forget_closed_connections()
        yield from super().get_connection(event, reuse=reuse)
        for connection in self.waiting_for_establishment:
            if connection not in self._connecting:
                yield from self._wait_for(self._connecting, connection)

    def register_connection(self, command: RegisterHttpConnection) -> Commands:
        """Note that a connection is usable, or has failed."""
        self._connecting.stop(command.connection)
        if command.connection in self.waiting_for_establishment:  # no stream waits for one that was given up
            yield from super().register_connection(command)

    def _forget_closed_connections(self) -> None:
        """Remove closed connections. mitmproxy keeps them, and would answer the next attempt with the old error."""
        used = {stream.flow.server_conn for stream in self.streams.values() if hasattr(stream, "flow")}
        kept = used | self.waiting_for_establishment.keys() | {self.context.client}
        for connection in [known for known in self.connections if known not in kept and not known.connected]:
            del self.connections[connection]

    def _give_up_connecting(self, connection: Connection) -> Commands:
        """Answer the streams that wait for a connection at once; the attempt itself may take a while to end."""
        yield commands.CloseConnection(connection)
        yield from self.register_connection(RegisterHttpConnection(connection, upstream_sockets.why_late(connection)))

    def _hang_up_on_upstream(self, stream: HttpStream) -> Commands:
        upstream, exchange = self.connections.get(stream.flow.server_conn), self._exchange_of(stream.stream_id)
        if upstream is None or exchange is None or exchange.sent_at is None or _is_done(upstream, stream.stream_id):
            return
        gone = RequestProtocolError(stream.stream_id, "answered by the gateway", ErrorCode.CANCEL)
        yield from super().event_to_child(upstream, gone)

    def _stall(self, codec: ClientHttp2, stream_id: int) -> None:
        """Stop reading from an upstream while the client does not take what came of its response.

        An HTTP/2 connection to the upstream is read on: it carries the responses to other requests too.
        """
        stream, state = self.streams.get(stream_id), self._states.get(stream_id)
        if stream is None or state is None or not codec.is_full(stream_id) or stream.flow.server_conn.alpn == b"h2":
            return
        state.stalled_upstream = stream.flow.server_conn
        self._has_stalled = True
        backpressure.hold(stream.flow.server_conn)

    def _read_on(self, codec: ClientHttp2) -> None:
        """Read on from the upstreams whose clients have taken what came."""
        stalled = {stream_id: state for stream_id, state in self._states.items() if state.stalled_upstream}
        for stream_id, state in stalled.items():
            if not codec.is_full(stream_id):
                state.release_upstream()
        self._has_stalled = any(state.stalled_upstream for state in stalled.values())


def _is_done(upstream: layer.Layer, stream_id: int) -> bool:
    """Tell whether an upstream's HTTP/1 connection has completed this stream's request and response, and is free."""
    codec = upstream.context.layers[-1]
    return isinstance(codec, Http1Client) and codec.stream_id != stream_id
