"""mitmproxy's HTTP layer, answering in JSON and in time whatever happens. One a client connection.

A layer turns events (data came, a hook ended) into commands (send this, open that). This one changes these things:

- A failure that would end in mitmproxy's HTML page, or in a bare close, is answered in JSON instead, and the
  connection stays usable where HTTP allows it.
- An upstream that does not connect, does not answer or does not go on is given up after a time; so is a client that
  does not go on with its request.
- A body that turns out to be too large, or malformed, is refused while it comes.
- A client that is answered before its request has ended gets some time to read that.
"""

import logging
import time
from typing import Protocol

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    Http2Server,
    HttpLayer,
    HTTPMode,
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

from addon import answers
from addon.exchange import Exchange, Exchanges
from addon.seams.client_codec import MALFORMED, ClientCodec
from addon.seams.deadlines import Deadlines
from addon.seams.http2_codec import Http2ClientCodec
from store.errors import (
    GatewayError,
    InvalidRequest,
    RequestTimeout,
    RequestTooLarge,
    ServiceUnavailable,
    UpstreamTimeout,
)

type Commands = layer.CommandGenerator[None]

_log = logging.getLogger(__name__)

HEADERS_TIMEOUT = 30
"""Seconds from the first byte of a request to the end of its headers."""

LINGER = 5
"""Seconds for which the rest of a request is read and dropped, once it has been answered."""

LONGEST_TICK = 2.5
"""Seconds between two looks at the deadlines, at most; less where a timeout is short."""

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


