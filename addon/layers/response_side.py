"""Events on their way to the codecs: a failure becomes a JSON response where none has begun."""

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import (
    HttpEvent,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)

from addon import failures, responses
from addon.failures import Failure
from addon.layers.client_http1 import ClientCodec
from addon.layers.client_http2 import ClientHttp2
from addon.layers.stream_state import FAILURES
from addon.layers.timeouts import Commands
from addon.layers.upstream_side import UpstreamSide
from store.errors import GatewayError

_CONTINUE = 100
"""The status with which mitmproxy asks a waiting client for its body; the response is still to come."""


class ResponseSide(UpstreamSide):
    """The part of AnsweringLayer between mitmproxy's streams and the codecs."""

    def _event_to_codec(self, codec: layer.Layer, event: events.Event) -> Commands:
        if isinstance(event, HttpEvent):
            return self._write(codec, event)
        return super().event_to_child(codec, event)

    def _write(self, codec: layer.Layer, event: HttpEvent) -> Commands:
        match event:
            case RequestData() | RequestEndOfMessage() if event.stream_id not in self.streams:
                return  # it has been answered, and the upstream's side of it is cut
            case RequestData() if self._sends_spool(event.stream_id):
                yield from self._wait_for(self._in_progress, event.stream_id)
                yield from super().event_to_child(codec, event)
            case RequestEndOfMessage(stream_id=stream_id):  # the codec of HTTP/2 changes it
                yield from super().event_to_child(codec, event)
                yield from self._await_response(stream_id)
            case ResponseHeaders():
                state = self._states.get(event.stream_id)
                if state is not None and event.response.status_code != _CONTINUE:
                    state.is_answered = True
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

    def _await_response(self, stream_id: int) -> Commands:
        stream = self.streams.get(stream_id)
        if stream is not None and stream.flow.response is None:
            self._in_progress.stop(stream_id)
            yield from self._wait_for(self._unanswered, stream_id)

    def _fail(self, codec: layer.Layer, event: ResponseProtocolError) -> Commands:
        """Answer in place of an upstream that failed; cut a response that has begun: anything else would be no end."""
        stream, exchange = self.streams.get(event.stream_id), self._exchange_of(event.stream_id)
        if stream is None:
            return  # it has been answered
        failure = FAILURES.get(event.code, Failure.CUT)
        can_answer = exchange is not None and self._can_answer(event.stream_id)
        error = failures.error_for(exchange, failure) if exchange and can_answer else None
        if exchange is not None and error is not None:
            yield from self._answer(codec, stream, error, close=_breaks_framing(codec, failure))
            return
        yield from self._hang_up_on_upstream(stream)
        state = self._states.get(event.stream_id)
        last_event = state.last_event if state is not None else None
        self._forget(event.stream_id)
        if stream.flow.websocket is None:
            self.streams.pop(event.stream_id, None)
        if last_event is None:
            yield from super().event_to_child(codec, event)
        else:
            yield from self._end_early(codec, event.stream_id, last_event)

    def _end_early(self, codec: layer.Layer, stream_id: int, last_event: bytes) -> Commands:
        """End a response that has begun with a last event; its client may still be sending the request."""
        if last_event:
            yield from super().event_to_child(codec, ResponseData(stream_id, last_event))
        yield from super().event_to_child(codec, ResponseEndOfMessage(stream_id))
        yield from self._wait_for(self._unread, stream_id)

    def _answer(self, codec: layer.Layer, stream: HttpStream, error: GatewayError, *, close: bool) -> Commands:
        stream_id, exchange = stream.stream_id, self._states[stream.stream_id].exchange
        yield from self._hang_up_on_upstream(stream)
        response = responses.error(error, exchange, stream.flow.request.method)
        if close:
            response.headers["connection"] = "close"
        content = response.raw_content
        yield from super().event_to_child(codec, ResponseHeaders(stream_id, response, not content))
        if content:
            yield from super().event_to_child(codec, ResponseData(stream_id, content))
        # From here on the codec drops what the client still sends of the request.
        self.streams.pop(stream_id, None)
        self._forget(stream_id)
        yield from super().event_to_child(codec, ResponseEndOfMessage(stream_id))
        if close:
            yield commands.CloseTcpConnection(self.context.client, half_close=True)
        else:
            yield from self._wait_for(self._unread, stream_id)


def _breaks_framing(codec: layer.Layer, failure: Failure) -> bool:
    """Tell whether it is unknown where the next request begins on a connection."""
    return isinstance(codec, ClientCodec) and (failure is Failure.MALFORMED or codec.is_done())
