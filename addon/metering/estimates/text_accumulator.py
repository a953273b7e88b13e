"""Joins the deltas of a response to complete texts, whose tokens are then counted."""

from collections.abc import Iterable, Iterator

from addon.protocol.json_fields import Fields, fields, items, number, text

MAX_TEXT = 4 * 1024 * 1024
"""Bytes of text that are kept; of the text beyond them only the size is known."""

REASONING = "reasoning"

_MAX_TEXTS = 256
"""Texts that are kept apart; the pieces of further ones are added to the first."""
_REASONING_DELTA = "response.reasoning_text.delta"
_DELTAS = {
    "response.output_text.delta",
    "response.refusal.delta",
    "response.function_call_arguments.delta",
    "response.mcp_call_arguments.delta",
    "response.custom_tool_call_input.delta",
    "response.code_interpreter_call_code.delta",
    _REASONING_DELTA,
}
_PENDING = {"queued", "in_progress"}

type _Piece = tuple[str, str]
"""The name of a text, which begins with REASONING where it is such, and the characters that continue it."""


class TextAccumulator:
    """The texts of a response so far: of choices, of outputs, of calls."""

    def __init__(self) -> None:
        self.texts: dict[str, bytearray] = {}
        self.beyond = 0
        """Bytes of text after the first MAX_TEXT."""
        self.has_audio = False
        self.is_pending = False
        """True if the response says that it will be made later."""
        self._kept = 0

    @property
    def size(self) -> int:
        """Bytes of all text, kept or not."""
        return self._kept + self.beyond

    def add_event(self, event: Fields) -> None:
        """Add the text of a chunk, of an event, or of a response that came as a whole."""
        if "choices" in event:
            for choice in map(fields, items(event, "choices")):
                self._add_all(_of_choice(choice))
                self.has_audio |= bool(_message_of(choice).get("audio"))
        else:
            self._add_all(_of_event(event))
            self.is_pending |= event.get("status") in _PENDING

    def add(self, name: str, piece: bytes) -> None:
        """Append a piece to a text."""
        room = MAX_TEXT - self._kept
        kept = piece[:room]
        self.beyond += len(piece) - len(kept)
        self._kept += len(kept)
        if name not in self.texts and len(self.texts) >= _MAX_TEXTS:
            name = next(iter(self.texts))
        self.texts.setdefault(name, bytearray()).extend(kept)

    def _add_all(self, pieces: Iterable[_Piece]) -> None:
        for name, piece in pieces:
            if piece:
                self.add(name, piece.encode(errors="replace"))


def _of_event(event: Fields) -> Iterator[_Piece]:
    kind, place = text(event, "type"), f"{number(event, 'output_index')} {number(event, 'content_index')}"
    if kind in _DELTAS:
        yield (f"{REASONING} {place}" if kind == _REASONING_DELTA else place, text(event, "delta"))
    elif kind == "response.output_item.added":
        yield place, text(fields(event, "item"), "name")
    for index, item in enumerate(items(event, "output")):
        yield from _of_item(str(index), fields(item))


def _message_of(choice: Fields) -> Fields:
    return fields(choice, "delta") or fields(choice, "message")


def _of_choice(choice: Fields) -> Iterator[_Piece]:
    place, message = str(number(choice, "index")), _message_of(choice)
    for holder, name in ((choice, "text"), (message, "content"), (message, "refusal")):
        yield place, text(holder, name)
    yield f"{REASONING} {place}", text(message, "reasoning_content") or text(message, "reasoning")
    for position, call in enumerate(map(fields, items(message, "tool_calls"))):
        index = number(call, "index")
        yield from _of_call(f"{place} {position if index is None else index}", call)
    yield from _of_call(f"{place} function", fields(message, "function_call"))


def _of_call(place: str, call: Fields) -> Iterator[_Piece]:
    called = fields(call, "function") or fields(call, "custom") or call
    for name in ("name", "arguments", "input"):
        yield place, text(called, name)


def _of_item(place: str, item: Fields) -> Iterator[_Piece]:
    """Yield the texts of an item of a complete response, without the summary of its reasoning: that is not paid for."""
    yield from _of_call(place, item)
    name = f"{REASONING} {place}" if item.get("type") == "reasoning" else place
    for part in map(fields, items(item, "content")):
        yield name, text(part, "text") or text(part, "refusal")
