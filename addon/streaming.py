"""Bodies that are passed on as they come, instead of being read whole first, and the copy that is taken of them."""

import logging
from collections.abc import Callable

from mitmproxy import http

LARGE = 1024 * 1024
"""Bytes from which a body is streamed."""

_log = logging.getLogger(__name__)


def is_streamed_upload(request: http.Request) -> bool:
    """Tell whether a request's body is large, or of unknown length."""
    length = request.headers.get("content-length")
    if length is None:
        # Over HTTP/2 a body needs no header; a request without a body ends with its headers, streamed or not.
        return "transfer-encoding" in request.headers or request.is_http2
    return not length.isdecimal() or int(length) > LARGE


def has_body(request: http.Request) -> bool:
    """Tell whether a request has a body, or may have one, by its headers."""
    return request.headers.get("content-length", "0") != "0" or is_streamed_upload(request)


def is_streamed_response(response: http.Response) -> bool:
    """Tell whether a response is an event stream, large, or of unknown length."""
    if is_event_stream(response):
        return True
    length = response.headers.get("content-length", "")
    return not length.isdecimal() or int(length) > LARGE


def is_event_stream(response: http.Response) -> bool:
    """Tell whether a response is an event stream, by its headers."""
    content_type: str = response.headers.get("content-type", "")
    return content_type.lower().startswith("text/event-stream")


class Tap:
    """A stream callable for mitmproxy: returns each piece of a body as it came, and shows it to its watchers.

    mitmproxy hangs the client if a stream callable raises, so a watcher that fails is logged and removed.
    """

    __slots__ = ("watchers",)

    def __init__(self, *watchers: Callable[[bytes], None]) -> None:
        self.watchers = [*watchers]

    def __call__(self, data: bytes) -> bytes:
        """Pass on a piece. mitmproxy passes an empty one at the body's end, but not where a connection breaks."""
        for watcher in [*self.watchers]:
            try:
                watcher(data)
            except Exception:
                _log.exception("a watcher of a streamed body failed and is removed")
                self.watchers.remove(watcher)
        return data
