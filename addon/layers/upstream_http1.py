"""The HTTP/1 codec of upstreams: skips interim responses (100 Continue, 103 Early Hints), rejects ambiguous ones.

mitmproxy takes the first response for the final one, and then the final one for the response to the next request on the
connection, which may be another client's.
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

from addon.layers.http1_common import ChunkReader, ClosingConnection
from addon.replacing import replace

MAX_HEADERS = 256 * 1024
"""Bytes of a response's status line and headers."""

_END_OF_HEAD = re.compile(rb"\n\r?\n")  # as mitmproxy finds it
_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] +[1-9][0-9]{2}[ \r\n]")  # mitmproxy takes +200 and 2_00 too

_LINE_ENDS = (b"\r", b"\n")

# A proxy must not forward these (RFC 9110, section 5.5; RFC 9112, section 5.2): a client may take one for a line end.
_AMBIGUOUS = re.compile(rb"\0|\r(?!\n)|\n[ \t]")

# 101 Switching Protocols is final.
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}[ \r\n]")


def final_head(data: bytes) -> tuple[int, int | None]:
    """Return where the head of the final response begins, behind interim ones, and ends; None if more must come.

    Raises ValueError for a head that is malformed or ambiguous.
    """
    start, end = 0, _END_OF_HEAD.search(data)
    while end is not None and _INTERIM.match(data, start):
        start = end.end()
        end = _END_OF_HEAD.search(data, start)
    if data.startswith(_LINE_ENDS, start):  # mitmproxy skips a blank line that comes alone, and only then
        raise ValueError("malformed headers")
    if end is None:
        return start, None
    if _STATUS_LINE.match(data, start) is None or _AMBIGUOUS.search(data, start, end.end()) is not None:
        raise ValueError("malformed headers")
    return start, end.end()


class UpstreamCodec(ClosingConnection, Http1Client):
    """The codec of an upstream's HTTP/1 connection."""

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Send a part of a request. A body that came over HTTP/2 without a length is sent in chunks."""
        if self.state == self.done:
            return  # the response came before the end of the request, and the upstream has gone
        if isinstance(event, RequestHeaders) and not event.end_stream and _has_no_framing(event.request):
            request = event.request.copy()
            request.headers["transfer-encoding"] = "chunked"
            event = RequestHeaders(event.stream_id, request, event.end_stream)
        yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read the headers of the final response to a request."""
        if self.request and isinstance(event, events.DataReceived):
            try:
                start, _ = final_head(bytes(self.buf))
            except ValueError as error:
                yield from self._give_up(str(error))
                return
            self.buf.maybe_extract_at_most(start)
        yield from super().read_headers(event)
        if self.state == self.read_headers and len(self.buf) > MAX_HEADERS:
            yield from self._give_up("headers without end")

    def _give_up(self, why: str) -> layer.CommandGenerator[None]:
        if self.stream_id is not None:
            yield commands.CloseConnection(self.conn)
            yield ReceiveHttp(ResponseProtocolError(self.stream_id, why, ErrorCode.GENERIC_SERVER_ERROR))

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Read a response's body. Data that follows it while the upload still goes on belongs to no request."""
        if self.response_done:
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        if type(self.body_reader) is ChunkedReader:
            self.body_reader = ChunkReader(of_response=True)  # type: ignore[assignment]  # called alike
        yield from super().read_body(event)


def _has_no_framing(request: Request) -> bool:
    return "content-length" not in request.headers and "transfer-encoding" not in request.headers


def install() -> None:
    """Use this codec for every HTTP/1 upstream of the process.

    REPLACES: `Http1Client` in mitmproxy.proxy.layers.http, a name that its HttpLayer looks up for each connection.
    WHY: interim responses desynchronise a connection, https://github.com/mitmproxy/mitmproxy/issues/2229 (closed, and
    still so); for ambiguous responses and for `Connection: Close` no upstream issue is known.
    REMOVE WHEN: an addon can choose the codec; the rejections themselves are the gateway's own rules.
    """
    replace(http, "Http1Client", UpstreamCodec)
