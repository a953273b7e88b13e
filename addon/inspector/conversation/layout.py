"""Lays a conversation out: a heading, then blocks with titles."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from addon.protocol.json_fields import Fields, brief, fields, items, text

_THOUSAND = 1000
_SHOWN_APART = {"model", "stream", "tools", "functions"}


class Block(NamedTuple):
    """A turn of a conversation, or facts about it. The heading has no title."""

    title: str
    text: str


def lay_out(blocks: Iterable[Block]) -> str:
    """Return the text of blocks."""
    return "\n\n".join(f"── {title} ──\n{text}" if title else text for title, text in blocks) + "\n"


def lines(*parts: str) -> str:
    """Join the parts that are not empty, a line each."""
    return "\n".join(part for part in parts if part)


def request_heading(kind: str, body: Fields, shown_below: Collection[str]) -> Block:
    """Return a heading with the model, the tools, and every other parameter that is not `shown_below`."""
    streamed = "streamed" if body.get("stream") is True else ""
    first = " · ".join(filter(None, [kind, text(body, "model"), streamed]))
    others = {name: value for name, value in body.items() if name not in _SHOWN_APART and name not in shown_below}
    settings = ", ".join(f"{name}: {brief(value)}" for name, value in others.items() if value is not None)
    tools = ", ".join(_tool_name(fields(tool)) for tool in items(body, "tools") + items(body, "functions"))
    return Block("", lines(first, settings, f"tools: {tools}" if tools else ""))


def response_heading(kind: str, body: Fields, *more: str) -> Block:
    """Return a heading with the model that has answered."""
    return Block("", " · ".join(filter(None, [kind, text(body, "model"), *more])))


def error_block(error: object, body: Fields) -> Block:
    """Return the block of an error: OpenAI's error object, or a text with its details beside it."""
    details = error if isinstance(error, dict) else body
    message = error if isinstance(error, str) else text(details, "message") or brief(error)
    facts = [f"{name}: {details[name]}" for name in ("type", "code", "param") if details.get(name)]
    return Block("error", lines(message, ", ".join(facts)))


def size(number: int) -> str:
    """Format a number of bytes for people."""
    if number < _THOUSAND:
        return f"{number} bytes"
    if number < _THOUSAND**2:
        return f"{number / _THOUSAND:.0f} KB"
    return f"{number / _THOUSAND**2:.1f} MB"


def _tool_name(tool: Fields) -> str:
    return text(fields(tool, "function"), "name") or text(tool, "name") or text(tool, "type") or "?"
