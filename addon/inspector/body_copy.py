"""The first part of a body that is streamed, kept while it passes."""

from mitmproxy import http

from addon.tap import Tap


class BodyCopy:
    """Keeps the first `limit` bytes of a body, as a watcher of its tap."""

    __slots__ = ("_kept", "_limit", "passed")

    def __init__(self, limit: int) -> None:
        self.passed = 0
        """How many bytes of the body have come."""
        self._limit = limit
        self._kept = bytearray()

    def __call__(self, data: bytes) -> None:
        """Take note of a piece."""
        missing = self._limit - self.passed
        if missing > 0:
            self._kept += data[:missing]
        self.passed += len(data)

    @property
    def kept(self) -> bytes:
        """What is kept."""
        return bytes(self._kept)


def begin(message: http.Message, limit: int) -> None:
    """Keep a copy of a body from now on, if it is streamed."""
    if isinstance(message.stream, Tap) and limit:
        message.stream.watchers.append(BodyCopy(limit))


def of(message: http.Message) -> BodyCopy | None:
    """Return the copy of a body that is kept."""
    watchers = message.stream.watchers if isinstance(message.stream, Tap) else []
    return next((watcher for watcher in watchers if isinstance(watcher, BodyCopy)), None)


def put_on(message: http.Message, *, ended: bool) -> int | None:
    """Put the copy on its message. Returns how many bytes have passed if that is not the whole body, else None.

    Before a body has `ended` the copy goes on. mitmproxy has sent what it streams, and looks at it no more.
    """
    copy = of(message)
    if copy is None:
        return None
    kept = message.raw_content = copy.kept
    if ended:
        message.stream = True
    return None if ended and len(kept) == copy.passed else copy.passed
