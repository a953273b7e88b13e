"""The HTTP/2 of clients: refuses a request that ends with its headers, and yet announces a body.

The library compares a Content-Length with the frames of data only, of which there are none. Sent on in HTTP/1, such a
request takes the beginning of the next one for its body.
"""

import h2.errors
import h2.events
from mitmproxy.proxy import layer
from mitmproxy.proxy.layers.http import Http2Server


class Http2ClientCodec(Http2Server):
    """The codec of a client's HTTP/2 connection."""

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        """Handle what the client sent; tell whether the connection has ended."""
        if isinstance(event, h2.events.RequestReceived) and event.stream_ended and _announces_body(event):
            # A stream's error, not the connection's (RFC 9113, section 8.1.1); what else is sent goes along.
            self.h2_conn.reset_stream(event.stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)
            return False
        return (yield from super().handle_h2_event(event))


def _announces_body(event: h2.events.RequestReceived) -> bool:
    return any(name == b"content-length" and value.strip(b"0") for name, value in event.headers)
