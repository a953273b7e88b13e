"""The answering layer, with a 503 in the place of each 401 of the upstream.

The 401 never reaches the flow, which is shown and saved: it may quote a piece of the key, in any of its headers or in
its body. It is read here as far as it comes soon, for its error code.
"""

from mitmproxy.proxy import events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    HttpStream,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)

from addon import rejection
from addon.exchange import Exchanges
from addon.layers.answering_layer import AnsweringLayer, Limits
from addon.layers.timed_layer import Commands
from addon.rejection import Rejection

BODY_TIMEOUT = 2
"""Seconds from the headers of a 401 to its end; the client waits that long at most."""


class RejectingLayer(AnsweringLayer):
    """Refuses each request of a client connection that the upstream answers with a 401."""

    def __init__(self, context: Context, exchanges: Exchanges, limits: Limits) -> None:
        super().__init__(context, exchanges, limits)
        self._rejections: dict[int, Rejection] = {}
        self._in_rejection = self._limit(BODY_TIMEOUT, self._reject_late)

    def _event_to_stream(self, stream: HttpStream, event: events.Event) -> Commands:
        if isinstance(event, ResponseHeaders) and rejection.is_rejection(event.response):
            return self._begin_rejection(stream, event)
        if stream.stream_id in self._rejections and isinstance(event, _OF_AN_ANSWER):
            return self._go_on_rejecting(stream, event)
        return super()._event_to_stream(stream, event)

    def _begin_rejection(self, stream: HttpStream, event: ResponseHeaders) -> Commands:
        stream_id = stream.stream_id
        self._unanswered.stop(stream_id)
        self._rejections[stream_id] = Rejection(self._of_stream[stream_id], stream.flow.request, event.response)
        yield from self._wait_for(self._in_rejection, stream_id)

    def _go_on_rejecting(self, stream: HttpStream, event: events.Event) -> Commands:
        if isinstance(event, ResponseTrailers):
            return
        if not isinstance(event, ResponseData) or not self._rejections[stream.stream_id].feed(event.data):
            yield from self._reject(stream)

    def _reject_late(self, stream_id: int) -> Commands:
        stream = self.streams.get(stream_id)
        if stream is not None:
            yield from self._reject(stream)

    def _reject(self, stream: HttpStream) -> Commands:
        self._in_rejection.stop(stream.stream_id)
        yield from self._refuse(stream, self._rejections.pop(stream.stream_id).refusal())

    def _forget(self, stream_id: int) -> None:
        super()._forget(stream_id)
        self._rejections.pop(stream_id, None)
        self._in_rejection.stop(stream_id)


_OF_AN_ANSWER = (ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)
