"""The HTTP/2 of clients: leaves headers that are too large to the edge, and forgets what has ended.

And it refuses a request that ends with its headers, and yet announces a body: the library compares a Content-Length
with the frames of data only, of which there are none. Sent on in HTTP/1, such a request takes the beginning of the next
one for its body.

When the process is about to end, clients are told to go elsewhere with their next requests.
"""

import h2.errors
import h2.events
from hyperframe.frame import GoAwayFrame
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import Http2Server, ResponseEndOfMessage, ResponseProtocolError

from addon.exchange import Exchanges
from addon.layers.timed_layer import Commands

MOST_DECODED = 256 * 1024
"""Bytes of a request's headers, counted as in RFC 9113, section 6.5.2; with more, the whole connection ends.

That is more than a request may have, so that one which is too large gets an answer and harms no other.
"""

BUSY = 2.0
"""Seconds after which clients are told to go elsewhere also while they wait for answers."""


class ClientHttp2(Http2Server):
    """The codec of a client's HTTP/2 connection."""

    def __init__(self, context: Context, exchanges: Exchanges) -> None:
        super().__init__(context)
        self._exchanges = exchanges
        self._last_stream: int | None = None
        """The last one that is answered, once the client is told to go elsewhere with others."""
        self.h2_conn.decoder.max_header_list_size = MOST_DECODED

    def is_full(self, stream_id: int) -> bool:
        """Tell whether something is kept back that the client has not allowed to be sent yet."""
        return stream_id in self.h2_conn.stream_buffers

    def _handle_event(self, event: events.Event) -> Commands:
        yield from super()._handle_event(event)
        if isinstance(event, ResponseEndOfMessage | ResponseProtocolError | events.DataReceived):
            # A copy: mitmproxy may be going through the other one, to tell all of them that the client is gone.
            self.streams = {number: state for number, state in self.streams.items() if not self.is_closed(number)}
            if self._exchanges.are_ending and self._last_stream is None:
                yield from self._tell_to_go()

    def _tell_to_go(self) -> Commands:
        """Tell the client to use another connection (RFC 9113, section 6.8); at first only where nothing is under way.

        Some clients, those with the h2 library among them, read nothing more once they are told.
        """
        if not self.streams or self._exchanges.have_been_ending(BUSY):
            self._last_stream = self.h2_conn.highest_inbound_stream_id
            yield commands.SendData(self.conn, GoAwayFrame(0, last_stream_id=self._last_stream).serialize())

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        """Handle what the client sent; tell whether the connection has ended."""
        if isinstance(event, h2.events.RequestReceived) and (fault := self._fault(event)) is not None:
            # A stream's error, not the connection's (RFC 9113, section 8.1.1); what else is sent goes along.
            self.h2_conn.reset_stream(event.stream_id, fault)
            return False
        return (yield from super().handle_h2_event(event))

    def _fault(self, event: h2.events.RequestReceived) -> h2.errors.ErrorCodes | None:
        if self._last_stream is not None and event.stream_id > self._last_stream:
            return h2.errors.ErrorCodes.REFUSED_STREAM  # the client sends it again elsewhere
        is_short = event.stream_ended and _announces_body(event)
        return h2.errors.ErrorCodes.PROTOCOL_ERROR if is_short else None


def _announces_body(event: h2.events.RequestReceived) -> bool:
    return any(name == b"content-length" and value.strip(b"0") for name, value in event.headers)
