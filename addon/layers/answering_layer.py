"""mitmproxy's HTTP layer, answering in JSON and in time whatever happens. One a client connection.

A layer turns events (data came, a hook ended) into commands (send this, open that). This one changes these things:

- A failure that would end in mitmproxy's HTML page, or in a bare close, is answered in JSON instead, and the
  connection stays usable where HTTP allows it.
- An upstream that does not connect, does not answer or does not go on is given up after a time; so is a client that
  does not go on with its request.
- A body that turns out to be too large, or malformed, is refused while it comes.
- A client that is answered before its request has ended gets some time to read that.
- What comes faster than it is taken is not read (backpressure).
"""

import logging
import time
from collections.abc import Iterable
from typing import Protocol

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    Http1Client,
    HttpEvent,
    HttpRequestHeadersHook,
    HttpStream,
    RegisterHttpConnection,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)

from addon import responses
from addon.exchange import Exchange, Exchanges
from addon.layers import backpressure, upstream_sockets
from addon.layers.backpressure import Backlog
from addon.layers.client_http1 import MALFORMED, ClientCodec
from addon.layers.client_http2 import ClientHttp2
from addon.layers.timed_layer import Commands, TimedLayer
from store.errors import (
    GatewayError,
    InvalidRequest,
    RequestTimeout,
    RequestTooLarge,
    ServiceUnavailable,
    UpstreamTimeout,
)

_log = logging.getLogger(__name__)

HEADERS_TIMEOUT = 30
"""Seconds from the first byte of a request to the end of its headers."""

LINGER = 30
"""Seconds for which the rest of a request is read and dropped, once it has been answered."""

_CONTINUE = 100
"""The status of mitmproxy's own word to a client that waits with its body; the answer is still to come."""

_MALFORMED = {
    ErrorCode.GENERIC_CLIENT_ERROR,
    ErrorCode.REQUEST_VALIDATION_FAILED,
    ErrorCode.DESTINATION_UNKNOWN,
}
_NO_UPSTREAM = {
    ErrorCode.CONNECT_FAILED,
    ErrorCode.GENERIC_SERVER_ERROR,
    ErrorCode.RESPONSE_VALIDATION_FAILED,
    ErrorCode.RESPONSE_TOO_LARGE,
}


class Limits(Protocol):
    """The settings that this layer needs; times in seconds."""

    @property
    def connect_timeout(self) -> float:
        """From the first packet to a usable connection, TLS included."""

    @property
    def first_byte_timeout(self) -> float:
        """From the end of the request to the headers of the answer."""

    @property
    def idle_timeout(self) -> float:
        """From one piece of a body to the next, either way."""

    @property
    def max_body(self) -> int:
        """Bytes that a request's body may have."""


