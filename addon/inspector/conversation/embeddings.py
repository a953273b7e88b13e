"""Embeddings: `/v1/embeddings`. The numbers themselves tell nobody anything, so they are counted."""

from collections import Counter

from addon.inspector.conversation.layout import Block, answer_heading, request_heading
from addon.inspector.conversation.usage import usage_block
from addon.protocol.json_fields import Fields, fields, items

_KIND = "embeddings"
_FLOAT_BYTES = 4


def request_blocks(body: Fields) -> list[Block] | None:
    """Return what is to be embedded, or None where it is no such request."""
    given = body.get("input")
    if not isinstance(given, str | list):
        return None
    texts = [given] if isinstance(given, str) or all(isinstance(token, int) for token in given) else given
    inputs = [Block(f"input {number}", _input_text(one)) for number, one in enumerate(texts, 1)]
    return [request_heading(_KIND, body, {"input"}), *inputs]


def answer_blocks(body: Fields) -> list[Block] | None:
    """Return how many embeddings came and how long they are, or None where it is no such answer."""
    if not isinstance(body.get("data"), list):
        return None
    shapes = Counter(_shape(fields(item).get("embedding")) for item in items(body, "data"))
    told = "\n".join(f"{count} of {shape}" for shape, count in shapes.items())
    return [answer_heading(_KIND, body), Block("embeddings", told or "none"), *usage_block(body)]


def _input_text(given: object) -> str:
    return given if isinstance(given, str) else f"[{len(given)} tokens]" if isinstance(given, list) else "?"


def _shape(embedding: object) -> str:
    if isinstance(embedding, list):
        return f"{len(embedding)} dimensions"
    if isinstance(embedding, str):
        size = len(embedding) * 3 // 4 - embedding[-2:].count("=")
        return f"{size // _FLOAT_BYTES} dimensions, in base64"
    return "?"
