"""The block that shows the usage of a response, as the ledger books it."""

from addon.inspector.conversation.layout import Block
from addon.protocol.json_fields import Fields
from addon.protocol.usage_objects import units_of, usage_in


def usage_block(body: Fields, *, makes_no_tokens: bool = False) -> list[Block]:
    """Return a block with the tokens that a response reports, or none."""
    units = units_of(usage_in(body, body), makes_no_tokens=makes_no_tokens) or {}
    counts = [
        _tokens(units.get("input_tokens"), "in", units.get("cache_read_tokens"), "cached"),
        _tokens(units.get("output_tokens"), "out", units.get("output_reasoning_tokens"), "reasoning"),
    ]
    shown = ", ".join(filter(None, counts))
    return [Block("usage", shown)] if shown else []


def _tokens(total: int | None, direction: str, part: int | None, kind: str) -> str:
    if total is None:
        return ""
    return f"{total} {direction} ({part} {kind})" if part else f"{total} {direction}"
