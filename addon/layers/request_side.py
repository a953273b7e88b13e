"""Events on their way to the hooks: refuses requests, and gives up those that do not go on."""

import functools

from mitmproxy.proxy import events, layer
from mitmproxy.proxy.commands import CloseConnection
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    GetHttpConnectionCompleted,
    HttpEvent,
    HttpRequestHeadersHook,
    HttpStream,
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

from addon import failures, shown_models
from addon.exchange import Exchanges
from addon.failures import Failure, Limits
from addon.layers.client_http1 import ClientCodec
from addon.layers.spool_side import SpoolSide
from addon.layers.stream_state import FAILURES, CutRequested, Deliver, StreamState
from addon.layers.timeouts import Commands
from addon.validation import MALFORMED
from store.errors import GatewayError, InvalidRequest, RequestTooLarge, UpstreamTimeout

_MAY_FAIL = (GetHttpConnectionCompleted, ResponseProtocolError)


class RequestSide(SpoolSide):
    """The part of AnsweringLayer between the codecs and mitmproxy's streams, which call the hooks."""

    def __init__(self, context: Context, exchanges: Exchanges, limits: Limits, deliver: Deliver) -> None:
        super().__init__(context, exchanges, limits, deliver)
        self._unanswered = self._limit(limits.first_byte_timeout, self._give_up_unanswered)
        self._in_progress = self._limit(limits.idle_timeout, self._give_up_idle)

    def _event_to_stream(self, stream: HttpStream, event: events.Event) -> Commands:
        if isinstance(event, HttpEvent):
            if (yield from self._stops(stream, event)):
                return
        elif isinstance(event, events.CommandCompleted):
            if self._is_held_back(stream, event):
                return
            event = self._completed(stream, event)
        if isinstance(event, _MAY_FAIL):
            self._note_failure(stream.stream_id, event)
        if isinstance(event, RequestHeaders):
            yield from self._open(stream, event)
        else:
            yield from super().event_to_child(stream, event)
        if stream.stream_id not in self.streams:
            self._forget(stream.stream_id)
        else:
            self._count_waiting(stream, event)

    def _open(self, stream: HttpStream, event: RequestHeaders) -> Commands:
        """Open the exchange of a request, before its first hook."""
        for command in super().event_to_child(stream, event):
            if isinstance(command, HttpRequestHeadersHook):
                exchange = self._exchanges.open(command.flow)
                exchange.stop = functools.partial(self._request_cut, stream.stream_id)
                self._states[stream.stream_id] = StreamState(exchange)
            yield command

    def _request_cut(self, stream_id: int, last_event: bytes | None) -> None:
        """Have a stream cut by the next event of this layer."""
        self._deliver(CutRequested(stream_id, last_event))

    def _cut(self, event: CutRequested) -> Commands:
        """End a stream whose request is refused by now; a WebSocket has its own way to end."""
        stream, state = self.streams.get(event.stream_id), self._states.get(event.stream_id)
        if stream is None:
            return
        if stream.flow.websocket is not None or (state is not None and state.exchange.session is not None):
            yield from super().event_to_child(stream, event)  # it waits there until the WebSocket is open
        elif state is not None and state.exchange.refusal is not None:
            state.last_event = event.last_event
            yield from self._refuse(stream, state.exchange.refusal)
            yield from self._wait_no_longer(stream, state.exchange.refusal.message)

    def _wait_no_longer(self, stream: HttpStream, reason: str) -> Commands:
        """Give a stream no connection, if it waits for one; the attempt goes on, for others."""
        for waiting in [*self.waiting_for_establishment.values()]:
            for asked in [one for one in waiting if self.command_sources.get(one) is stream]:
                waiting.remove(asked)
                del self.command_sources[asked]
                yield from self.event_to_child(stream, GetHttpConnectionCompleted(asked, (None, reason)))

    def _completed(self, stream: HttpStream, event: events.CommandCompleted) -> events.CommandCompleted:
        """Note that the first hook is done; give no connection to a request that was refused in the meantime."""
        state = self._states.get(stream.stream_id)
        if state is None:
            return event
        if isinstance(event.command, HttpRequestHeadersHook):
            state.is_waiting = False
        elif isinstance(event, GetHttpConnectionCompleted) and event.reply[1] is None and state.exchange.refusal:
            return GetHttpConnectionCompleted(event.command, (None, state.exchange.refusal.message))
        return event

    def _count_waiting(self, stream: HttpStream, event: events.Event) -> None:
        """Count the bytes that wait for a stream which itself waits for a hook, or for a connection."""
        if stream._paused is None:  # noqa: SLF001 - it has no other way to tell
            self._backlog.clear(stream.stream_id)
        elif isinstance(event, RequestData):
            self._backlog.add(stream.stream_id, len(event.data))

    def _stops(self, stream: HttpStream, event: HttpEvent) -> layer.CommandGenerator[bool]:
        """Set the deadlines for what comes next; return True if an event must go no further."""
        match event:
            case ResponseData() if not self._has_room(stream, len(event.data)):
                exchange = self._states[stream.stream_id].exchange
                if exchange.refusal is None:  # more of it may come until the refusal is written
                    yield from self._refuse(stream, shown_models.too_long(exchange))
                return True
            case RequestHeaders(end_stream=False) | ResponseHeaders() | ResponseData():
                self._unanswered.stop(stream.stream_id)
                yield from self._wait_for(self._in_progress, stream.stream_id)
            case RequestData():
                yield from self._wait_for(self._in_progress, stream.stream_id)
                return (yield from self._is_refused(stream, len(event.data)))
            case RequestEndOfMessage() if not self._is_answered(stream.stream_id):
                self._in_progress.stop(stream.stream_id)  # the upstream's turn
            case ResponseEndOfMessage():
                self._in_progress.stop(stream.stream_id)
            case RequestTrailers():
                yield from self._refuse(stream, InvalidRequest("Send the request without trailers."))
                return True
            case ResponseTrailers():
                return True  # HTTP/1 has no place for them here, and any recipient may drop them
            case RequestProtocolError(code=ErrorCode.GENERIC_CLIENT_ERROR) if self._can_be_malformed(stream.stream_id):
                yield from self._refuse(stream, InvalidRequest(MALFORMED))
                return True
        return False

    def _has_room(self, stream: HttpStream, size: int) -> bool:
        """Count a piece of a response's body; return False if it is more than may be kept until the body is whole."""
        exchange = self._exchange_of(stream.stream_id)
        return exchange is None or exchange.has_room(size)

    def _can_be_malformed(self, stream_id: int) -> bool:
        """Tell whether a client's error is malformed HTTP/1; over HTTP/2 the client has hung up, for any reason."""
        return self._can_answer(stream_id) and isinstance(self.connections[self.context.client], ClientCodec)

    def _is_refused(self, stream: HttpStream, size: int) -> layer.CommandGenerator[bool]:
        """Count a piece of a request's body; return True if it must be dropped, as the request is refused by now."""
        state = self._states.get(stream.stream_id)
        if state is None:
            return False
        if state.exchange.refusal is not None or stream.flow.websocket is not None:
            return state.exchange.refusal is not None
        if stream.flow.response is not None and state.exchange.sent_at is None:
            return True  # the gateway has its response, and needs no body for it
        state.body_size += size
        if state.body_size <= self._limits.max_body:
            return False
        yield from self._refuse(stream, RequestTooLarge())
        return True

    def _refuse(self, stream: HttpStream, cause: GatewayError) -> Commands:
        """End a request under way, with a response if none has begun."""
        state = self._states.get(stream.stream_id)
        if state is not None:
            state.exchange.refuse(cause)
        if state is not None and not state.is_waiting:
            error = ResponseProtocolError(stream.stream_id, cause.message, ErrorCode.GENERIC_SERVER_ERROR)
            yield from self.event_to_child(stream, error)
        else:
            # The stream waits for its first hook. When that is done it looks for just this error, and goes no further.
            gone = RequestProtocolError(stream.stream_id, cause.message, ErrorCode.GENERIC_CLIENT_ERROR)
            yield from super().event_to_child(stream, gone)

    def _note_failure(self, stream_id: int, event: GetHttpConnectionCompleted | ResponseProtocolError) -> None:
        """Refuse a request that has failed before the `error` hook, which logs the refusal."""
        if isinstance(event, ResponseProtocolError):
            failure = FAILURES.get(event.code, Failure.CUT)
        elif event.reply[1] is not None:
            failure = Failure.NO_RESPONSE
        else:
            return
        state = self._states.get(stream_id)
        if state is not None and not state.is_answered and (error := failures.error_for(state.exchange, failure)):
            state.exchange.refuse(error)

    def _give_up_unanswered(self, stream_id: int) -> Commands:
        stream = self.streams.get(stream_id)
        if stream is not None:
            yield from self._refuse(stream, UpstreamTimeout())

    def _give_up_idle(self, stream_id: int) -> Commands:
        """End a request or a response that does not go on, or a WebSocket without messages."""
        stream = self.streams.get(stream_id)
        if stream is not None and stream.flow.websocket is not None:
            yield CloseConnection(self.context.client)
        elif stream is not None:
            # A body that is sent from a spool has come whole: it is the upstream that does not go on.
            is_upstream = stream.flow.response is not None or self._sends_spool(stream_id)
            yield from self._refuse(stream, failures.idle_error(is_upstream=is_upstream))
