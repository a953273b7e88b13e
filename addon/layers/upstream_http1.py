"""The HTTP/1 of upstreams: passes over interim answers (100 Continue, 103 Early Hints), and refuses ambiguous ones.

mitmproxy takes the first answer for the final one, and then the final one for the answer to the next request on the
connection: to somebody else's, perhaps.
"""

import re

from h11._readers import ChunkedReader
from mitmproxy.http import Request
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    Http1Client,
    HttpEvent,
    ReceiveHttp,
    RequestHeaders,
    ResponseProtocolError,
)

from addon.layers.chunks import Chunks
from addon.layers.persistence import Persistence

MAX_HEADERS = 256 * 1024
"""Bytes of an answer's status line and headers."""

_END_OF_HEAD = re.compile(rb"\n\r?\n")  # as mitmproxy finds it
_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] +[0-9]{3}[ \r\n]")  # mitmproxy takes what `int` does: +200, 2_00

# What a proxy must not pass on (RFC 9110, section 5.5; RFC 9112, section 5.2): a client may take it for a line's end.
_AMBIGUOUS = re.compile(rb"\0|\r(?!\n)|\n[ \t]")

# 101 Switching Protocols is final.
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]")


class UpstreamCodec(Persistence, Http1Client):
    """The codec of an upstream's HTTP/1 connection."""

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Send a part of a request. A body that came over HTTP/2 may need no length there; here it needs its chunks."""
        if self.state == self.done:
            return  # it was answered before its end, and the upstream has gone
        if isinstance(event, RequestHeaders) and not event.end_stream and _has_no_framing(event.request):
            request = event.request.copy()
            request.headers["transfer-encoding"] = "chunked"
            event = RequestHeaders(event.stream_id, request, event.end_stream)
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read the headers of the final answer to a request."""
        if self.request and isinstance(event, events.DataReceived) and not self._is_well_formed():
            yield from self._give_up("malformed headers")
            return
        yield from super().read_headers(event)
        if self.state == self.read_headers and len(self.buf) > MAX_HEADERS:
            yield from self._give_up("headers without end")

    def _is_well_formed(self) -> bool:
        """Look at what has come of an answer, without the interim ones before it."""
        came, start = bytes(self.buf), 0
        end = _END_OF_HEAD.search(came)
        while end is not None and _INTERIM.match(came, start):
            start = end.end()
            end = _END_OF_HEAD.search(came, start)
        if start:
            self.buf.maybe_extract_at_most(start)
        if end is None:
            return True
        return _STATUS_LINE.match(came, start) is not None and _AMBIGUOUS.search(came, start, end.end()) is None

    def _give_up(self, why: str) -> layer.CommandGenerator[None]:
        if self.stream_id is not None:
            yield commands.CloseConnection(self.conn)
            yield ReceiveHttp(ResponseProtocolError(self.stream_id, why, ErrorCode.GENERIC_SERVER_ERROR))

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Read an answer's body. What comes after an answer to an upload that still goes on belongs to nobody."""
        if self.response_done:
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = Chunks(of_answer=True)  # type: ignore[assignment]  # it is called alike
        yield from super().read_body(event)


def _has_no_framing(request: Request) -> bool:
    return "content-length" not in request.headers and "transfer-encoding" not in request.headers


def install() -> None:
    """Have mitmproxy use this codec for every HTTP/1 upstream of the process."""
    http.Http1Client = UpstreamCodec  # type: ignore[misc]  # it has no other place to say so
