"""Counts the output that the events of a response show, for a reservation that it may outgrow. No tokenizer runs."""

from addon.demand import TextBound, vocabulary_of
from addon.metering.event_form import EventForm, form_of
from addon.protocol.endpoints import shape_of
from addon.protocol.json_fields import Fields, fields, items, parse_all, text

_ANY = (b"delta",)
"""Stands in the events that continue an output, where the endpoint has no marks of its own."""
_AUDIO = "audio.delta"
"""The end of the types of events that speak."""
_NO_TEXT = frozenset({"type", "role", "id", "object", "data"})
"""Fields of a delta that hold nothing which the model has written; `data` is audio."""

_AUDIO_PER_TOKEN = 500
"""Characters of Base64 for a token of audio, 50 ms, in G.711: the least of the formats that are streamed."""


_MOST_HELD = 16 * 1024
"""Bytes that held events may show."""
_FIRST = 2
"""Events that are parsed for their form: the first one of many responses names a role, and shows nothing."""
_OF_NO_CHARACTER = 3
"""Bytes of the character that replaces a byte that is no UTF-8."""


class ShownOutput:
    """The output that one response has shown so far, by its events.

    The first events are parsed; the text of those that have the same form is found without that. Others are held, and
    not parsed for as long as all of their bytes, were these nothing but output, would not be more than was reserved.
    """

    def __init__(self, endpoint: str) -> None:
        self.at_most = 0
        """The tokens that it has at most, as far as that is known without looking closer."""
        self._marks = shape_of(endpoint).stream_marks or _ANY
        self._is_new = True
        """True until the first events are parsed."""
        self._form: EventForm | None = None
        self._bound = TextBound()
        self._counted = 0
        """The tokens of the text when they were counted last."""
        self._uncounted = 0
        """The bytes of text since then: a token has at least one."""
        self._audio = 0
        """Characters of audio."""
        self._held: list[bytes] = []
        self._held_size = 0
        """The most bytes that the held events may show."""

    def add(self, event: bytes) -> None:
        """Add the data of the next event."""
        text = None if self._form is None else self._form.text_in(event)
        if text is not None:
            self._bound.feed(text)
            self._uncounted += len(text)
            self.at_most += len(text)
        elif any(mark in event for mark in self._marks):
            self._hold(event)

    def is_more_than(self, tokens: int, model: str) -> bool:
        """Tell whether the output of a model may have more than so many tokens."""
        if self.at_most <= tokens:
            return False
        self._read_held()
        if self.at_most <= tokens:
            return False
        self._counted, self._uncounted = self._bound.tokens(vocabulary_of(model)), 0
        self._sum_up()
        return self.at_most > tokens

    def _sum_up(self) -> None:
        self.at_most = self._counted + self._uncounted + self._held_size - (-self._audio // _AUDIO_PER_TOKEN)

    def _hold(self, event: bytes) -> None:
        size = len(event) if event.isascii() else len(event) * _OF_NO_CHARACTER
        self._held.append(event)
        self._held_size += size
        self.at_most += size
        if self._held_size > _MOST_HELD or (self._is_new and len(self._held) == _FIRST):
            self._read_held()

    def _read_held(self) -> None:
        held, self._held, self._held_size, self._is_new = self._held, [], 0, False
        events = parse_all(held)
        texts: list[str] = []
        before = 0
        for event in events:
            before = len(texts)
            self._read(event, texts)
        if len(events) == len(held) and len(texts) == before + 1:
            self._form = form_of(held[-1], texts[-1])
        shown = "".join(texts).encode("utf-8", "replace")
        self._uncounted += len(shown)
        self._bound.feed(shown)
        self._sum_up()

    def _read(self, event: Fields, texts: list[str]) -> None:
        """Count the audio of an event, and add the texts that it continues to a list."""
        if text(event, "type").endswith(_AUDIO):
            self._audio += len(text(event, "delta"))
            return
        _add_texts(event.get("delta"), texts)
        if "item" in event:  # of a call that begins
            _add_texts(fields(event, "item").get("name"), texts)
        for choice in items(event, "choices"):
            if isinstance(choice, dict):
                self._read_choice(choice, texts)

    def _read_choice(self, choice: Fields, texts: list[str]) -> None:
        _add_texts(choice.get("text"), texts)
        delta = choice.get("delta")
        if isinstance(delta, dict) and "audio" in delta:
            self._audio += len(text(fields(delta, "audio"), "data"))
        _add_texts(delta, texts)


def _add_texts(value: object, texts: list[str]) -> None:
    """Add the texts in a value, whatever their names, to a list."""
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _NO_TEXT:
                _add_texts(item, texts)
    elif isinstance(value, list):
        for item in value:
            _add_texts(item, texts)
