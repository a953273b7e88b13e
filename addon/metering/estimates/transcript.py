"""Keeps what a response said so far, for an estimate if it reports no usage.

Events stay unparsed as long as the response is short, as most are.
"""

from collections import deque

from addon.metering.estimates.text_accumulator import TextAccumulator
from addon.protocol.endpoints import shape_of
from addon.protocol.json_fields import parse

MAX_RAW = 1024 * 1024
"""Bytes of events that are kept unparsed. Of a longer response the oldest are parsed one by one, for their text."""
MAX_PARSED = 4 * 1024 * 1024
"""Bytes of events that are parsed for that: 20,000 chunks of a chat. Further events count as holding as much text."""

_OBJECT_SIZE = 64
"""Bytes that Python needs for an event in addition to its own, about."""


class Transcript:
    """Keeps the events of one response that continue its output."""

    def __init__(self, marks: tuple[bytes, ...]) -> None:
        """Keep the events that hold one of `marks` (`Shape.stream_marks`)."""
        self.events: deque[bytes] = deque()
        self.texts = TextAccumulator()
        """The texts of the events before `events`."""
        self._marks = marks
        self._size = 0
        self._parsed = 0
        self._unparsed = 0

    @classmethod
    def of(cls, endpoint: str) -> "Transcript | None":
        """Return an empty transcript; None for an endpoint whose tokens cannot be counted."""
        shape = shape_of(endpoint)
        return cls(shape.stream_marks) if shape.is_countable else None

    @property
    def beyond(self) -> int:
        """Bytes of text, about, that are kept nowhere."""
        share = self.texts.size / max(self._parsed, 1)
        return self.texts.beyond + round(share * self._unparsed)

    def add(self, event: bytes) -> None:
        """Add the data of the next event."""
        if not any(mark in event for mark in self._marks):
            return
        self.events.append(event)
        self._size += len(event) + _OBJECT_SIZE
        while self._size > MAX_RAW:
            oldest = self.events.popleft()
            self._size -= len(oldest) + _OBJECT_SIZE
            self._condense(oldest)

    def is_empty(self) -> bool:
        """Tell whether nothing was said."""
        return not self.events and not self.texts.texts

    def _condense(self, event: bytes) -> None:
        """Keep only the text of an event."""
        if self._unparsed or self._parsed + len(event) > MAX_PARSED:
            self._unparsed += len(event)
        else:
            self._parsed += len(event)
            self.texts.add_event(parse(event))
