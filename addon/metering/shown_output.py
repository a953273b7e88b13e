"""Counts the output that the events of a response show, for a reservation that it may outgrow. No tokenizer runs."""

from collections.abc import Iterator

from addon.demand import TextBound, vocabulary_of
from addon.protocol.endpoints import shape_of
from addon.protocol.json_fields import Fields, fields, items, parse, text

_ANY = (b"delta",)
"""Stands in the events that continue an output, where the endpoint has no marks of its own."""
_AUDIO = "audio.delta"
"""The end of the types of events that speak."""
_NO_TEXT = {"type", "role", "id", "object", "data"}
"""Fields of a delta that hold nothing which the model has written; `data` is audio."""

_AUDIO_PER_TOKEN = 500
"""Characters of Base64 for a token of audio, 50 ms, in G.711: the least of the formats that are streamed."""


class ShownOutput:
    """The output that one response has shown so far, by its events."""

    def __init__(self, endpoint: str) -> None:
        self._marks = shape_of(endpoint).stream_marks or _ANY
        self._bound = TextBound()
        self._size = 0
        self._audio = 0
        """Characters of audio."""
        self._counted = (0, 0)
        """The tokens of the text when they were counted last, and its bytes then."""

    def add(self, event: bytes) -> None:
        """Add the data of the next event."""
        if not any(mark in event for mark in self._marks):
            return
        found = parse(event)
        if text(found, "type").endswith(_AUDIO):
            self._audio += len(text(found, "delta"))
            return
        self._audio += sum(len(text(fields(delta, "audio"), "data")) for delta in _deltas(found))
        for piece in _written(found):
            self._size += len(piece)
            self._bound.feed(piece)

    def is_more_than(self, tokens: int, model: str) -> bool:
        """Tell whether the output of a model may have more than so many tokens."""
        tokens -= -(-self._audio // _AUDIO_PER_TOKEN)
        found, size = self._counted
        if found + self._size - size <= tokens:  # a token has at least one byte
            return False
        self._counted = self._bound.tokens(vocabulary_of(model)), self._size
        return self._counted[0] > tokens


def _deltas(event: Fields) -> Iterator[Fields]:
    """Yield what an event adds to the choices of a chat."""
    return (fields(choice, "delta") for choice in map(fields, items(event, "choices")))


def _written(event: Fields) -> Iterator[bytes]:
    """Yield the texts that an event continues, whatever their names: of a delta, a completion, a call that begins."""
    yield from _texts(event.get("delta"))
    yield from _texts(fields(event, "item").get("name"))
    for choice in map(fields, items(event, "choices")):
        yield from _texts(choice.get("text"))
    for delta in _deltas(event):
        yield from _texts(delta)


def _texts(value: object) -> Iterator[bytes]:
    match value:
        case str():
            yield value.encode(errors="replace")
        case list():
            for item in value:
                yield from _texts(item)
        case dict():
            for name, item in value.items():
                if name not in _NO_TEXT:
                    yield from _texts(item)
