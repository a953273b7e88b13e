"""The answering layer, with a 503 in the place of each 401 of the upstream.

The 401 never reaches the flow, which is shown and saved: it may quote a piece of the key, in any of its headers or in
its body. Its body is read here for `rejection.BODY_TIMEOUT` at most, for its error code.
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
from addon.failures import Limits
from addon.layers.answering_layer import AnsweringLayer
from addon.layers.stream_state import Deliver
from addon.layers.timeouts import Commands
from addon.rejection import Rejection, is_rejection


class RejectingLayer(AnsweringLayer):
    """Refuses each request that the upstream answers with a 401."""

    def __init__(self, context: Context, exchanges: Exchanges, limits: Limits, deliver: Deliver) -> None:
        super().__init__(context, exchanges, limits, deliver)
        self._in_rejection = self._limit(rejection.BODY_TIMEOUT, self._reject_late)

    def _event_to_stream(self, stream: HttpStream, event: events.Event) -> Commands:
        if isinstance(event, ResponseHeaders) and is_rejection(event.response):
            return self._begin_rejection(stream, event)
        state = self._states.get(stream.stream_id)
        if state is not None and state.rejection is not None and isinstance(event, _RESPONSE_EVENTS):
            return self._go_on_rejecting(stream, state.rejection, event)
        return super()._event_to_stream(stream, event)

    def _begin_rejection(self, stream: HttpStream, event: ResponseHeaders) -> Commands:
        state = self._states[stream.stream_id]
        self._unanswered.stop(stream.stream_id)
        state.rejection = Rejection(state.exchange, stream.flow.request, event.response)
        yield from self._wait_for(self._in_rejection, stream.stream_id)

    def _go_on_rejecting(self, stream: HttpStream, rejection: Rejection, event: events.Event) -> Commands:
        if isinstance(event, ResponseTrailers):
            return
        if not isinstance(event, ResponseData) or not rejection.feed(event.data):
            yield from self._reject(stream, rejection)

    def _reject_late(self, stream_id: int) -> Commands:
        stream, state = self.streams.get(stream_id), self._states.get(stream_id)
        if stream is not None and state is not None and state.rejection is not None:
            yield from self._reject(stream, state.rejection)

    def _reject(self, stream: HttpStream, rejection: Rejection) -> Commands:
        self._in_rejection.stop(stream.stream_id)
        self._states[stream.stream_id].rejection = None
        yield from self._refuse(stream, rejection.refusal())

    def _forget(self, stream_id: int) -> None:
        super()._forget(stream_id)
        self._in_rejection.stop(stream_id)


_RESPONSE_EVENTS = (ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)
