"""The keyed layer: mitmproxy's HTTP layer, with the upstream key on the wire and nowhere else.

- A request that goes to the upstream's side is replaced by a copy with the key (`wire.keyed_request`).
- Before a connection to the upstream is opened or reused, the flow must hold a grant for just that destination.
- An answer goes to the client without what is meant for one hop, and its locations lead to the gateway.
"""

import time
from typing import cast

from mitmproxy import http
from mitmproxy.net.http import url
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpStream,
    RequestHeaders,
    ResponseHeaders,
)

from addon import forwarding, validation
from addon.exchange import Destination, Exchange
from addon.layers.client_http1 import ClientCodec
from addon.layers.rejecting_layer import RejectingLayer
from addon.layers.timed_layer import Commands
from addon.protocol.reserved_endpoints import is_reserved
from store.errors import DestinationRefused, EndpointNotAllowed, GatewayError


class KeyedLayer(RejectingLayer):
    """See the module's text. One a client connection."""

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> Commands:
        """Connect to the upstream for a stream that holds a grant for it; refuse all others."""
        stream = cast("HttpStream", self.command_sources[event])
        exchange = self._of_stream[stream.stream_id]
        refusal = _refusal(stream.flow.request, exchange, event)
        if refusal is not None:
            exchange.refusal = refusal
            del self.command_sources[event]
            yield from self.event_to_child(stream, GetHttpConnectionCompleted(event, (None, refusal.message)))
            return
        yield from super().get_connection(event, reuse=reuse)

    def _event_to_codec(self, codec: layer.Layer, event: events.Event) -> Commands:
        if isinstance(event, RequestHeaders):
            event = self._keyed(event)
        elif isinstance(event, ResponseHeaders):
            closes = self._exchanges.are_ending and isinstance(codec, ClientCodec)
            exchange = self._of_stream.get(event.stream_id)
            passed = forwarding.client_response(event.response, exchange.upstream if exchange else None, closes=closes)
            event = ResponseHeaders(event.stream_id, passed, event.end_stream)
        return super()._event_to_codec(codec, event)

    def _keyed(self, event: RequestHeaders) -> RequestHeaders:
        exchange = self._of_stream[event.stream_id]
        if exchange.grant is None:
            raise RuntimeError("a request without a grant reached the wire")
        exchange.sent = time.monotonic()
        return RequestHeaders(
            event.stream_id, forwarding.keyed_request(event.request, exchange.grant), event.end_stream
        )


def _refusal(request: http.Request, exchange: Exchange, wanted: GetHttpConnection) -> GatewayError | None:
    """Return why a request must not get a connection, or None. An operator may have edited it since it was admitted."""
    grant = exchange.grant
    if grant is None:
        return exchange.refusal or GatewayError()
    if wanted.via or Destination(*wanted.address[:2], wanted.tls) != grant.destination:
        return DestinationRefused()
    if _hosts(request) != {url.hostport(request.scheme, grant.destination.host, grant.destination.port)}:
        return DestinationRefused()  # behind one address there may be many hosts
    try:
        if validation.seen(request) != exchange.checked:
            validation.check(request)
    except GatewayError as error:
        return error
    return EndpointNotAllowed() if is_reserved(request.method, validation.path_of(request)) else None


def _hosts(request: http.Request) -> set[str | None]:
    """Return every name under which a request asks for its host."""
    return {request.host_header, *request.headers.get_all("host")}
