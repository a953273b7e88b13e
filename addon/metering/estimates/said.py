"""The texts of an answer, each put together from its pieces: what its tokens are counted of."""

from collections.abc import Iterable, Iterator

from addon.protocol.json_fields import Fields, fields, items, number, text

MAX_TEXT = 4 * 1024 * 1024
"""Bytes of text that are kept; of what goes beyond only the size is known."""

REASONING = "reasoning"

_MAX_TEXTS = 256
"""Texts that are told apart; further ones are put together."""
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
"""The name of a text, which begins with REASONING where it is such, and what it goes on with."""


class Said:
    """What was said so far, by texts: of choices, of outputs, of calls."""

    def __init__(self) -> None:
        self.texts: dict[str, bytearray] = {}
        self.beyond = 0
        """Bytes that were said after MAX_TEXT of them."""
        self.has_audio = False
        self.is_pending = False
        """Whether the answer says that it will be made later."""
        self._kept = 0

    @property
    def size(self) -> int:
        """Bytes that were said."""
        return self._kept + self.beyond

    def take(self, event: Fields) -> None:
        """Add what a chunk, an event, or an answer that came as a whole says."""
        if "choices" in event:
            for choice in map(fields, items(event, "choices")):
                self._take_all(_of_choice(choice))
                self.has_audio |= bool(_said_in(choice).get("audio"))
        else:
            self._take_all(_of_event(event))
            self.is_pending |= event.get("status") in _PENDING

    def add(self, name: str, piece: bytes) -> None:
        """Add a piece to a text."""
        room = MAX_TEXT - self._kept
        kept = piece[:room]
        self.beyond += len(piece) - len(kept)
        self._kept += len(kept)
        if name not in self.texts and len(self.texts) >= _MAX_TEXTS:
            name = next(iter(self.texts))
        self.texts.setdefault(name, bytearray()).extend(kept)

    def _take_all(self, pieces: Iterable[_Piece]) -> None:
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


def _said_in(choice: Fields) -> Fields:
    return fields(choice, "delta") or fields(choice, "message")


def _of_choice(choice: Fields) -> Iterator[_Piece]:
    place, said = str(number(choice, "index")), _said_in(choice)
    for holder, name in ((choice, "text"), (said, "content"), (said, "refusal")):
        yield place, text(holder, name)
    yield f"{REASONING} {place}", text(said, "reasoning_content") or text(said, "reasoning")
    for index, call in enumerate(map(fields, items(said, "tool_calls"))):
        told = number(call, "index")
        yield from _of_call(f"{place} {index if told is None else told}", call)
    yield from _of_call(f"{place} function", fields(said, "function_call"))


def _of_call(place: str, call: Fields) -> Iterator[_Piece]:
    called = fields(call, "function") or fields(call, "custom") or call
    for name in ("name", "arguments", "input"):
        yield place, text(called, name)


def _of_item(place: str, item: Fields) -> Iterator[_Piece]:
    """Tell an item of a response that came as a whole. A summary of the reasoning is not what was paid for."""
    yield from _of_call(place, item)
    name = f"{REASONING} {place}" if item.get("type") == "reasoning" else place
    for part in map(fields, items(item, "content")):
        yield name, text(part, "text") or text(part, "refusal")
