"""The keyed layer: mitmproxy's HTTP layer, with the upstream key on the wire and nowhere else.

A layer turns events (data came, a hook ended) into commands (send this, open that). This one changes four things:

- A request that goes to the upstream's side is replaced by a copy with the key (`wire.keyed_request`).
- Before a connection to the upstream is opened or reused, the flow must hold a grant for just that destination.
- A failure that would end in mitmproxy's HTML page, or in a bare close, is answered in JSON instead, and the
  connection stays usable where HTTP allows it.
- An upstream that does not connect, or does not answer, is given up after a time.
"""

import logging
import time
from typing import Protocol, cast

from mitmproxy import http
from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpLayer,
    HTTPMode,
    HttpRequestHeadersHook,
    HttpStream,
    RegisterHttpConnection,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from addon import answers, edge, wire
from addon.exchange import Destination, Exchange, Exchanges, Grant
from addon.seams.client_codec import MALFORMED, ClientCodec
from store.errors import (
    DestinationRefused,
    GatewayError,
    InvalidRequest,
    RequestTooLarge,
    ServiceUnavailable,
    UpstreamTimeout,
)

type Commands = layer.CommandGenerator[None]

_log = logging.getLogger(__name__)

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


class Timeouts(Protocol):
    """The settings that this layer needs, in seconds."""

    @property
    def connect_timeout(self) -> float:
        """From the first packet to a usable connection, TLS included."""

    @property
    def first_byte_timeout(self) -> float:
        """From the end of the request to the headers of the answer."""


