"""The requests that the plain path takes: a strict subset of what the codec of clients accepts.

RFC 9112 in its usual form: a method of the API, or OPTIONS, with which browsers ask before they send one; a path, one
Host, no body or one with a Content-Length. Whatever else a request may be, valid or not, is for the layers to read, so
that there is one reader only of all that is unusual. A test holds that both read alike whatever this one accepts.
"""

import re
import time
from typing import NamedTuple

from mitmproxy import http

from addon.forwarding import headers_of
from addon.layers.client_http1 import HOST
from addon.layers.http1_common import USUAL_FIELDS, usual_fields
from addon.streaming import LARGE
from addon.validation import MAX_HEADERS

END_OF_HEAD = b"\r\n\r\n"

_HEAD = re.compile(rb"(GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) (/[!-~]*) HTTP/1\.1\r\n" + USUAL_FIELDS)

_BEGINNING = re.compile(
    rb"(?:G|GE|GET|P|PO|POS|POST|PU|PUT|PA|PAT|PATC|PATCH|D|DE|DEL|DELE|DELET|DELETE|H|HE|HEA|HEAD"
    rb"|O|OP|OPT|OPTI|OPTIO|OPTION|OPTIONS)"
)
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,15}")

_UNUSUAL = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"trailer", b"http2-settings"})
_LOOKED_AT = _UNUSUAL | {b"host", b"content-length", b"connection"}
_CONNECTION = {b"keep-alive": False, b"close": True}


class Origin(NamedTuple):
    """The upstream that a port's requests are for, as their flows show it."""

    scheme: bytes
    host: str
    port: int
    host_header: bytes


class Accepted(NamedTuple):
    """A request without its body."""

    request: http.Request
    length: int
    """Bytes of the body."""
    is_last: bool
    """True if the client wants the connection closed after the response."""


def may_begin(data: bytes) -> bool:
    """Tell whether a request that has come in part may still be one for the plain path."""
    method = data.partition(b" ")[0]
    return _BEGINNING.fullmatch(method) is not None and len(data) <= MAX_HEADERS and not _has_lone_line_ends(data)


def read(head: bytes, origin: Origin) -> Accepted | None:
    """Read the head of a request, up to the end of its blank line; None if it is for the layers."""
    found = _HEAD.fullmatch(head)
    if found is None or len(head) > MAX_HEADERS:
        return None
    method, target, block = found.groups()
    fields = usual_fields(block)
    hosts = lengths = length = 0
    is_last = False
    for index, (name, value) in enumerate(fields):
        lowered = name.lower()
        if lowered not in _LOOKED_AT:
            continue
        if lowered == b"host" and HOST.fullmatch(value.decode("latin-1")):
            hosts += 1
            fields[index] = (name, origin.host_header)
        elif lowered == b"content-length" and _LENGTH.fullmatch(value):
            lengths += 1
            length = int(value)
        elif lowered == b"connection" and value.lower() in _CONNECTION:
            is_last |= _CONNECTION[value.lower()]
        else:
            return None
    if hosts != 1 or lengths > 1 or length > LARGE:
        return None
    return Accepted(_request(method, target, tuple(fields), origin), length, is_last)


def _request(method: bytes, target: bytes, fields: tuple[tuple[bytes, bytes], ...], origin: Origin) -> http.Request:
    return http.Request(
        host=origin.host,
        port=origin.port,
        method=method,
        scheme=origin.scheme,
        authority=b"",
        path=target,
        http_version=b"HTTP/1.1",
        headers=headers_of(fields),
        content=None,
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )


def _has_lone_line_ends(data: bytes) -> bool:
    """Tell whether there are line ends that are not CR LF: a lenient reader may see the end of the headers there."""
    return data.count(b"\n") != data.count(b"\r\n")
