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
from addon.seams.timed_layer import Commands

MOST_DECODED = 256 * 1024
"""Bytes of a request's headers, counted as in RFC 9113, section 6.5.2; with more, the whole connection ends.

That is more than a request may have, so that one which is too large gets an answer and harms no other.
"""

_ANY_STREAM = 2**31 - 1
"""What is on its way, and nobody has seen yet, is answered too (RFC 9113, section 6.8)."""


class ClientHttp2(Http2Server):
    """The codec of a client's HTTP/2 connection."""

    def __init__(self, context: Context, exchanges: Exchanges) -> None:
        super().__init__(context)
        self._exchanges = exchanges
        self._is_told_to_go = False
        self.h2_conn.decoder.max_header_list_size = MOST_DECODED

    def is_full(self, stream_id: int) -> bool:
        """Tell whether something is kept back that the client has not allowed to be sent yet."""
        return stream_id in self.h2_conn.stream_buffers

    def _handle_event(self, event: events.Event) -> Commands:
        yield from super()._handle_event(event)
        if isinstance(event, ResponseEndOfMessage | ResponseProtocolError) and self.is_closed(event.stream_id):
            # A copy: mitmproxy may be going through the other one, to tell all of them that the client is gone.
            self.streams = {
                stream_id: state for stream_id, state in self.streams.items() if stream_id != event.stream_id
            }
            yield from self._tell_to_go()

    def _tell_to_go(self) -> Commands:
        """Tell the client, once, to use another connection; not before its answers are complete.

        Some clients, those with the h2 library among them, read nothing more once they are told.
        """
        if self._exchanges.are_ending and not self.streams and not self._is_told_to_go:
            self._is_told_to_go = True
            yield commands.SendData(self.conn, GoAwayFrame(0, last_stream_id=_ANY_STREAM).serialize())

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        """Handle what the client sent; tell whether the connection has ended."""
        if isinstance(event, h2.events.RequestReceived) and event.stream_ended and _announces_body(event):
            # A stream's error, not the connection's (RFC 9113, section 8.1.1); what else is sent goes along.
            self.h2_conn.reset_stream(event.stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)
            return False
        return (yield from super().handle_h2_event(event))


def _announces_body(event: h2.events.RequestReceived) -> bool:
    return any(name == b"content-length" and value.strip(b"0") for name, value in event.headers)
