"""Keeps the first part of a streamed body while it passes."""

from mitmproxy import http

from addon.streaming import Tap


class BodyCopy:
    """Keeps the first `limit` bytes of a body, as a watcher of its tap."""

    __slots__ = ("_kept", "_limit", "passed")

    def __init__(self, limit: int) -> None:
        self.passed = 0
        """Bytes of the body so far."""
        self._limit = limit
        self._kept = bytearray()

    def __call__(self, data: bytes) -> None:
        """Keep a piece, as far as it is within the limit."""
        missing = self._limit - self.passed
        if missing > 0:
            self._kept += data[:missing]
        self.passed += len(data)

    @property
    def kept(self) -> bytes:
        """The bytes that are kept."""
        return bytes(self._kept)


def begin(message: http.Message, limit: int) -> None:
    """Start to copy a body, if it is streamed."""
    if isinstance(message.stream, Tap) and limit:
        message.stream.watchers.append(BodyCopy(limit))


def of(message: http.Message) -> BodyCopy | None:
    """Return the copy of a body, if there is one."""
    watchers = message.stream.watchers if isinstance(message.stream, Tap) else []
    return next((watcher for watcher in watchers if isinstance(watcher, BodyCopy)), None)


def put_on(message: http.Message, *, ended: bool) -> int | None:
    """Set the copy as the message's content. Returns the bytes that have passed if the copy is not the whole body.

    Until the body has `ended`, copying continues. mitmproxy does not send the content: it has streamed the body.
    """
    copy = of(message)
    if copy is None:
        return None
    kept = message.raw_content = copy.kept
    if ended:
        message.stream = True
    return None if ended and len(kept) == copy.passed else copy.passed
