"""Validates requests before their token is looked at. Only the upstream's /v1 is reachable."""

import re
from urllib.parse import unquote_to_bytes

from mitmproxy import http

from store.errors import ExpectationFailed, HeadersTooLarge, InvalidRequest, MethodNotAllowed, NotFound, RequestTooLarge

HEALTH_PATH = b"/health"
READY_PATH = b"/ready"
TOKEN_PATH = b"/token"
API_ROOT = b"/v1/"

MALFORMED = "The request is malformed HTTP."
NOTHING_THERE = "There is nothing at this path; the API is at /v1/."

API_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
_OWN_METHODS = ("GET", "HEAD")

_PROBED = frozenset({HEALTH_PATH, READY_PATH})
_OWN = _PROBED | {TOKEN_PATH}

MAX_HEADERS = 64 * 1024
"""Bytes of a request's headers, and of its target."""

_CONTINUE = "100-continue"
"""The only expectation there is. Upstreams take others for this one, or for none, and wait for the body or not."""

_PLAIN_PATH = re.compile(rb"(?:/\w[\w.~-]*)+")
"""The usual paths, in which there is nothing to decode."""
_TARGET = re.compile(rb"/[!\"$-~]*")  # visible ASCII, without '#'

# RFC 9110, section 5.5, forbids these in values; a line end in one would begin another header.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def check(request: http.Request) -> None:
    """Reject a malformed request, an unknown path or method. The outcome depends on `seen` of the request alone.

    Raises InvalidRequest, ExpectationFailed, HeadersTooLarge, NotFound or MethodNotAllowed.
    """
    check_form(request)
    path = path_of(request)
    if is_own(request):
        _check_method(request, _OWN_METHODS)
    elif path.startswith(API_ROOT):
        _check_method(request, API_METHODS)
    else:
        raise NotFound(NOTHING_THERE)


def check_form(request: http.Request) -> None:
    """Reject a request that is malformed. Raises InvalidRequest, ExpectationFailed or HeadersTooLarge."""
    _check_target(request)
    _check_headers(request.headers)


def seen(request: http.Request) -> tuple[object, ...]:
    """Return the parts of a request that `check` looks at."""
    data = request.data
    return data.path, data.method, data.authority, data.http_version, data.headers.fields


def check_length(request: http.Request, most: int) -> None:
    """Reject a body whose Content-Length is above `most` bytes. Raises RequestTooLarge."""
    if length_of(request) > most:
        raise RequestTooLarge


def length_of(request: http.Request) -> int:
    """Return the bytes of a body, by its Content-Length; 0 where that is absent or is no number."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def path_of(request: http.Request) -> bytes:
    """Return the path as it was sent, without the query."""
    return request.data.path.partition(b"?")[0]


def is_own(request: http.Request) -> bool:
    """Tell whether the request is for the proxy itself: about its health, whether it is ready, or about a token."""
    return path_of(request) in _OWN


def is_probe(request: http.Request) -> bool:
    """Tell whether the request asks how the proxy is; anyone may ask that, without a token."""
    return path_of(request) in _PROBED


def _check_target(request: http.Request) -> None:
    if request.data.authority and not (request.is_http2 or request.is_http3):
        raise InvalidRequest("Send the path alone as the request target, not a whole URL.")
    target = request.data.path
    if len(target) > MAX_HEADERS:
        raise HeadersTooLarge
    if not _TARGET.fullmatch(target):
        raise InvalidRequest("The request target must be a path in ASCII, without blanks, control characters and '#'.")
    if _PLAIN_PATH.fullmatch(path_of(request)):
        return
    decoded = unquote_to_bytes(path_of(request))
    segments = decoded.removesuffix(b"/").split(b"/")[1:]
    # Some servers take ';' for the start of a segment's parameters, and thus "..;" for "..".
    names = {segment.partition(b";")[0] for segment in segments}
    if b"\\" in decoded or names & {b"", b".", b".."}:
        raise InvalidRequest("The path must not hold empty segments, '.', '..' or backslashes, encoded or not.")


def _check_headers(headers: http.Headers) -> None:
    names = b"".join([name for name, _ in headers.fields])
    values = b"".join([value for _, value in headers.fields])
    if len(names) + len(values) > MAX_HEADERS:
        raise HeadersTooLarge
    if _CONTROL.search(values):
        raise InvalidRequest("A header's value must hold no line ends or other control characters.")
    if headers.get("expect", _CONTINUE).lower() != _CONTINUE:
        raise ExpectationFailed
    if headers.get("transfer-encoding", "chunked").lower() != "chunked":
        raise InvalidRequest("Send the body with a Content-Length, or with 'Transfer-Encoding: chunked'.")


def _check_method(request: http.Request, allowed: tuple[str, ...]) -> None:
    # As it was sent: `request.method` is in capitals, and turns "get" into GET.
    if request.data.method.decode("latin-1") not in allowed:
        raise MethodNotAllowed(", ".join(allowed))
