"""A body as it comes: decoded, as far as that goes, and handed on."""

import re
from collections.abc import Callable

from addon.content_coding import ContentDecoder

MAX_DECODED = 256 * 1024 * 1024
"""Bytes to which a compressed body is decoded; then it is read no further."""

EVENT_STREAM = "text/event-stream"
FORM = "multipart/form-data"
_JSON = re.compile(r"application/(?:[\w.-]+\+)?json")


class Body:
    """Decodes one body and gives it to `sink`. What cannot be decoded is read no further."""

    def __init__(self, coding: str, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._decoder: ContentDecoder | None = None
        self._room = MAX_DECODED
        self._is_plain = coding.strip().lower() in {"", "identity"}
        self.is_readable = True
        """Whether all that came so far could be read."""
        if not self._is_plain:
            self._start(coding)

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
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
        try:
            for piece in decoder.feed(data):
                self._room -= len(piece)
                if self._room < 0:
                    self._stop()
                    return
                if piece:
                    self._sink(piece)
        except ValueError:
            self._stop()

    def _stop(self) -> None:
        self._decoder, self.is_readable = None, False


def media_type(content_type: str) -> str:
    """Return a content type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """Tell whether a content type is JSON."""
    return _JSON.fullmatch(media_type(content_type)) is not None
