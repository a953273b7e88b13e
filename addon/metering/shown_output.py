"""Counts the output that the events of a response show, for a reservation that it may outgrow. No tokenizer runs."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from addon.demand import TextBound, vocabulary_of
from addon.metering.event_form import EventForm, form_of
from addon.protocol.endpoints import shape_of
from addon.protocol.json_fields import Fields, fields, items, parse, parse_all, text

_ANY = (b"delta",)
"""Stands in the events that continue an output, where the endpoint has no marks of its own."""
_AUDIO = "audio.delta"
"""The end of the types of events that speak."""
_NO_TEXT = frozenset({"type", "role", "id", "object", "data"})
"""Fields of a delta that hold nothing which the model has written; `data` is audio."""

_AUDIO_PER_TOKEN = 500
"""Characters of Base64 for a token of audio, 50 ms, in G.711: the least of the formats that are streamed."""


_MOST_WAITING = 16 * 1024
"""Bytes that may be shown by what waits."""
_FIRST = 2
"""Events that are parsed for their form: the first one of many responses names a role, and shows nothing."""
_OF_NO_CHARACTER = 3
"""Bytes of the character that replaces a byte that is no UTF-8."""


class _Waiting(NamedTuple):
    """An event that is not parsed yet; or a text that was found in one, and stands behind such an event."""

    data: bytes
    is_event: bool = True


class ShownOutput:
    """The output that one response has shown so far, by its events.

    The first events are parsed; the text of those that have the same form is found without that. Others wait, and are
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
        self._waiting: list[_Waiting] = []
        self._waiting_size = 0
        """The most bytes that these may show."""

    def add(self, event: bytes) -> None:
        """Add the data of the next event."""
        shown = None if self._form is None else self._form.text_in(event)
        if shown is not None and not self._waiting:
            self._bound.feed(shown)
            self._uncounted += len(shown)
            self.at_most += len(shown)
        elif shown is not None:
            self._wait(_Waiting(shown, is_event=False), len(shown))
        elif any(mark in event for mark in self._marks):
            self._wait(_Waiting(event), len(event) if event.isascii() else len(event) * _OF_NO_CHARACTER)

    def is_more_than(self, tokens: int, model: str) -> bool:
        """Tell whether the output of a model may have more than so many tokens."""
        if self.at_most <= tokens:
            return False
        self._read_waiting()
        if self.at_most <= tokens:
            return False
        self._counted, self._uncounted = self._bound.tokens(vocabulary_of(model)), 0
        self._sum_up()
        return self.at_most > tokens

    def _sum_up(self) -> None:
        self.at_most = self._counted + self._uncounted + self._waiting_size - (-self._audio // _AUDIO_PER_TOKEN)

    def _wait(self, waiting: _Waiting, size: int) -> None:
        self._waiting.append(waiting)
        self._waiting_size += size
        self.at_most += size
        if self._waiting_size > _MOST_WAITING or (self._is_new and len(self._waiting) == _FIRST):
            self._read_waiting()

    def _read_waiting(self) -> None:
        """Count the texts of what waits, in its order: what stands side by side tells how many tokens there are."""
        waiting, self._waiting, self._waiting_size, self._is_new = self._waiting, [], 0, False
        texts: list[str] = []
        last: tuple[bytes, str] | None = None
        for data, event in _with_parsed(waiting):
            if event is None:
                texts.append(data.decode())
                continue
            before, audio = len(texts), self._audio
            self._read(event, texts)
            if len(texts) == before + 1 and self._audio == audio:
                last = data, texts[-1]
        if last is not None:
            self._form = form_of(*last) or self._form
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


def _with_parsed(waiting: Sequence[_Waiting]) -> Iterator[tuple[bytes, Fields | None]]:
    """Yield what waits, each event with its fields, each text with None."""
    events = [data for data, is_event in waiting if is_event]
    parsed = parse_all(events)
    fields_of = iter(parsed if len(parsed) == len(events) else map(parse, events))
    for data, is_event in waiting:
        yield data, next(fields_of) if is_event else None


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