class AnsweringLayer(HttpLayer):
    """See the module's text."""

    def __init__(self, context: Context, exchanges: Exchanges, limits: Limits) -> None:
        super().__init__(context, HTTPMode.transparent)
        self._exchanges = exchanges
        self._max_body = limits.max_body
        self._of_stream: dict[int, Exchange] = {}
        self._body_sizes: dict[int, int] = {}
        self._refused_early: dict[int, GatewayError] = {}
        self._answered: set[int] = set()
        self._lingers = False
        self._tick: commands.RequestWakeup | None = None
        shortest = min(limits.connect_timeout, limits.first_byte_timeout, limits.idle_timeout, HEADERS_TIMEOUT, LINGER)
        self._longest_tick = min(LONGEST_TICK, shortest / 4)
        self._in_headers: Deadlines[Connection] = Deadlines(HEADERS_TIMEOUT)
        self._connecting: Deadlines[Connection] = Deadlines(limits.connect_timeout)
        self._unanswered: Deadlines[int] = Deadlines(limits.first_byte_timeout)
        self._going_on: Deadlines[int] = Deadlines(limits.idle_timeout)
        self._unread: Deadlines[int | None] = Deadlines(LINGER)

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start):
            self._put_codec()
        if self._lingers and isinstance(event, events.ConnectionEvent) and event.connection is self.context.client:
            return  # it has been answered; what it still sends has no taker
        try:
            for command in self._commands(event):
                yield command
                if isinstance(command, commands.CloseTcpConnection) and command.connection is self.context.client:
                    yield from self._linger()
        except Exception:
            # mitmproxy would log that and leave the client hanging.
            _log.exception("cut a connection")
            yield commands.CloseConnection(self.context.client)

    def _commands(self, event: events.Event) -> Commands:
        if isinstance(event, events.Wakeup) and event.command is self._tick:
            self._tick = None
            yield from self._give_up_late()
        else:
            yield from super()._handle_event(event)
            yield from self._watch_headers(event)

    def _put_codec(self) -> None:
        """Choose how to speak with the client. A replay has put a codec of its own here already."""
        context = self.context.fork()
        codec = Http2ClientCodec(context) if self.context.client.alpn == b"h2" else ClientCodec(context)
        self.connections.setdefault(self.context.client, codec)

    def event_to_child(self, child: layer.Layer | HttpStream, event: events.Event) -> Commands:
        """Pass an event on: to a stream (towards the hooks) or to a codec (towards the wire)."""
        if isinstance(child, HttpStream):
            yield from self._event_to_stream(child, event)
        else:
            yield from self._event_to_codec(child, event)

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> Commands:
        """Connect to the upstream, for a limited time."""
        yield from super().get_connection(event, reuse=reuse)
        for connection in self.waiting_for_establishment:
            if connection not in self._connecting:
                yield from self._wait_for(self._connecting, connection)

    def register_connection(self, command: RegisterHttpConnection) -> Commands:
        """Take note that a connection is usable, or has failed."""
        self._connecting.stop(command.connection)
        yield from super().register_connection(command)

    # Towards the hooks.

    def _event_to_stream(self, stream: HttpStream, event: events.Event) -> Commands:
        if (yield from self._stops(stream, event)):
            return
        if isinstance(event, events.HookCompleted) and isinstance(event.command, HttpRequestHeadersHook):
            self._take_over(stream)
        self._note_failure(stream.stream_id, event)
        yield from super().event_to_child(stream, event)
        if stream.stream_id not in self.streams:
            self._forget(stream.stream_id)

    def _stops(self, stream: HttpStream, event: events.Event) -> layer.CommandGenerator[bool]:
        """Watch how a request and its answer come along; tell whether an event must go no further."""
        match event:
            case RequestHeaders(end_stream=False) | ResponseHeaders() | ResponseData():
                self._unanswered.stop(stream.stream_id)
                yield from self._wait_for(self._going_on, stream.stream_id)
            case RequestData():
                yield from self._wait_for(self._going_on, stream.stream_id)
                return (yield from self._is_refused(stream, len(event.data)))
            case RequestEndOfMessage() | ResponseEndOfMessage():
                self._going_on.stop(stream.stream_id)
            case RequestTrailers():
                yield from self._refuse(stream, InvalidRequest("Send the request without trailers."))
                return True
            case ResponseTrailers():
                return True  # HTTP/1 has no place for them here, and any recipient may drop them
            case RequestProtocolError(code=ErrorCode.GENERIC_CLIENT_ERROR) if self._can_answer(stream.stream_id):
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
        match event:
            case RequestEndOfMessage():
                yield from super().event_to_child(codec, event)
                yield from self._await_answer(event.stream_id)
            case ResponseHeaders():
                if event.response.status_code != _CONTINUE:
                    self._answered.add(event.stream_id)
                yield from super().event_to_child(codec, event)
            case ResponseEndOfMessage():
                self._forget(event.stream_id)
                yield from super().event_to_child(codec, event)
            case ResponseProtocolError():
                yield from self._fail(codec, event)
            case _:
                yield from super().event_to_child(codec, event)

    def _await_answer(self, stream_id: int) -> Commands:
        stream = self.streams.get(stream_id)
        if stream is not None and stream.flow.response is None:
            yield from self._wait_for(self._unanswered, stream_id)

    def _fail(self, codec: layer.Layer, event: ResponseProtocolError) -> Commands:
        """Answer in place of an upstream that failed, unless its answer has begun; then only cutting it is honest."""
        stream, exchange = self.streams.get(event.stream_id), self._of_stream.get(event.stream_id)
        cause = _cause(exchange, event.code) if exchange and self._can_answer(event.stream_id) else None
        if cause is None or stream is None:
            self._forget(event.stream_id)
            yield from super().event_to_child(codec, event)
        else:
            yield from self._answer(codec, stream, cause, close=_breaks_framing(codec, event.code))

    def _can_answer(self, stream_id: int) -> bool:
        return stream_id not in self._answered and bool(self.context.client.state & ConnectionState.CAN_WRITE)

    def _answer(self, codec: layer.Layer, stream: HttpStream, cause: GatewayError, *, close: bool) -> Commands:
        stream_id, exchange = stream.stream_id, self._of_stream[stream.stream_id]
        yield from self._hang_up_on_upstream(stream)
        response = answers.error(cause, exchange.request_id, stream.flow.request.method)
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
        upstream = self.connections.get(stream.flow.server_conn)
        if upstream is not None and self._of_stream[stream.stream_id].sent:
            gone = RequestProtocolError(stream.stream_id, "answered by the gateway", ErrorCode.CANCEL)
            yield from super().event_to_child(upstream, gone)

    # Time.

    def _linger(self) -> Commands:
        """Once nothing more is written to the client: drop what it still sends, until it hangs up or time is over."""
        self._lingers = True
        yield from self._wait_for(self._unread, None)

    def _watch_headers(self, event: events.Event) -> Commands:
        codec = self.connections.get(self.context.client)
        if not isinstance(event, events.DataReceived) or not isinstance(codec, ClientCodec):
            return
        if not codec.is_in_headers():
            self._in_headers.stop(codec.conn)
        elif codec.conn not in self._in_headers:
            yield from self._wait_for(self._in_headers, codec.conn)

    def _wait_for[Key](self, deadlines: Deadlines[Key], key: Key) -> Commands:
        deadlines.start(key)
        yield from self._keep_ticking()

    def _keep_ticking(self) -> Commands:
        """Look at the deadlines now and then: one timer a connection, not one a request."""
        if self._tick is not None:
            return
        watched = (self._in_headers, self._connecting, self._unanswered, self._going_on, self._unread)
        ends = [end for deadlines in watched if (end := deadlines.next_end()) is not None]
        if ends:
            self._tick = commands.RequestWakeup(min(self._longest_tick, max(0.0, min(ends) - time.monotonic()) + 0.01))
            yield self._tick

    def _give_up_late(self) -> Commands:
        for connection in self._connecting.take_late():
            yield commands.CloseConnection(connection)
        for _ in self._in_headers.take_late():
            yield from self._refuse_headers()
        for stream_id in self._unanswered.take_late():
            yield from self._refuse_late(stream_id, UpstreamTimeout())
        for stream_id in self._going_on.take_late():
            yield from self._give_up_idle(stream_id)
        for unread in self._unread.take_late():
            yield from self._drop_unread(unread)
        yield from self._keep_ticking()

    def _refuse_headers(self) -> Commands:
        codec = self.connections[self.context.client]
        if isinstance(codec, ClientCodec) and codec.is_in_headers():
            yield from codec.refuse(RequestTimeout())

    def _refuse_late(self, stream_id: int, cause: GatewayError) -> Commands:
        stream = self.streams.get(stream_id)
        if stream is not None:
            yield from self._refuse(stream, cause)

    def _give_up_idle(self, stream_id: int) -> Commands:
        """End a body that does not go on: a request's, an answer's, or what is said over a WebSocket."""
        stream = self.streams.get(stream_id)
        if stream is not None and stream.flow.websocket is not None:
            yield commands.CloseConnection(self.context.client)
        elif stream is not None:
            yield from self._refuse(stream, UpstreamTimeout() if stream.flow.response else RequestTimeout())

    def _drop_unread(self, stream_id: int | None) -> Commands:
        """Hang up on a client that was answered, and is still not done with that request."""
        codec = self.connections[self.context.client]
        if stream_id is None or (isinstance(codec, ClientCodec) and codec.stream_id == stream_id):
            yield commands.CloseConnection(self.context.client)
        elif isinstance(codec, Http2Server):
            yield from super().event_to_child(codec, ResponseProtocolError(stream_id, "answered", ErrorCode.CANCEL))

    def _forget(self, stream_id: int) -> None:
        self._of_stream.pop(stream_id, None)
        self._unanswered.stop(stream_id)
        self._going_on.stop(stream_id)
        self._body_sizes.pop(stream_id, None)
        self._refused_early.pop(stream_id, None)
        self._answered.discard(stream_id)


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
