"""Bodies that are passed on as they come, instead of being read whole first, and the copy that is taken of them."""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence

from mitmproxy import http

LARGE = 1024 * 1024
"""Bytes from which a body is streamed."""

type Stop = Callable[[bytes | None], None]
"""Ends a request and its response at once, after some last bytes of the response, or none.

With None a response that has begun breaks off, and an error is the response where none has.
"""

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


def can_end_between_events(response: http.Response) -> bool:
    """Tell whether a response can be ended after any of its events: its end is no length, and it is not compressed."""
    headers = response.headers
    return is_event_stream(response) and "content-length" not in headers and "content-encoding" not in headers


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


# A line ends with CR, LF or CRLF, an event with an empty line
# (https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation).
_LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
_EVENT_END = re.compile(_LINE_END + rb"(?:\r\n|\n|\r)")
_ENDS = re.compile(_EVENT_END.pattern + rb"\Z")
_LONGEST_END = len(b"\r\n\r\n")


class EventTap(Tap):
    """A tap of an event stream that can be ended between two events."""

    __slots__ = ("_is_over", "_last", "_stop", "_tail")

    def __init__(self, *watchers: Callable[[bytes], None]) -> None:
        super().__init__(*watchers)
        self._tail = b"\n\n"  # before the first event
        self._stop: Stop | None = None
        self._last: bytes | None = None
        """The event that is still to be sent in the place of the rest; None for a stream that breaks off."""
        self._is_over = False

    def __call__(self, data: bytes) -> bytes | Sequence[bytes]:  # type: ignore[override]  # mitmproxy takes both
        """Pass on a piece, up to the end of the event after which the stream is to end."""
        if self._is_over:
            return self._instead_of(data)
        passed = super().__call__(data)
        if self._is_over:  # a watcher has ended it between two events: before this piece
            return self._instead_of(data)
        end = _first_end(self._tail, passed) if self._stop is not None else None
        if end is None:
            self._tail = (self._tail + passed[-_LONGEST_END:])[-_LONGEST_END:]
            return passed
        self._finish(is_between=True)
        return passed[:end]

    def end(self, last: bytes, stop: Stop, patience: float) -> None:
        """Pass on nothing after the event that is under way, and call `stop`, soon after this returns.

        It gets `last`, which is to follow; or None if the event does not end in time, which are `patience` seconds.
        """
        self._last, self._stop = last, stop
        if _ENDS.search(self._tail):
            self._finish(is_between=True)
        else:
            asyncio.get_running_loop().call_later(patience, self._finish)

    def _finish(self, *, is_between: bool = False) -> None:
        stop, self._stop = self._stop, None
        if stop is None:
            return
        self._is_over = True
        if not is_between:
            self._last = None
        asyncio.get_running_loop().call_soon(lambda: stop(self._pop_last()))

    def _instead_of(self, data: bytes) -> bytes | Sequence[bytes]:
        """Return nothing for a piece; for the body's end the last event, as that may come before the call of `stop`."""
        return () if data else self._pop_last() or b""

    def _pop_last(self) -> bytes | None:
        last = self._last
        if last:
            self._last = b""
        return last


def _first_end(before: bytes, piece: bytes) -> int | None:
    """Return the place in a piece where an event ends first; `before` are the bytes before it. None without one."""
    data, place = before + piece, 0
    while found := _EVENT_END.search(data, place):
        if found.end() > len(before):
            return found.end() - len(before)
        place = found.start() + 1
    return None
