"""The HTTP/2 codec of clients: leaves headers that are too large to the validation, and drops streams that have ended.

It also rejects a request that ends with its headers and yet announces a body: the library compares a Content-Length
with the frames of data only, and there are none. Forwarded in HTTP/1, such a request would take the beginning of the
next one for its body.

When the process is about to end, clients are told to send their next requests elsewhere.
"""

import h2.errors
import h2.events
from hyperframe.frame import GoAwayFrame
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import Http2Server, ResponseEndOfMessage, ResponseProtocolError

from addon.exchange import Exchanges
from addon.layers.timeouts import Commands

MOST_DECODED = 256 * 1024
"""Bytes of a request's headers, counted as in RFC 9113, section 6.5.2; with more, the whole connection ends.

The limit is higher than that of a request, so that a request which is too large gets a response and harms no other.
"""

BUSY = 2.0
"""Seconds after which even clients that wait for responses are told to go elsewhere."""


class ClientHttp2(Http2Server):
    """The codec of a client's HTTP/2 connection."""

    def __init__(self, context: Context, exchanges: Exchanges) -> None:
        super().__init__(context)
        self._exchanges = exchanges
        self._last_stream: int | None = None
        """The last stream that is answered, once the client has been told to go elsewhere."""
        self.h2_conn.decoder.max_header_list_size = MOST_DECODED

    def is_full(self, stream_id: int) -> bool:
        """Return whether data waits for the client's window to open."""
        return stream_id in self.h2_conn.stream_buffers

    def _handle_event(self, event: events.Event) -> Commands:
        yield from super()._handle_event(event)
        if isinstance(event, ResponseEndOfMessage | ResponseProtocolError | events.DataReceived):
            # A copy: mitmproxy may be iterating over the dict, to tell each stream that the client is gone.
            self.streams = {number: state for number, state in self.streams.items() if not self.is_closed(number)}
            if self._exchanges.are_ending and self._last_stream is None:
                yield from self._send_goaway()

    def _send_goaway(self) -> Commands:
        """Send GOAWAY (RFC 9113, section 6.8); at first only where no stream is under way.

        Some clients, those with the h2 library among them, read nothing more after it.
        """
        if not self.streams or self._exchanges.have_been_ending(BUSY):
            self._last_stream = self.h2_conn.highest_inbound_stream_id
            yield commands.SendData(self.conn, GoAwayFrame(0, last_stream_id=self._last_stream).serialize())

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        """Handle an event of the client; return whether the connection has ended."""
        if isinstance(event, h2.events.RequestReceived) and (fault := self._fault(event)) is not None:
            # A stream's error, not the connection's (RFC 9113, section 8.1.1); the frame goes out with the next data.
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
