"""The keyed layer: mitmproxy's HTTP layer, with the upstream key on the wire and nowhere else.

- A request that goes to the upstream is replaced by a copy with the key (`forwarding.keyed_request`).
- Before a connection to the upstream is opened or reused, the flow must hold a grant for just that destination.
- A response goes to the client without hop-by-hop headers, and its locations lead to the gateway.
"""

from typing import cast

from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpStream,
    RequestHeaders,
    ResponseHeaders,
)

from addon import forwarding, shown_models
from addon.exchange import Destination
from addon.layers.client_http1 import ClientCodec
from addon.layers.rejecting_layer import RejectingLayer
from addon.layers.timeouts import Commands


class KeyedLayer(RejectingLayer):
    """The HTTP layer of a client connection: a request leaves with a grant only, and the key on a copy only."""

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> Commands:
        """Connect to the upstream for a stream that holds a grant for it; refuse all others."""
        stream = cast("HttpStream", self.command_sources[event])
        exchange = self._states[stream.stream_id].exchange
        destination = None if event.via else Destination(*event.address[:2], event.tls)
        refusal = forwarding.refusal(stream.flow.request, exchange, destination)
        if refusal is not None:
            exchange.refuse(refusal)
            del self.command_sources[event]
            yield from self.event_to_child(stream, GetHttpConnectionCompleted(event, (None, refusal.message)))
            return
        yield from super().get_connection(event, reuse=reuse)

    def _event_to_codec(self, codec: layer.Layer, event: events.Event) -> Commands:
        if isinstance(event, RequestHeaders):
            event = self._keyed(event)
        elif isinstance(event, ResponseHeaders):
            closes = self._exchanges.are_ending and isinstance(codec, ClientCodec)
            exchange = self._exchange_of(event.stream_id)
            passed = forwarding.client_response(event.response, exchange.upstream if exchange else None, closes=closes)
            event = ResponseHeaders(event.stream_id, passed, event.end_stream)
        return super()._event_to_codec(codec, event)

    def _keyed(self, event: RequestHeaders) -> RequestHeaders:
        exchange = self._states[event.stream_id].exchange
        if exchange.grant is None:
            raise RuntimeError("a request without a grant reached the wire")
        exchange.note_sent()
        for_reading = shown_models.is_filtered(exchange, event.request)
        keyed = forwarding.keyed_request(event.request, exchange.grant, for_reading=for_reading)
        return RequestHeaders(event.stream_id, keyed, event.end_stream)