class KeyedLayer(HttpLayer):
    """See the module's text. One a client connection."""

    def __init__(self, context: Context, exchanges: Exchanges, timeouts: Timeouts) -> None:
        super().__init__(context, HTTPMode.transparent)
        self._exchanges = exchanges
        self._timeouts = timeouts
        self._of_stream: dict[int, Exchange] = {}
        self._answered: set[int] = set()
        self._connecting: dict[Connection, float] = {}
        self._unanswered: dict[int, float] = {}
        self._tick: commands.RequestWakeup | None = None

    def _handle_event(self, event: events.Event) -> Commands:
        if isinstance(event, events.Start) and self.context.client.alpn != b"h2":
            # Replay has put a codec of its own here already.
            self.connections.setdefault(self.context.client, ClientCodec(self.context.fork()))
        try:
            if isinstance(event, events.Wakeup) and event.command is self._tick:
                self._tick = None
                yield from self._give_up_late()
            else:
                yield from super()._handle_event(event)
        except Exception:
            # mitmproxy raises at HTTP/1 trailers, for one. It would log that and leave the client hanging.
            _log.exception("cut a connection")
            yield commands.CloseConnection(self.context.client)

    def event_to_child(self, child: layer.Layer | HttpStream, event: events.Event) -> Commands:
        """Pass an event on: to a stream (towards the hooks) or to a codec (towards the wire)."""
        if isinstance(child, HttpStream):
            yield from self._event_to_stream(child, event)
        else:
            yield from self._event_to_codec(child, event)

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> Commands:
        """Connect to the upstream for a stream that holds a grant for it; refuse all others."""
        stream = cast("HttpStream", self.command_sources[event])
        exchange = self._of_stream[stream.stream_id]
        refusal = _refusal(stream.flow.request, exchange.grant, event)
        if refusal is not None:
            exchange.refusal = refusal
            del self.command_sources[event]
            yield from self.event_to_child(stream, GetHttpConnectionCompleted(event, (None, refusal.message)))
            return
        self._forget_failed_connections()
        yield from super().get_connection(event, reuse=reuse)
        for connection in self.waiting_for_establishment.keys() - self._connecting.keys():
            yield from self._watch(self._connecting, connection, self._timeouts.connect_timeout)

    def register_connection(self, command: RegisterHttpConnection) -> Commands:
        """Take note that a connection is usable, or has failed."""
        self._connecting.pop(command.connection, None)
        yield from super().register_connection(command)

    def _event_to_stream(self, stream: HttpStream, event: events.Event) -> Commands:
        match event:
            case events.HookCompleted(HttpRequestHeadersHook()):
                # Kept here as well: the hooks end an exchange before its last answer is written.
                exchange = self._exchanges.get(stream.flow.id)
                self._of_stream[stream.stream_id] = exchange or Exchange()
            case ResponseHeaders():
                self._unanswered.pop(stream.stream_id, None)
            case GetHttpConnectionCompleted(reply=(None, _)):
                self._note_failure(stream.stream_id, ErrorCode.CONNECT_FAILED)
            case ResponseProtocolError():
                self._note_failure(stream.stream_id, event.code)
        yield from super().event_to_child(stream, event)
        if stream.stream_id not in self.streams:
            self._forget(stream.stream_id)

    def _note_failure(self, stream_id: int, code: ErrorCode) -> None:
        """Decide what will be answered before the `error` hook, which logs it."""
        exchange = self._of_stream.get(stream_id)
        if exchange is not None and stream_id not in self._answered:
            exchange.refusal = _cause(exchange, code)

    def _event_to_codec(self, codec: layer.Layer, event: events.Event) -> Commands:
        match event:
            case RequestHeaders():
                yield from self._send_keyed(codec, event)
            case RequestEndOfMessage():
                yield from super().event_to_child(codec, event)
                yield from self._await_answer(event.stream_id)
            case ResponseHeaders():
                if event.response.status_code != _CONTINUE:
                    self._answered.add(event.stream_id)
                passed = wire.client_response(event.response)
                yield from super().event_to_child(codec, ResponseHeaders(event.stream_id, passed, event.end_stream))
            case ResponseEndOfMessage():
                self._forget(event.stream_id)
                yield from super().event_to_child(codec, event)
            case ResponseProtocolError():
                yield from self._fail(codec, event)
            case _:
                yield from super().event_to_child(codec, event)

    def _send_keyed(self, codec: layer.Layer, event: RequestHeaders) -> Commands:
        exchange = self._of_stream[event.stream_id]
        if exchange.grant is None:
            raise RuntimeError("a request without a grant reached the wire")
        keyed = wire.keyed_request(event.request, exchange.grant)
        exchange.sent = time.monotonic()
        yield from super().event_to_child(codec, RequestHeaders(event.stream_id, keyed, event.end_stream))

    def _forget_failed_connections(self) -> None:
        """Make the next attempt a new one; mitmproxy would repeat the old error for as long as the client stays."""
        failed = [conn for conn in self.connections if isinstance(conn, Server) and conn.error]
        for connection in failed:
            if connection not in self.waiting_for_establishment:
                del self.connections[connection]

    def _fail(self, codec: layer.Layer, event: ResponseProtocolError) -> Commands:
        """Answer in place of an upstream that failed, unless its answer has begun; then only cutting it is honest."""
        stream, exchange = self.streams.get(event.stream_id), self._of_stream.get(event.stream_id)
        if (
            stream is None
            or exchange is None
            or event.stream_id in self._answered
            or not _is_writable(self.context.client)
        ):
            cause = None
        else:
            cause = _cause(exchange, event.code)
        if cause is None or stream is None:
            self._forget(event.stream_id)
            yield from super().event_to_child(codec, event)
        else:
            yield from self._answer(codec, stream, cause, close=event.code in _MALFORMED)

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
            yield commands.CloseConnection(self.context.client)

    def _hang_up_on_upstream(self, stream: HttpStream) -> Commands:
        upstream = self.connections.get(stream.flow.server_conn)
        if upstream is not None and self._of_stream[stream.stream_id].sent:
            gone = RequestProtocolError(stream.stream_id, "answered by the gateway", ErrorCode.CANCEL)
            yield from super().event_to_child(upstream, gone)

    def _await_answer(self, stream_id: int) -> Commands:
        stream = self.streams.get(stream_id)
        if stream is not None and stream.flow.response is None:
            yield from self._watch(self._unanswered, stream_id, self._timeouts.first_byte_timeout)

    def _watch[K](self, deadlines: dict[K, float], key: K, timeout: float) -> Commands:
        deadlines[key] = time.monotonic() + timeout
        yield from self._keep_ticking()

    def _keep_ticking(self) -> Commands:
        """Look at the deadlines about once a second: one timer a connection, not one a request."""
        if self._tick is None:
            shortest = min(self._timeouts.connect_timeout, self._timeouts.first_byte_timeout)
            self._tick = commands.RequestWakeup(min(1.0, shortest / 4))
            yield self._tick

    def _give_up_late(self) -> Commands:
        now = time.monotonic()
        for connection in _take_late(self._connecting, now):
            yield commands.CloseConnection(connection)
        for stream_id in _take_late(self._unanswered, now):
            stream = self.streams.get(stream_id)
            if stream is not None:
                self._of_stream[stream_id].refusal = UpstreamTimeout()
                late = ResponseProtocolError(stream_id, UpstreamTimeout.text, ErrorCode.GENERIC_SERVER_ERROR)
                yield from self.event_to_child(stream, late)
        if self._connecting or self._unanswered:
            yield from self._keep_ticking()

    def _forget(self, stream_id: int) -> None:
        self._of_stream.pop(stream_id, None)
        self._unanswered.pop(stream_id, None)
        self._answered.discard(stream_id)


def _is_writable(connection: Connection) -> bool:
    return bool(connection.state & ConnectionState.CAN_WRITE)


def _refusal(request: http.Request, grant: Grant | None, wanted: GetHttpConnection) -> GatewayError | None:
    """Return why a request must not get a connection, or None."""
    if grant is None:
        return GatewayError()
    if wanted.via or Destination(*wanted.address[:2], wanted.tls) != grant.destination:
        return DestinationRefused()
    try:
        edge.check(request)  # an operator may have edited it since
    except GatewayError as error:
        return error
    return None


def _cause(exchange: Exchange, code: ErrorCode) -> GatewayError | None:
    """Return what to answer after a failure, or None where there is nobody to answer to."""
    if exchange.refusal is not None:
        return exchange.refusal
    if code in _MALFORMED:
        return InvalidRequest(MALFORMED)
    if code is ErrorCode.REQUEST_TOO_LARGE:
        return RequestTooLarge()
    return ServiceUnavailable() if code in _NO_UPSTREAM else None


def _take_late[K](deadlines: dict[K, float], now: float) -> list[K]:
    late = [key for key, deadline in deadlines.items() if deadline <= now]
    for key in late:
        del deadlines[key]
    return late
