"""The HTTP/1 of upstreams: passes over interim answers (100 Continue, 103 Early Hints), and bounds what is no body.

mitmproxy takes the first answer for the final one, and then the final one for the answer to the next request on the
connection: to somebody else's, perhaps.
"""

import re

from h11._readers import ChunkedReader
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http
from mitmproxy.proxy.layers.http import ErrorCode, Http1Client, ReceiveHttp, ResponseProtocolError

from addon.seams.chunks import Chunks

MAX_HEADERS = 256 * 1024
"""Bytes of an answer's status line and headers."""

# 101 Switching Protocols is final.
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]")


class UpstreamCodec(Http1Client):
    """The codec of an upstream's HTTP/1 connection."""

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read the headers of the final answer to a request."""
        while self.request and _INTERIM.match(bytes(self.buf)):
            if self.buf.maybe_extract_lines() is None:
                break  # the rest is to come
        yield from super().read_headers(event)
        if self.state == self.read_headers and self.stream_id is not None and len(self.buf) > MAX_HEADERS:
            yield commands.CloseConnection(self.conn)
            endless = ResponseProtocolError(self.stream_id, "headers without end", ErrorCode.GENERIC_SERVER_ERROR)
            yield ReceiveHttp(endless)

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Read an answer's body."""
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = Chunks(of_answer=True)
        yield from super().read_body(event)


def install() -> None:
    """Have mitmproxy use this codec for every HTTP/1 upstream of the process."""
    http.Http1Client = UpstreamCodec  # type: ignore[misc]  # it has no other place to say so
