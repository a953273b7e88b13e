"""The edge: what a request must look like before anybody asks who sent it. Only the upstream's /v1 is reachable."""

from urllib.parse import unquote_to_bytes

from mitmproxy import http

from store.errors import InvalidRequest, MethodNotAllowed, NotFound

HEALTH_PATH = b"/health"
API_ROOT = b"/v1/"

_API_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
_HEALTH_METHODS = ("GET", "HEAD")


def check(request: http.Request) -> None:
    """Refuse what is malformed, elsewhere, or no method of ours. Raises InvalidRequest, NotFound, MethodNotAllowed."""
    _check_target(request)
    path = path_of(request)
    if path == HEALTH_PATH:
        _check_method(request, _HEALTH_METHODS)
    elif path.startswith(API_ROOT):
        _check_method(request, _API_METHODS)
    else:
        raise NotFound("There is nothing at this path; the API is at /v1/.")


def path_of(request: http.Request) -> bytes:
    """Return the path as it was sent, without its query."""
    return request.data.path.partition(b"?")[0]


def is_health(request: http.Request) -> bool:
    """Tell whether the request is for the proxy itself."""
    return path_of(request) == HEALTH_PATH


def _check_target(request: http.Request) -> None:
    if request.data.authority and not (request.is_http2 or request.is_http3):
        raise InvalidRequest("Send the path alone as the request target, not a whole URL.")
    target = request.data.path
    if not target.startswith(b"/") or b"#" in target or any(byte <= 0x20 or byte == 0x7F for byte in target):  # noqa: PLR2004
        raise InvalidRequest("The request target must be a path, without blanks, control characters and '#'.")
    decoded = unquote_to_bytes(path_of(request))
    segments = decoded.removesuffix(b"/").split(b"/")[1:]
    # Some servers take ';' for the start of a segment's parameters, and so "..;" for "..".
    names = {segment.partition(b";")[0] for segment in segments}
    if b"\\" in decoded or names & {b"", b".", b".."}:
        raise InvalidRequest("The path must not hold empty segments, '.', '..' or backslashes, encoded or not.")


def _check_method(request: http.Request, allowed: tuple[str, ...]) -> None:
    # As it was sent: `request.method` is in capitals, and would make a GET of a "get".
    if request.data.method.decode("latin-1") not in allowed:
        raise MethodNotAllowed(", ".join(allowed))
