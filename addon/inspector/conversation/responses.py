"""The format of responses: `/v1/responses`."""

from collections.abc import Iterable

from addon.inspector.conversation.layout import Block, lines, request_heading, response_heading
from addon.inspector.conversation.parts import (
    base64_size,
    call_text,
    content_text,
    media_text,
    reasoning_text,
)
from addon.inspector.conversation.usage import usage_block
from addon.protocol.json_fields import Fields, brief, fields, items, number, text

_KIND = "response"
_SHOWN_BELOW = {"input", "instructions"}

_PARTS = {
    "response.output_text.delta": ("content", "output_text", "text"),
    "response.refusal.delta": ("content", "refusal", "refusal"),
    "response.reasoning_text.delta": ("content", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_text", "text"),
}
"""Deltas of a part: the list of the item that holds it, its type, and the field that is appended to."""
_FIELDS = {
    "response.function_call_arguments.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}
"""Deltas of a field of the item itself."""


def request_blocks(body: Fields) -> list[Block] | None:
    """Return the blocks of a request; None for a body of another form."""
    given = body.get("input")
    if not isinstance(given, str | list):
        return None
    turns = [Block("user", given)] if isinstance(given, str) else [_item_block(fields(item)) for item in given]
    instructions = content_text(body.get("instructions"))
    first = [Block("instructions", instructions)] if instructions else []
    return [request_heading(_KIND, body, _SHOWN_BELOW), *first, *turns]


def response_blocks(body: Fields) -> list[Block] | None:
    """Return the blocks of a response; None for a body of another form."""
    if not isinstance(body.get("output"), list):
        return None
    reason = text(fields(body, "incomplete_details"), "reason")
    heading = response_heading(_KIND, body, text(body, "status"), reason)
    return [heading, *(_item_block(fields(item)) for item in items(body, "output")), *usage_block(body)]


def assembled(events: Iterable[Fields]) -> Fields:
    """Join the events of a stream to one response. Its last event holds all of it, unless the stream was cut."""
    response: Fields = {}
    output: dict[int, Fields] = {}
    done: set[int] = set()
    pieces: dict[tuple[int, int, str], list[str]] = {}
    for event in events:
        kind, index = text(event, "type"), number(event, "output_index") or 0
        if kind == "error":
            response = {**response, "error": fields(event, "error") or event}
        elif "response" in event:
            response = fields(event, "response")
        elif kind == "response.output_item.added":
            output[index] = fields(event, "item")
        elif kind == "response.output_item.done":
            output[index] = fields(event, "item")
            done.add(index)
        elif kind in _PARTS or kind in _FIELDS:
            part = number(event, "content_index", "summary_index") or 0
            pieces.setdefault((index, part, kind), []).append(text(event, "delta"))
    if response and not items(response, "output"):
        _fill(output, {place: texts for place, texts in pieces.items() if place[0] not in done})
        response = {**response, "output": [output[index] for index in sorted(output)]}
    return response


def _fill(output: dict[int, Fields], pieces: dict[tuple[int, int, str], list[str]]) -> None:
    """Put joined deltas into the items."""
    for (index, _, kind), texts in sorted(pieces.items()):
        item = output.setdefault(index, {"type": "message", "role": "assistant"})
        if kind in _FIELDS:
            item[_FIELDS[kind]] = "".join(texts)
        else:
            place, part, field = _PARTS[kind]
            item[place] = [*items(item, place), {"type": part, field: "".join(texts)}]


def _item_block(item: Fields) -> Block:
    kind = text(item, "type") or "message"
    if kind == "message":
        return Block(text(item, "role") or "?", content_text(item.get("content")))
    if kind == "reasoning":
        return Block("reasoning", _reasoning(item))
    if kind.endswith("_call_output"):
        return Block(f"tool {text(item, 'call_id')}".rstrip(), content_text(item.get("output")))
    return Block("assistant", _call(kind, item))


def _reasoning(item: Fields) -> str:
    hidden = text(item, "encrypted_content")
    return lines(
        content_text(item.get("summary")),
        reasoning_text(content_text(item.get("content"))),
        media_text("encrypted", base64_size(hidden)) if hidden else "",
    ) or media_text("not told")


def _call(kind: str, item: Fields) -> str:
    """Return the text of a call of a tool, the caller's or the upstream's own."""
    if "arguments" in item or "input" in item:
        made = call_text(text(item, "name"), text(item, "arguments") or text(item, "input"), text(item, "call_id"))
        return lines(made, content_text(item.get("output")))
    if kind == "image_generation_call":
        return media_text("image", base64_size(text(item, "result")), text(item, "status"))
    return media_text(kind, text(item, "status") or text(item, "id"), brief(item["action"]) if "action" in item else "")
