"""The format of embeddings: `/v1/embeddings`. Vectors are counted, not shown."""

from collections import Counter

from addon.inspector.conversation.layout import Block, request_heading, response_heading
from addon.inspector.conversation.usage import usage_block
from addon.protocol.json_fields import Fields, fields, items

_KIND = "embeddings"
_FLOAT_BYTES = 4


def request_blocks(body: Fields) -> list[Block] | None:
    """Return the blocks of a request; None for a body of another form."""
    given = body.get("input")
    if not isinstance(given, str | list):
        return None
    texts = [given] if isinstance(given, str) or all(isinstance(token, int) for token in given) else given
    inputs = [Block(f"input {number}", _input_text(one)) for number, one in enumerate(texts, 1)]
    return [request_heading(_KIND, body, {"input"}), *inputs]


def response_blocks(body: Fields) -> list[Block] | None:
    """Return the number of vectors by their length; None for a body of another form."""
    if not isinstance(body.get("data"), list):
        return None
    shapes = Counter(_shape(fields(item).get("embedding")) for item in items(body, "data"))
    counts = "\n".join(f"{count} of {shape}" for shape, count in shapes.items())
    return [
        response_heading(_KIND, body),
        Block("embeddings", counts or "none"),
        *usage_block(body, makes_no_tokens=True),
    ]


def _input_text(given: object) -> str:
    return given if isinstance(given, str) else f"[{len(given)} tokens]" if isinstance(given, list) else "?"


def _shape(embedding: object) -> str:
    if isinstance(embedding, list):
        return f"{len(embedding)} dimensions"
    if isinstance(embedding, str):
        size = len(embedding) * 3 // 4 - embedding[-2:].count("=")
        return f"{size // _FLOAT_BYTES} dimensions, in base64"
    return "?"
