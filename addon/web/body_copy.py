"""The first part of a body that is streamed, kept while it passes."""

from mitmproxy import http


class BodyCopy:
    """A stream callable of mitmproxy's: returns each piece of a body as it came, and keeps the first `limit` bytes."""

    __slots__ = ("_kept", "_limit", "passed")

    def __init__(self, limit: int) -> None:
        self.passed = 0
        """How many bytes of the body have come."""
        self._limit = limit
        self._kept = bytearray()

    def __call__(self, data: bytes) -> bytes:
        """Take note of a piece. It is called with none at the body's end, but not where a connection breaks."""
        missing = self._limit - self.passed
        if missing > 0:
            self._kept += data[:missing]
        self.passed += len(data)
        return data

    @property
    def kept(self) -> bytes:
        """What is kept."""
        return bytes(self._kept)


def begin(message: http.Message, limit: int) -> None:
    """Keep a copy of a body from now on, if it is streamed just as it comes."""
    if message.stream is True and limit:
        message.stream = BodyCopy(limit)


def put_on(message: http.Message, *, ended: bool) -> int | None:
    """Put the copy on its message. Returns how many bytes have passed if that is not the whole body, else None.

    Before a body has `ended` the copy goes on. mitmproxy has sent what it streams, and looks at it no more.
    """
    copy = message.stream
    if not isinstance(copy, BodyCopy):
        return None
    kept = message.raw_content = copy.kept
    if ended:
        message.stream = True
    return None if ended and len(kept) == copy.passed else copy.passed