class AnsweringLayer(TimedLayer):
    """See the module's text."""

    def __init__(self, context: Context, exchanges: Exchanges, limits: Limits) -> None:
        super().__init__(context)
        self._exchanges = exchanges
        self._max_body = limits.max_body
        self._of_stream: dict[int, Exchange] = {}
        self._body_sizes: dict[int, int] = {}
        self._refused_early: dict[int, GatewayError] = {}
        self._answered: set[int] = set()
        self._backlog = Backlog(context.client)
        self._stalled: dict[int, Connection] = {}
        self._lingers = False
        self._last_use = 0.0
        self._in_headers = self._limit(HEADERS_TIMEOUT, self._refuse_headers)
        self._connecting = self._limit(limits.connect_timeout, self._give_up_connecting)
        self._unanswered = self._limit(limits.first_byte_timeout, self._give_up_unanswered)
        self._going_on = self._limit(limits.idle_timeout, self._give_up_idle)
        self._unused = self._limit(limits.idle_timeout, self._close_unused)
        self._unread = self._limit(LINGER, self._drop_unread)

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.ConnectionEvent) and not self._is_awaited(event.connection):
            return
        try:
            if isinstance(event, events.Start):
                self._put_codec()
                yield from self._wait_for(self._unused, self.context.client)
            for command in super()._handle_event(event):
                yield command
                if isinstance(command, commands.CloseTcpConnection) and command.connection is self.context.client:
                    yield from self._linger()
            yield from self._watch_client()
        except Exception:
            # mitmproxy would log that and leave the client hanging.
            _log.exception("cut a connection")
            yield commands.CloseConnection(self.context.client)

    def _is_awaited(self, connection: Connection) -> bool:
        if connection is self.context.client:
            return not self._lingers  # it has been answered; what it still sends has no taker
        return connection in self.connections  # another has taken its place

    def _put_codec(self) -> None:
        """Choose how to speak with the client. A replay has put a codec of its own here already."""
        context = self.context.fork()
        codec = ClientHttp2(context, self._exchanges) if self.context.client.alpn == b"h2" else ClientCodec(context)
        self.connections.setdefault(self.context.client, codec)

    def event_to_child(self, child: layer.Layer | HttpStream, event: events.Event) -> Commands:
        """Pass an event on: to a stream (towards the hooks) or to a codec (towards the wire)."""
        if isinstance(child, HttpStream):
            return self._event_to_stream(child, event)
        return self._event_to_codec(child, event)

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> Commands:
        """Connect to the upstream, for a limited time."""
        if not all(known.connected for known in self.connections):
            self._forget_closed_connections()
        yield from super().get_connection(event, reuse=reuse)
        for connection in self.waiting_for_establishment:
            if connection not in self._connecting:
                yield from self._wait_for(self._connecting, connection)

    def register_connection(self, command: RegisterHttpConnection) -> Commands:
        """Take note that a connection is usable, or has failed."""
        self._connecting.stop(command.connection)
        if command.connection in self.waiting_for_establishment:  # nobody is, once it was given up
            yield from super().register_connection(command)

    def _forget_closed_connections(self) -> None:
        """Make room, and the next attempt a new one: mitmproxy would keep the closed, and repeat the old error."""
        used = {stream.flow.server_conn for stream in self.streams.values() if hasattr(stream, "flow")}
        kept = used | self.waiting_for_establishment.keys() | {self.context.client}
        for connection in [known for known in self.connections if known not in kept and not known.connected]:
            del self.connections[connection]

    # Towards the hooks.

    def _event_to_stream(self, stream: HttpStream, event: events.Event) -> Commands:
        if isinstance(event, HttpEvent) and (yield from self._stops(stream, event)):
            return
        if isinstance(event, events.CommandCompleted):
            event = self._completed(stream, event)
        self._note_failure(stream.stream_id, event)
        yield from super().event_to_child(stream, event)
        if stream.stream_id not in self.streams:
            self._forget(stream.stream_id)
        else:
            self._count_waiting(stream, event)

    def _completed(self, stream: HttpStream, event: events.CommandCompleted) -> events.CommandCompleted:
        """Keep the exchange that the first hook opens; give no connection to a request that was refused meanwhile."""
        if isinstance(event.command, HttpRequestHeadersHook):
            self._take_over(stream)
        elif isinstance(event, GetHttpConnectionCompleted) and event.reply[1] is None:
            exchange = self._of_stream.get(stream.stream_id)
            if exchange is not None and exchange.refusal is not None:
                return GetHttpConnectionCompleted(event.command, (None, exchange.refusal.message))
        return event

    def _count_waiting(self, stream: HttpStream, event: events.Event) -> None:
        """Count what waits before a stream that itself waits for a hook, or for a connection."""
        if stream._paused is None:  # noqa: SLF001 - it has no other way to tell
            self._backlog.clear(stream.stream_id)
        elif isinstance(event, RequestData):
            self._backlog.add(stream.stream_id, len(event.data))

    def _stops(self, stream: HttpStream, event: HttpEvent) -> layer.CommandGenerator[bool]:
        """Watch how a request and its answer come along; tell whether an event must go no further."""
        match event:
            case RequestHeaders(end_stream=False) | ResponseHeaders() | ResponseData():
                self._unanswered.stop(stream.stream_id)
                yield from self._wait_for(self._going_on, stream.stream_id)
            case RequestData():
                yield from self._wait_for(self._going_on, stream.stream_id)
                return (yield from self._is_refused(stream, len(event.data)))
            case RequestEndOfMessage() if stream.stream_id not in self._answered:
                self._going_on.stop(stream.stream_id)  # the upstream's turn
            case ResponseEndOfMessage():
                self._going_on.stop(stream.stream_id)
            case RequestTrailers():
                yield from self._refuse(stream, InvalidRequest("Send the request without trailers."))
                return True
            case ResponseTrailers():
                return True  # HTTP/1 has no place for them here, and any recipient may drop them
            case RequestProtocolError(code=ErrorCode.GENERIC_CLIENT_ERROR) if self._can_be_malformed(stream.stream_id):
                yield from self._refuse(stream, InvalidRequest(MALFORMED))
                return True
        return False

    def _take_over(self, stream: HttpStream) -> None:
        """Keep the exchange that the hooks have opened: they end it before its last answer is written."""
        exchange = self._of_stream[stream.stream_id] = self._exchanges.get(stream.flow.id) or Exchange()
        exchange.refusal = self._refused_early.pop(stream.stream_id, exchange.refusal)

    def _is_refused(self, stream: HttpStream, size: int) -> layer.CommandGenerator[bool]:
        """Count a piece of a request's body; tell whether nobody wants it, as the request is refused by now."""
        stream_id, exchange = stream.stream_id, self._of_stream.get(stream.stream_id)
        refused = stream_id in self._refused_early or (exchange is not None and exchange.refusal is not None)
        if refused or stream.flow.websocket is not None:
            return refused
        self._body_sizes[stream_id] = self._body_sizes.get(stream_id, 0) + size
        if self._body_sizes[stream_id] <= self._max_body:
            return False
        yield from self._refuse(stream, RequestTooLarge())
        return True

    def _refuse(self, stream: HttpStream, cause: GatewayError) -> Commands:
        """End a request under way, with an answer if none has begun."""
        exchange = self._of_stream.get(stream.stream_id)
        if exchange is not None:
            exchange.refusal = cause
            error = ResponseProtocolError(stream.stream_id, cause.message, ErrorCode.GENERIC_SERVER_ERROR)
            yield from self.event_to_child(stream, error)
        else:
            # The stream waits for its first hook. When that is done it looks for just this error, and goes no further.
            self._refused_early[stream.stream_id] = cause
            gone = RequestProtocolError(stream.stream_id, cause.message, ErrorCode.GENERIC_CLIENT_ERROR)
            yield from super().event_to_child(stream, gone)

    def _note_failure(self, stream_id: int, event: events.Event) -> None:
        """Decide what will be answered before the `error` hook, which logs it."""
        exchange = self._of_stream.get(stream_id)
        if exchange is None or stream_id in self._answered:
            return
        if isinstance(event, GetHttpConnectionCompleted) and event.reply[1] is not None:
            exchange.refusal = _cause(exchange, ErrorCode.CONNECT_FAILED)
        elif isinstance(event, ResponseProtocolError):
            exchange.refusal = _cause(exchange, event.code)

    # Towards the wire.

    def _event_to_codec(self, codec: layer.Layer, event: events.Event) -> Commands:
        if isinstance(event, HttpEvent):
            return self._write(codec, event)
        return super().event_to_child(codec, event)

    def _write(self, codec: layer.Layer, event: HttpEvent) -> Commands:
        match event:
            case RequestData() | RequestEndOfMessage() if event.stream_id not in self.streams:
                return  # it has been answered, and the upstream told to forget it
            case RequestEndOfMessage():
                yield from super().event_to_child(codec, event)
                yield from self._await_answer(event.stream_id)
            case ResponseHeaders():
                if event.response.status_code != _CONTINUE:
                    self._answered.add(event.stream_id)
                yield from super().event_to_child(codec, event)
            case ResponseData() if isinstance(codec, ClientHttp2):
                yield from super().event_to_child(codec, event)
                self._stall(codec, event.stream_id)
            case ResponseEndOfMessage():
                self._forget(event.stream_id)
                yield from super().event_to_child(codec, event)
            case ResponseProtocolError():
                yield from self._fail(codec, event)
            case _:
                yield from super().event_to_child(codec, event)

    def _stall(self, codec: ClientHttp2, stream_id: int) -> None:
        """Read no more from an upstream while the client does not take what came of its answer.

        An upstream's HTTP/2 connection is read on: it carries the answers to other requests too.
        """
        stream = self.streams.get(stream_id)
        if stream is not None and codec.is_full(stream_id) and stream.flow.server_conn.alpn != b"h2":
            self._stalled[stream_id] = stream.flow.server_conn
            backpressure.hold(stream.flow.server_conn)

    def _go_on(self, codec: ClientHttp2) -> None:
        for stream_id in [stalled for stalled in self._stalled if not codec.is_full(stalled)]:
            backpressure.release(self._stalled.pop(stream_id))

    def _await_answer(self, stream_id: int) -> Commands:
        stream = self.streams.get(stream_id)
        if stream is not None and stream.flow.response is None:
            yield from self._wait_for(self._unanswered, stream_id)

    def _fail(self, codec: layer.Layer, event: ResponseProtocolError) -> Commands:
        """Answer in place of an upstream that failed, unless its answer has begun; then only cutting it is honest."""
        stream, exchange = self.streams.get(event.stream_id), self._of_stream.get(event.stream_id)
        if stream is None:
            return  # it has been answered
        cause = _cause(exchange, event.code) if exchange and self._can_answer(event.stream_id) else None
        if cause is not None:
            yield from self._answer(codec, stream, cause, close=_breaks_framing(codec, event.code))
            return
        yield from self._hang_up_on_upstream(stream)
        self._forget(event.stream_id)
        if stream.flow.websocket is None:
            self.streams.pop(event.stream_id, None)
        yield from super().event_to_child(codec, event)

    def _can_answer(self, stream_id: int) -> bool:
        return stream_id not in self._answered and bool(self.context.client.state & ConnectionState.CAN_WRITE)

    def _can_be_malformed(self, stream_id: int) -> bool:
        """Tell whether a client's error is one of HTTP/1; over HTTP/2 it is a hang-up, for whatever reason."""
        return self._can_answer(stream_id) and isinstance(self.connections[self.context.client], ClientCodec)

    def _answer(self, codec: layer.Layer, stream: HttpStream, cause: GatewayError, *, close: bool) -> Commands:
        stream_id, exchange = stream.stream_id, self._of_stream[stream.stream_id]
        yield from self._hang_up_on_upstream(stream)
        response = responses.error(cause, exchange.request_id, stream.flow.request.method)
        if close:
            response.headers["connection"] = "close"
        content = response.raw_content
        yield from super().event_to_child(codec, ResponseHeaders(stream_id, response, not content))
        if content:
            yield from super().event_to_child(codec, ResponseData(stream_id, content))
        # What the client still sends of the request has no taker from here on, and is dropped as it comes.
        self.streams.pop(stream_id, None)
        self._forget(stream_id)
        yield from super().event_to_child(codec, ResponseEndOfMessage(stream_id))
        if close:
            yield commands.CloseTcpConnection(self.context.client, half_close=True)
        else:
            yield from self._wait_for(self._unread, stream_id)

    def _hang_up_on_upstream(self, stream: HttpStream) -> Commands:
        upstream, exchange = self.connections.get(stream.flow.server_conn), self._of_stream.get(stream.stream_id)
        if upstream is not None and exchange is not None and exchange.sent and not _is_done(upstream, stream.stream_id):
            gone = RequestProtocolError(stream.stream_id, "answered by the gateway", ErrorCode.CANCEL)
            yield from super().event_to_child(upstream, gone)

    # Time.

    def _linger(self) -> Commands:
        """Once nothing more is written to the client: drop what it still sends, until it hangs up or time is over."""
        self._lingers = True
        yield from self._wait_for(self._unread, None)

    def _watch_client(self) -> Iterable[commands.Command]:
        codec = self.connections.get(self.context.client)
        if isinstance(codec, ClientHttp2):
            if self._stalled:
                self._go_on(codec)
        elif isinstance(codec, ClientCodec):
            if not codec.is_in_headers():
                self._in_headers.stop(codec)
            elif codec not in self._in_headers:
                return self._wait_for(self._in_headers, codec)
        return ()

    def _refuse_headers(self, codec: ClientCodec) -> Commands:
        yield from codec.refuse(RequestTimeout())

    def _give_up_connecting(self, connection: Connection) -> Commands:
        """Tell those who wait for a connection at once; the attempt itself may take a while to end."""
        yield commands.CloseConnection(connection)
        yield from self.register_connection(RegisterHttpConnection(connection, upstream_sockets.why_late(connection)))

    def _give_up_unanswered(self, stream_id: int) -> Commands:
        stream = self.streams.get(stream_id)
        if stream is not None:
            yield from self._refuse(stream, UpstreamTimeout())

    def _give_up_idle(self, stream_id: int) -> Commands:
        """End a body that does not go on: a request's, an answer's, or what is said over a WebSocket."""
        stream = self.streams.get(stream_id)
        if stream is not None and stream.flow.websocket is not None:
            yield commands.CloseConnection(self.context.client)
        elif stream is not None:
            yield from self._refuse(stream, UpstreamTimeout() if stream.flow.response else RequestTimeout())

    def _close_unused(self, client: Connection) -> Commands:
        """Close a connection without requests, whatever else comes over it: HTTP/2 has more to say than requests."""
        if self.streams:
            yield from self._wait_for(self._unused, client)
        elif self._last_use:
            since, self._last_use = self._last_use, 0.0
            yield from self._wait_for(self._unused, client, since)
        else:
            yield commands.CloseConnection(client)

    def _drop_unread(self, stream_id: int | None) -> Commands:
        """Hang up on a client that was answered, and is still not done with that request."""
        codec = self.connections[self.context.client]
        if stream_id is None or (isinstance(codec, ClientCodec) and codec.stream_id == stream_id):
            yield commands.CloseConnection(self.context.client)
        elif isinstance(codec, ClientHttp2):
            yield from super().event_to_child(codec, ResponseProtocolError(stream_id, "answered", ErrorCode.CANCEL))

    def _forget(self, stream_id: int) -> None:
        self._last_use = time.monotonic()
        self._of_stream.pop(stream_id, None)
        self._unanswered.stop(stream_id)
        self._going_on.stop(stream_id)
        self._body_sizes.pop(stream_id, None)
        self._refused_early.pop(stream_id, None)
        self._answered.discard(stream_id)
        self._backlog.clear(stream_id)


def _is_done(upstream: layer.Layer, stream_id: int) -> bool:
    """Tell whether an upstream's connection of HTTP/1 has a whole request and answer behind it, and is free again."""
    codec = upstream.context.layers[-1]
    return isinstance(codec, Http1Client) and codec.stream_id != stream_id


def _breaks_framing(codec: layer.Layer, code: ErrorCode) -> bool:
    """Tell whether nobody knows where the next request begins on a connection."""
    return isinstance(codec, ClientCodec) and (code in _MALFORMED or codec.is_done())


def _cause(exchange: Exchange, code: ErrorCode) -> GatewayError | None:
    """Return what to answer after a failure, or None where there is nobody to answer to."""
    if exchange.refusal is not None:
        return exchange.refusal
    if code in _MALFORMED:
        return InvalidRequest(MALFORMED)
    if code is ErrorCode.REQUEST_TOO_LARGE:
        return RequestTooLarge()
    return ServiceUnavailable() if code in _NO_UPSTREAM else None
