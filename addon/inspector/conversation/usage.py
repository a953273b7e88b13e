"""The tokens that an answer says it took, in the words of either API."""

from typing import NamedTuple

from addon.inspector.conversation.layout import Block
from addon.protocol.json_fields import Fields, fields, number


class Usage(NamedTuple):
    """Tokens; None is unknown. The cached ones are among the input, those for reasoning among the output."""

    input: int | None
    output: int | None
    cached: int | None
    reasoning: int | None


def usage_of(answer: Fields) -> Usage | None:
    """Return what an answer says, or None."""
    usage = fields(answer, "usage")
    read = Usage(
        number(usage, "prompt_tokens", "input_tokens"),
        number(usage, "completion_tokens", "output_tokens"),
        number(_details(usage, "prompt", "input"), "cached_tokens"),
        number(_details(usage, "completion", "output"), "reasoning_tokens"),
    )
    return None if read.input is read.output is None else read


def usage_block(answer: Fields) -> list[Block]:
    """Return a block that tells the usage of an answer, or none."""
    usage = usage_of(answer)
    if usage is None:
        return []
    told = [
        _told(usage.input, "in", usage.cached, "cached"),
        _told(usage.output, "out", usage.reasoning, "reasoning"),
    ]
    return [Block("usage", ", ".join(filter(None, told)))]


def _details(usage: Fields, *kinds: str) -> Fields:
    found = (fields(usage, f"{kind}_tokens_details") for kind in kinds)
    return next(filter(None, found), {})


def _told(tokens: int | None, direction: str, part: int | None, kind: str) -> str:
    if tokens is None:
        return ""
    return f"{tokens} {direction} ({part} {kind})" if part else f"{tokens} {direction}"
