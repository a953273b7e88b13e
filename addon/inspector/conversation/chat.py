"""The format of chat completions: `/v1/chat/completions`."""

from collections.abc import Iterable

from addon.inspector.conversation.layout import Block, lines, request_heading, response_heading
from addon.inspector.conversation.parts import (
    base64_size,
    call_text,
    content_text,
    media_text,
    reasoning_text,
    refusal_text,
)
from addon.inspector.conversation.usage import usage_block
from addon.protocol.json_fields import Fields, fields, items, number, text

_KIND = "chat completion"
_GROWING = {"content", "refusal", "arguments", "input", "reasoning", "reasoning_content", "data", "transcript"}
"""Fields of a delta that are appended; others replace the value before."""
_NUMBERED = {"choices", "tool_calls"}
"""Lists of a chunk whose items have an `index`: the item of the response that they continue."""


def request_blocks(body: Fields) -> list[Block] | None:
    """Return the blocks of a request; None for a body of another form."""
    if not isinstance(body.get("messages"), list):
        return None
    messages = [fields(message) for message in items(body, "messages")]
    return [
        request_heading(_KIND, body, {"messages"}),
        *(Block(_title(message), _message_text(message)) for message in messages),
    ]


def response_blocks(body: Fields) -> list[Block] | None:
    """Return the blocks of a response; None for a body of another form."""
    if not isinstance(body.get("choices"), list):
        return None
    choices = [fields(choice) for choice in items(body, "choices")]
    turns = [_choice_block(choice, alone=len(choices) == 1) for choice in choices]
    return [response_heading(_KIND, body), *turns, *usage_block(body)]


def assembled(chunks: Iterable[Fields]) -> Fields:
    """Join the chunks of a stream to one response."""
    merged: Fields = {}
    for chunk in chunks:
        _merge(merged, chunk)
    whole = fields(_finished(merged))
    for choice in items(whole, "choices"):
        fields(choice)["message"] = fields(choice, "delta")
    return whole


def _title(message: Fields) -> str:
    return " ".join(filter(None, [text(message, "role") or "?", text(message, "name"), text(message, "tool_call_id")]))


def _message_text(message: Fields) -> str:
    return lines(
        reasoning_text(text(message, "reasoning_content") or text(message, "reasoning")),
        content_text(message.get("content")),
        refusal_text(text(message, "refusal")),
        _audio_text(fields(message, "audio")),
        *(_call_text(fields(call)) for call in [*items(message, "tool_calls"), message.get("function_call")] if call),
    )


def _audio_text(audio: Fields) -> str:
    if not audio:
        return ""
    return lines(media_text("audio", base64_size(text(audio, "data")), text(audio, "id")), text(audio, "transcript"))


def _call_text(call: Fields) -> str:
    called = fields(call, "function") or fields(call, "custom") or call
    return call_text(text(called, "name"), text(called, "arguments") or text(called, "input"), text(call, "id"))


def _choice_block(choice: Fields, *, alone: bool) -> Block:
    message = fields(choice, "message")
    index = "" if alone else f"choice {number(choice, 'index')}"
    reason = text(choice, "finish_reason")
    title = ", ".join(filter(None, [index, text(message, "role") or "assistant", reason and f"finish: {reason}"]))
    return Block(title, _message_text(message))


class _Pieces(list[str]):
    """The pieces of a text."""


class _Numbered(dict[int, Fields]):
    """The items of a list, by their index."""


def _merge(into: Fields, delta: Fields) -> None:
    for name, value in delta.items():
        held = into.get(name)
        if name in _GROWING and isinstance(value, str):
            if not isinstance(held, _Pieces):
                into[name] = held = _Pieces()
            held.append(value)
        elif name in _NUMBERED and isinstance(value, list):
            if not isinstance(held, _Numbered):
                into[name] = held = _Numbered()
            for item in map(fields, value):
                _merge(held.setdefault(number(item, "index") or 0, {}), item)
        elif isinstance(value, dict):
            if type(held) is not dict:
                into[name] = held = {}
            _merge(held, value)
        elif value is not None:
            into[name] = value


def _finished(value: object) -> object:
    match value:
        case _Pieces():
            return "".join(value)
        case _Numbered():
            return [_finished(value[index]) for index in sorted(value)]
        case dict():
            return {name: _finished(item) for name, item in value.items()}
    return value
