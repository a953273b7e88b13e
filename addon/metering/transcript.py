"""What an answer said so far, kept for when it tells no usage: unparsed as long as it is short, as most are."""

from collections import deque
from collections.abc import Mapping

from addon.conversation.fields import parse
from addon.metering.said import Said

MAX_RAW = 1024 * 1024
"""Bytes of events that are kept as they are. Of a longer answer the oldest are parsed one by one, for their text."""

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

    def take(self, event: bytes) -> None:
        """Take the data of the next event."""
        if not any(mark in event for mark in self._marks):
            return
        self.events.append(event)
        self._size += len(event) + _OBJECT_SIZE
        while self._size > MAX_RAW:
            oldest = self.events.popleft()
            self._size -= len(oldest) + _OBJECT_SIZE
            self.said.take(parse(oldest))

    def is_empty(self) -> bool:
        """Tell whether nothing was said."""
        return not self.events and not self.said.texts
