"""Parses JSON that all readers read alike (RFC 8259): the strictest parser judges, and repeated names are a doubt."""

from collections.abc import Iterable

import jiter

from addon.reading.doubt import Doubt
from addon.reading.outline import Outline

WHOLE = 256 * 1024
"""Bytes of a body that is parsed as it is; of a larger one the outline is. The worst takes 40 ms."""

_REPEATED = "duplicate key"
_BOM = b"\xef\xbb\xbf"


def parsed(pieces: Iterable[bytes], *, counts: bool = False) -> object:
    """Return the value of a body in pieces of any size; long strings in a large one are `outline.CUT`.

    With `counts` they are `Cut`, which tells the tokens that they may have. Raises Doubt for what some reader may
    reject or read differently.
    """
    start = bytearray()
    rest = iter(pieces)
    for piece in rest:
        start += piece
        if len(start) > WHOLE:
            return _outlined(Outline(counts=counts), bytes(start), rest)
    return _value(bytes(start))


def _outlined(outline: Outline, start: bytes, rest: Iterable[bytes]) -> object:
    outline.feed(start)
    for piece in rest:
        outline.feed(piece)
    return outline.restored(_value(outline.finish()))


def _value(data: bytes) -> object:
    try:
        return jiter.from_json(data, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)
    except ValueError as error:
        raise Doubt(_why(data, str(error))) from None


def _why(data: bytes, error: str) -> str:
    if _REPEATED in error:
        return "The body names a field twice in one object, and readers differ on which counts. Send it once."
    if data.startswith(_BOM):
        return "The body begins with a byte order mark. Send the JSON without it."
    if not data.strip():
        return "The body is empty. Send a JSON object."
    return "The body is no strict JSON. Send one JSON object in UTF-8, as a JSON library writes it."
