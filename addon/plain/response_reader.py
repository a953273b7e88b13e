"""Reads a response of the upstream, by the same rules as the codec of upstreams in `addon/layers`."""

import re
import time
from collections.abc import Iterable, Iterator

from h11 import ProtocolError
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import http
from mitmproxy.net.http import http1, validate

from addon.forwarding import headers_of
from addon.layers.http1_common import USUAL_FIELDS, ChunkReader, usual_fields
from addon.layers.upstream_http1 import MAX_HEADERS, final_head

UNTIL_CLOSE = -1
"""The size of a body that ends with its connection, as mitmproxy says it."""

_USUAL_HEAD = re.compile(rb"HTTP/1\.1 ([2-9][0-9]{2}) ((?:[!-~][ -~]*)?)\r\n" + USUAL_FIELDS)
_LENGTH = b"content-length"
_USUAL_LENGTH = re.compile(rb"0|[1-9][0-9]*")


class BadResponse(Exception):
    """The upstream's response is of no use. The text is for operators, and quotes no bytes of it."""


def read_head(data: bytes) -> tuple[http.Response | None, bytes]:
    """Return the final response that data begins with, without a body, and the rest of the data.

    The response is None if more data must come first; interim responses are not in the rest. Raises BadResponse.
    """
    usual = _USUAL_HEAD.match(data)
    response = None if usual is None else _usual_response(*usual.groups())
    return _read_unusual(data) if usual is None or response is None else (response, data[usual.end() :])


def _usual_response(status: bytes, reason: bytes, lines: bytes) -> http.Response | None:
    """Read a head in its usual form, at a third of the cost; None for one that is to be read with more care."""
    fields = tuple(usual_fields(lines))
    names = [name.lower() for name, _ in fields]
    lengths = names.count(_LENGTH)
    if b"transfer-encoding" in names or lengths > 1:
        return None
    if lengths and not _USUAL_LENGTH.fullmatch(fields[names.index(_LENGTH)][1]):
        return None
    return http.Response(b"HTTP/1.1", int(status), reason, headers_of(fields), None, None, time.time(), None)


def _read_unusual(data: bytes) -> tuple[http.Response | None, bytes]:
    try:
        start, end = final_head(data)
    except ValueError as error:
        raise BadResponse(str(error)) from None
    if end is None:
        if len(data) - start > MAX_HEADERS:
            raise BadResponse("headers without end")
        return None, data[start:]
    lines = [line.removesuffix(b"\r") for line in data[start:end].split(b"\n")[:-2]]
    try:
        response = http1.read_response_head(lines)
        validate.validate_headers(response)
    except ValueError:
        raise BadResponse("malformed headers") from None
    return response, data[end:]


class Body:
    """The body of a response, as it comes."""

    def __init__(self, request: http.Request, response: http.Response) -> None:
        """Take the request and its response. Raises BadResponse if its length is unclear."""
        try:
            size = http1.expected_http_body_size(request, response)
        except ValueError:
            raise BadResponse("malformed headers") from None
        self._left = size
        self._chunks = None if size is not None else (ChunkReader(of_response=True), ReceiveBuffer())
        self.surplus = False
        """True if more has come than the body: it belongs to no request."""

    @property
    def is_complete(self) -> bool:
        """True once the whole body has come; never for one that ends with the connection."""
        return self._left == 0

    @property
    def may_end(self) -> bool:
        """True if the end of the connection is the end of the body, or comes after it."""
        return self._left in {0, UNTIL_CLOSE}

    def feed(self, data: bytes) -> Iterable[bytes]:
        """Return the pieces of the body in the next data. Raises BadResponse."""
        if self._chunks is not None:
            return self._unchunked(*self._chunks, data)
        left = self._left or 0
        if left == UNTIL_CLOSE:
            return [data] if data else []
        piece = data[:left] if len(data) > left else data
        self._left = left - len(piece)
        self.surplus |= len(data) > left
        return [piece] if piece else []

    def _unchunked(self, reader: ChunkReader, buffer: ReceiveBuffer, data: bytes) -> Iterator[bytes]:
        buffer += data
        try:
            while (piece := reader.read(buffer)) is not None:
                yield piece
        except ProtocolError:
            raise BadResponse("malformed chunks") from None
        if reader.is_complete:
            self._left = 0
            self.surplus |= len(buffer) > 0
