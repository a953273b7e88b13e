"""What an answer said so far, kept for when it tells no usage: unparsed as long as it is short, as most are."""

from collections import deque
from collections.abc import Mapping

from addon.metering.estimates.said import Said
from addon.protocol.json_fields import parse

MAX_RAW = 1024 * 1024
"""Bytes of events that are kept as they are. Of a longer answer the oldest are parsed one by one, for their text."""
MAX_PARSED = 4 * 1024 * 1024
"""Bytes of events that are parsed so: 20,000 chunks of a chat. Of further ones as much is text as of these."""

_OBJECT_SIZE = 64
"""Bytes that Python takes for an event beside its own, about."""

MARKS: Mapping[str, tuple[bytes, ...]] = {
    "/v1/chat/completions": (b'"delta"',),
    "/v1/completions": (b'"text"',),
    "/v1/responses": (b'.delta"', b"response.output_item.added"),
}
"""The endpoints whose tokens can be counted, and what stands in those of their events that say something."""


class Transcript:
    """Keeps the events of one answer that say something."""

    def __init__(self, endpoint: str) -> None:
        """Take an endpoint of MARKS."""
        self.events: deque[bytes] = deque()
        self.said = Said()
        self._marks = MARKS[endpoint]
        self._size = 0
        self._parsed = 0
        self._unparsed = 0

    @property
    def beyond(self) -> int:
        """Bytes that were said, about, and that are kept nowhere."""
        share = self.said.size / max(self._parsed, 1)
        return self.said.beyond + round(share * self._unparsed)

    def take(self, event: bytes) -> None:
        """Take the data of the next event."""
        if not any(mark in event for mark in self._marks):
            return
        self.events.append(event)
        self._size += len(event) + _OBJECT_SIZE
        while self._size > MAX_RAW:
            oldest = self.events.popleft()
            self._size -= len(oldest) + _OBJECT_SIZE
            self._pass_on(oldest)

    def is_empty(self) -> bool:
        """Tell whether nothing was said."""
        return not self.events and not self.said.texts

    def _pass_on(self, event: bytes) -> None:
        if self._unparsed or self._parsed + len(event) > MAX_PARSED:
            self._unparsed += len(event)
        else:
            self._parsed += len(event)
            self.said.take(parse(event))
