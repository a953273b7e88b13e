"""Decodes a body as it arrives, within bounds."""

import functools
import re
from collections.abc import Callable

from addon.protocol.content_coding import ContentDecoder

ALLOWANCE = 8 * 1024 * 1024
"""Bytes to which any compressed body may decode. Larger ones are limited by their own size, see GROWTH."""
GROWTH = 40
"""Times its compressed size to which a response may decode in addition: JSON and event streams grow 5 to 20 times."""
MAX_DECODED = 256 * 1024 * 1024
"""Bytes to which the largest body may decode."""
_LINE = 32
"""Bytes that a line counts for in addition to its own: a stream of empty lines takes the longest to read."""

EVENT_STREAM = "text/event-stream"
FORM = "multipart/form-data"
_JSON = re.compile(r"application/(?:[\w.-]+\+)?json")


class Body:
    """Decodes one body and passes it to `sink`. Reading stops where it cannot be decoded, or becomes too large."""

    def __init__(self, coding: str, sink: Callable[[bytes], None], growth: int = GROWTH) -> None:
        self._sink = sink
        self._decoder: ContentDecoder | None = None
        self._growth = growth
        self._received = 0
        self._decoded = 0
        self._is_plain = coding.strip().lower() in {"", "identity"}
        self.is_readable = True
        """True while everything so far was passed to `sink`."""
        if not self._is_plain:
            self._start(coding)

    def feed(self, data: bytes) -> None:
        """Decode the next bytes."""
        if self._is_plain:
            self._sink(data)
        elif self._decoder is not None:
            self._decode(self._decoder, data)

    def _start(self, coding: str) -> None:
        try:
            self._decoder = ContentDecoder(coding)
        except ValueError:
            self._stop()

    def _decode(self, decoder: ContentDecoder, data: bytes) -> None:
        self._received += len(data)
        most = min(ALLOWANCE + self._growth * self._received, MAX_DECODED)
        try:
            for piece in decoder.feed(data):
                self._decoded += len(piece) + _LINE * (piece.count(b"\n") + piece.count(b"\r"))
                if self._decoded > most:
                    self._stop()
                    return
                if piece:
                    self._sink(piece)
        except ValueError:
            self._stop()

    def _stop(self) -> None:
        self._decoder, self.is_readable = None, False


@functools.lru_cache(32)
def media_type(content_type: str) -> str:
    """Return a content type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


@functools.lru_cache(32)
def is_json(content_type: str) -> bool:
    """Tell whether a content type is JSON."""
    return _JSON.fullmatch(media_type(content_type)) is not None
